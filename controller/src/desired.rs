//! Desired state: what should be programmed for one Service on this node.
//!
//! Pure and deterministic: the same Service, EndpointSlices and node give the same
//! result, in the same order, on every node and in every run. It does no IO and knows
//! no map.
#![forbid(unsafe_code)]

mod endpoints;
mod frontends;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use lb_ebpf::abi::{FrontendKind, Scope};

use crate::model::{
    EndpointSlice, Family, NodeInfo, ObjectName, Protocol, Service, ServicePort, ServiceType,
    TrafficPolicy,
};

/// Identity of a service port in one family (rule A6): the unit of balancing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortKey {
    /// namespace/name of the Service.
    pub service: ObjectName,
    /// `spec.ports[].name`.
    pub port_name: Arc<str>,
    /// `spec.ports[].protocol`.
    pub protocol: Protocol,
    /// Address family.
    pub family: Family,
}

/// One service port in one family, as it should be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// What it is.
    pub key: ServicePortKey,
    /// `spec.ports[].port`.
    pub port: u16,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`, if honoured (rule C2).
    pub external_policy: TrafficPolicy,
    /// Session-affinity timeout in seconds; 0 without affinity.
    pub affinity_secs: u32,
    /// Maglev table length that an annotation asks for.
    pub pinned_len: Option<u32>,
    /// Addresses that clients dial, sorted.
    pub frontends: Vec<DesiredFrontend>,
    /// Every endpoint of the port, also those in no set, sorted by address and port
    /// (rule B13), without duplicates (rule B11).
    pub backends: Vec<DesiredBackend>,
}

/// An address that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredFrontend {
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// Which traffic it is for.
    pub scope: Scope,
    /// Why it exists.
    pub kind: FrontendKind,
    /// Which of the service's two sets of backends it uses.
    pub set: BackendSet,
    /// If that set is empty: drop silently (rule C12) instead of refusing (rule C11).
    pub drop_when_empty: bool,
}

/// The two sets of backends that a service has (semantics C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendSet {
    /// `clusterEP` (rule C4).
    Cluster,
    /// `localEP` (rule C5).
    Local,
}

/// An endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// `BackendFlags`: conditions, locality, membership in the sets; always with `USED`.
    pub flags: u32,
    /// Zone of the endpoint.
    pub zone: Option<Arc<str>>,
}

/// What to program for `service` on this node: one record per port and family with a
/// ClusterIP (rules A6, A7), in the order of `service.ports`, IPv4 first.
///
/// `slices` are all EndpointSlices of the Service, in any order and of any family.
pub fn desired(
    name: &ObjectName,
    service: &Service,
    slices: &[&EndpointSlice],
    node: &NodeInfo,
) -> Vec<DesiredService> {
    service
        .ports
        .iter()
        .flat_map(|port| Family::ALL.map(|family| (port, family)))
        .filter(|(_, family)| service.cluster_ip(*family).is_some())
        .map(|(port, family)| desired_port(name, service, port, family, slices, node))
        .collect()
}

fn desired_port(
    name: &ObjectName,
    service: &Service,
    port: &ServicePort,
    family: Family,
    slices: &[&EndpointSlice],
    node: &NodeInfo,
) -> DesiredService {
    let uses = frontends::sets_in_use(service, port, family);
    let selection = endpoints::select(slices, port, family, uses, node.zone.as_deref());
    DesiredService {
        key: ServicePortKey {
            service: name.clone(),
            port_name: port.name.clone(),
            protocol: port.protocol,
            family,
        },
        port: port.port,
        service_type: service.service_type,
        internal_policy: service.internal_policy,
        external_policy: frontends::honoured_external_policy(service),
        affinity_secs: service.affinity_secs.unwrap_or(0),
        pinned_len: service.pinned_len,
        frontends: frontends::frontends(service, port, family, selection.has_any),
        backends: selection.backends,
    }
}
