//! Services.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

use super::{Interner, address, annotations, has_label, ports, source_ranges::source_ranges};
use crate::model::{Family, ObjectName, Service, ServicePort, ServiceType, TrafficPolicy};

/// Hands a Service to another proxy (rule A1).
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds` (rule H1).
const DEFAULT_AFFINITY_SECS: u32 = 10_800;
/// Its maximum (rule H1).
const MAX_AFFINITY_SECS: u32 = 86_400;

/// `None` if the Service is not for this proxy: another proxy's (rule A1), headless or
/// without any ClusterIP (rules A3, A7), or an ExternalName (rule A5).
pub(super) fn convert(
    object: &ObjectName,
    service: &v1::Service,
    interner: &mut Interner,
) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    if has_label(&service.metadata, PROXY_NAME_LABEL) {
        return None;
    }
    let service_type = match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => return None,
        other => {
            tracing::warn!(%object, "skipping a Service of unknown type {other:?}");
            return None;
        }
    };
    let cluster_ips = cluster_ips(object, spec);
    if cluster_ips.is_empty() {
        return None;
    }
    let external_ips = spec.external_ips.iter().flatten().map(String::as_str);
    Some(Service {
        service_type,
        cluster_ips,
        external_ips: address::parse_vips(external_ips, "spec.externalIPs", object),
        load_balancer_ips: load_balancer_ips(object, service),
        source_ranges: source_ranges(object, spec),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_policy: policy(spec.external_traffic_policy.as_deref()),
        affinity_secs: affinity_secs(object, spec),
        pinned_len: annotations::table_length(&service.metadata, object),
        forwarding: annotations::forwarding_mode(&service.metadata, object),
        health_check_node_port: health_check_node_port(object, spec),
        ports: service_ports(object, spec, interner),
    })
}

/// Rules A3 and A7. A manifest may name `clusterIP` or `clusterIPs` alone: like the API
/// server, take the one for the other.
fn cluster_ips(object: &ObjectName, spec: &v1::ServiceSpec) -> Vec<IpAddr> {
    let plural = spec.cluster_ips.as_deref().unwrap_or(&[]);
    let first = spec
        .cluster_ip
        .as_deref()
        .or(plural.first().map(String::as_str))
        .unwrap_or("");
    if first.is_empty() || first == "None" {
        return Vec::new();
    }
    let families = spec.ip_families.as_deref().unwrap_or(&[]);
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |text: &str, family: Option<&str>| {
        let addr = address::parse(text);
        let Some(addr) = addr.filter(|addr| family.is_none_or(|name| name == family_name(*addr)))
        else {
            tracing::warn!(%object, text, ?family, "skipping an invalid ClusterIP");
            return;
        };
        if !found
            .iter()
            .any(|known| Family::of(*known) == Family::of(addr))
        {
            found.push(addr);
        }
    };
    match (families, plural) {
        ([], _) => add(first, None),
        ([family, ..], []) => add(first, Some(family)),
        (families, plural) => {
            for (family, text) in families.iter().zip(plural) {
                add(text, Some(family));
            }
        }
    }
    found.shrink_to_fit();
    found
}

const fn family_name(addr: IpAddr) -> &'static str {
    match addr {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Rule E18: addresses that the load balancer leaves to the nodes.
fn load_balancer_ips(object: &ObjectName, service: &v1::Service) -> Vec<IpAddr> {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or(&[]);
    let vips = ingress
        .iter()
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.ip.as_deref());
    address::parse_vips(vips, "status.loadBalancer.ingress", object)
}

/// Anything but `Local` is the default.
fn policy(text: Option<&str>) -> TrafficPolicy {
    match text {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

/// Rule H1; a time-out that the API server would refuse is brought into its range.
fn affinity_secs(object: &ObjectName, spec: &v1::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds);
    let Some(seconds) = seconds else {
        return Some(DEFAULT_AFFINITY_SECS);
    };
    let usable = u32::try_from(seconds)
        .unwrap_or(0)
        .clamp(1, MAX_AFFINITY_SECS);
    if i64::from(usable) != i64::from(seconds) {
        tracing::warn!(%object, seconds, usable, "session-affinity time-out out of range");
    }
    Some(usable)
}

/// A load balancer that must find the endpoints' nodes cannot without it (rule J9).
fn health_check_node_port(object: &ObjectName, spec: &v1::ServiceSpec) -> u16 {
    let value = spec.health_check_node_port.unwrap_or(0);
    let number = ports::number(value);
    let needed = spec.type_.as_deref() == Some("LoadBalancer")
        && policy(spec.external_traffic_policy.as_deref()) == TrafficPolicy::Local;
    if number.is_none() && (needed || value != 0) {
        tracing::warn!(%object, value, "the Service has no usable healthCheckNodePort");
    }
    number.unwrap_or(0)
}

/// The ports that can be used. Of two with one number and protocol, or with one name
/// and protocol (rule A6), the first counts; it also keeps a nodePort that they share.
fn service_ports(
    object: &ObjectName,
    spec: &v1::ServiceSpec,
    interner: &mut Interner,
) -> Vec<ServicePort> {
    let mut accepted: Vec<ServicePort> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(mut port) = service_port(object, port, interner) else {
            continue;
        };
        let holds_node_port = |known: &ServicePort| {
            known.protocol == port.protocol && known.node_port == port.node_port
        };
        if port.node_port != 0 && accepted.iter().any(holds_node_port) {
            tracing::warn!(%object, name = &*port.name, port.node_port, "ignoring a repeated nodePort");
            port.node_port = 0;
        }
        let clashes = |known: &ServicePort| {
            known.protocol == port.protocol && (known.port == port.port || known.name == port.name)
        };
        if accepted.iter().any(clashes) {
            tracing::warn!(%object, name = &*port.name, port = port.port, "skipping a repeated port");
        } else {
            accepted.push(port);
        }
    }
    accepted.shrink_to_fit();
    accepted
}

fn service_port(
    object: &ObjectName,
    port: &v1::ServicePort,
    interner: &mut Interner,
) -> Option<ServicePort> {
    let (name, protocol) =
        ports::name_and_protocol(port.name.as_deref(), port.protocol.as_deref(), object)?;
    let Some(number) = ports::number(port.port) else {
        tracing::warn!(%object, name, port = port.port, "skipping a port out of range");
        return None;
    };
    let node_port = port.node_port.unwrap_or(0);
    let usable = ports::number(node_port);
    if usable.is_none() && node_port != 0 {
        tracing::warn!(%object, name, node_port, "ignoring a nodePort out of range");
    }
    Some(ServicePort {
        name: interner.intern(name),
        protocol,
        port: number,
        node_port: usable.unwrap_or(0),
    })
}
