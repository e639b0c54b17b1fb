//! Desired state: what should be programmed for one Service on this node.
//!
//! Pure and deterministic: the same Service, EndpointSlices and node give the same
//! result, in the same order, on every node and in every run. It does no IO and knows
//! no map.
#![forbid(unsafe_code)]

mod endpoints;
mod forwarding;
mod frontends;
mod health_check;
mod no_local;
mod source_ranges;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

pub use forwarding::{DSR_TABLE_LEN, Forwarding};
use frontends::Reach;
pub use health_check::{HealthCheck, health_check};
use lb_ebpf::abi::{FrontendKind, Scope};
pub use no_local::{NoLocal, NoLocalTotal};

use crate::model::{
    EndpointSlice, Family, IpNet, NodeInfo, ObjectName, Protocol, Service, ServiceType, Settings,
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
    /// Maglev table length that an annotation asks for, or DSR needs.
    pub pinned_len: Option<u32>,
    /// How packets from outside reach backends on other nodes.
    pub forwarding: Forwarding,
    /// Sources that the load-balancer VIPs admit, sorted; empty if they admit all.
    pub source_ranges: Box<[IpNet]>,
    /// Addresses that clients dial, sorted; an external entry stands before the internal
    /// one of the same address.
    pub frontends: Vec<DesiredFrontend>,
    /// Every endpoint of the port, also those in no set, sorted by address and port
    /// (rule B13), without duplicates (rule B11).
    pub backends: Vec<DesiredBackend>,
}

/// An address that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredFrontend {
    /// Address; the unspecified one of the family for a NodePort.
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
    /// Those of `FrontendFlags` that do not depend on the set: `EXTERNAL_DIFFERS`,
    /// `SOURCE_RANGES`, `DSR`, `MASQUERADE`.
    pub flags: u32,
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
    settings: Settings,
) -> Vec<DesiredService> {
    service
        .ports
        .iter()
        .flat_map(|port| Family::ALL.map(|family| (port, family)))
        .filter(|(_, family)| service.cluster_ip(*family).is_some())
        .map(|(port, family)| {
            let reach = Reach {
                service,
                port,
                family,
                settings,
            };
            desired_port(name, reach, slices, node)
        })
        .collect()
}

fn desired_port(
    name: &ObjectName,
    reach: Reach<'_>,
    slices: &[&EndpointSlice],
    node: &NodeInfo,
) -> DesiredService {
    let Reach {
        service,
        port,
        family,
        ..
    } = reach;
    let zone = node.zone.as_deref();
    let selection = endpoints::select(slices, port, family, reach.sets_in_use(), zone);
    let forwarding = reach.forwarding();
    let source_ranges = reach.source_ranges(node);
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
        external_policy: reach.external_policy(),
        affinity_secs: service.affinity_secs.unwrap_or(0),
        pinned_len: service
            .pinned_len
            .or((forwarding == Forwarding::Dsr).then_some(DSR_TABLE_LEN)),
        forwarding,
        frontends: reach.frontends(selection.has_any, forwarding, !source_ranges.is_empty()),
        source_ranges,
        backends: selection.backends,
    }
}
