//! Which addresses clients dial, and which set of backends stands behind each.
//!
//! Input: a Service port in one family. Output: its frontends, sorted. Emitted so far:
//! ClusterIP. Other kinds add a function beside [`cluster_ip`] and a line in
//! [`frontends`]; the sets they need are already computed (rule C3).
#![forbid(unsafe_code)]

use lb_ebpf::abi::{FrontendKind, Scope};

use super::{BackendSet, DesiredFrontend};
use crate::model::{Family, Service, ServicePort, ServiceType, TrafficPolicy};

/// Which of the two sets of backends some frontend needs (rule C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetsInUse {
    /// `usesCluster`.
    pub(super) cluster: bool,
    /// `usesLocal`.
    pub(super) local: bool,
}

/// Rule C3.
pub(super) fn sets_in_use(service: &Service, port: &ServicePort, family: Family) -> SetsInUse {
    let external = externally_accessible(service, port, family);
    let internal_local = service.internal_policy == TrafficPolicy::Local;
    let external_local = honoured_external_policy(service) == TrafficPolicy::Local;
    SetsInUse {
        cluster: !internal_local || external,
        local: internal_local || (external_local && external),
    }
}

/// `externalTrafficPolicy` where the type of the Service gives it a meaning (rule C2).
pub(super) fn honoured_external_policy(service: &Service) -> TrafficPolicy {
    let meaningful = match service.service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIp => !service.external_ips.is_empty(),
    };
    if meaningful {
        service.external_policy
    } else {
        TrafficPolicy::Cluster
    }
}

/// Every frontend of the port; `has_any` as in rule C9.
pub(super) fn frontends(
    service: &Service,
    port: &ServicePort,
    family: Family,
    has_any: bool,
) -> Vec<DesiredFrontend> {
    let mut frontends: Vec<_> = cluster_ip(service, port, family, has_any)
        .into_iter()
        .collect();
    frontends.sort_unstable();
    frontends
}

/// The ClusterIP obeys the internal policy for every client (rules C10, F6, F7).
fn cluster_ip(
    service: &Service,
    port: &ServicePort,
    family: Family,
    has_any: bool,
) -> Option<DesiredFrontend> {
    Some(DesiredFrontend {
        addr: service.cluster_ip(family)?,
        port: port.port,
        scope: Scope::Internal,
        kind: FrontendKind::ClusterIp,
        set: set_of(service.internal_policy),
        drop_when_empty: has_any,
    })
}

/// Rule C10.
const fn set_of(policy: TrafficPolicy) -> BackendSet {
    match policy {
        TrafficPolicy::Cluster => BackendSet::Cluster,
        TrafficPolicy::Local => BackendSet::Local,
    }
}

/// Rule C1; the type of the Service does not matter.
fn externally_accessible(service: &Service, port: &ServicePort, family: Family) -> bool {
    let addresses = service
        .load_balancer_ips
        .iter()
        .chain(&service.external_ips);
    port.node_port != 0 || addresses.copied().any(|ip| Family::of(ip) == family)
}
