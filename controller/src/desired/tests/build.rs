//! Short names for the records that the tests are made of.

use std::{net::IpAddr, sync::Arc};

pub(super) use lb_ebpf::abi::BackendFlags;

use super::super::DesiredService;
pub(super) use crate::model::{
    Endpoint, EndpointSlice, Family, NodeHint, NodeInfo, ObjectName, Protocol, Service,
    ServicePort, ServiceType, Settings, SlicePort, TrafficPolicy,
};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn name() -> ObjectName {
    ObjectName {
        namespace: "default".into(),
        name: "web".into(),
    }
}

pub(super) fn node(zone: Option<&str>) -> NodeInfo {
    NodeInfo {
        zone: zone.map(Into::into),
        ..NodeInfo::default()
    }
}

pub(super) fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: 0,
    }
}

pub(super) fn slice_port(name: &str, protocol: Protocol, port: u16) -> SlicePort {
    SlicePort {
        name: name.into(),
        protocol,
        port,
    }
}

/// A ClusterIP Service with one port, http 80.
pub(super) fn service() -> Service {
    Service {
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: Box::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        pinned_len: None,
        forwarding: None,
        health_check_node_port: 0,
        ports: vec![port("http", Protocol::Tcp, 80)],
    }
}

/// `service` as a NodePort Service with an external policy.
pub(super) fn external(mut service: Service, policy: TrafficPolicy) -> Service {
    service.service_type = ServiceType::NodePort;
    service.external_policy = policy;
    service.ports[0].node_port = 30080;
    service
}

/// An IPv4 slice for port http.
pub(super) fn slice(endpoints: &[Endpoint]) -> EndpointSlice {
    EndpointSlice {
        service: name(),
        family: Family::V4,
        ports: vec![slice_port("http", Protocol::Tcp, 8080)],
        endpoints: endpoints.to_vec(),
    }
}

/// 10.1.0.`host`, ready, on another node.
pub(super) fn ready(host: u8) -> Endpoint {
    Endpoint {
        addr: IpAddr::from([10, 1, 0, host]),
        ready: true,
        serving: true,
        terminating: false,
        local: false,
        node_hint: NodeHint::None,
        zone: None,
        zone_hints: Box::default(),
    }
}

/// Terminating, still serving.
pub(super) fn draining(host: u8) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..ready(host)
    }
}

/// Neither ready nor serving.
pub(super) fn dead(host: u8) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..ready(host)
    }
}

impl Endpoint {
    pub(super) fn here(self) -> Self {
        Self {
            local: true,
            ..self
        }
    }

    pub(super) fn node(self, node_hint: NodeHint) -> Self {
        Self { node_hint, ..self }
    }

    pub(super) fn zones(self, zones: &[&str]) -> Self {
        let zone_hints = zones.iter().map(|zone| Arc::from(*zone)).collect();
        Self { zone_hints, ..self }
    }
}

/// Last octets of the backends that have `flag`.
pub(super) fn members(service: &DesiredService, flag: u32) -> Vec<u8> {
    let chosen = service.backends.iter().filter(|b| b.flags & flag != 0);
    chosen
        .map(|backend| match backend.addr {
            IpAddr::V4(addr) => addr.octets()[3],
            IpAddr::V6(addr) => addr.octets()[15],
        })
        .collect()
}
