//! Which addresses clients dial, and which set of backends stands behind each.
//!
//! Input: a Service port in one family. Output: its frontends, sorted, each address once.
//!
//! Every frontend has an entry of the internal scope. One of the external scope comes
//! beside it only where packets from outside meet other backends (rules C10, F1–F3):
//! elsewhere they use the internal one, which saves memory at thousands of Services.
#![forbid(unsafe_code)]

use std::{cmp::Reverse, net::IpAddr};

use lb_ebpf::abi::{FrontendFlags, FrontendKind, Scope};

use super::{BackendSet, DesiredFrontend, Forwarding};
use crate::model::{Family, Service, ServicePort, ServiceType, Settings, TrafficPolicy};

/// A Service port in one family, and how it can be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) family: Family,
    pub(super) settings: Settings,
}

/// Which of the two sets of backends some frontend needs (rule C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetsInUse {
    /// `usesCluster`.
    pub(super) cluster: bool,
    /// `usesLocal`.
    pub(super) local: bool,
}

impl Reach<'_> {
    /// Rule C3.
    pub(super) fn sets_in_use(&self) -> SetsInUse {
        let external = self.is_exposed();
        let internal_local = self.service.internal_policy == TrafficPolicy::Local;
        let external_local = self.external_policy() == TrafficPolicy::Local;
        SetsInUse {
            cluster: !internal_local || external,
            local: internal_local || (external_local && external),
        }
    }

    /// `externalTrafficPolicy` where the type of the Service gives it a meaning (rule C2).
    pub(super) fn external_policy(&self) -> TrafficPolicy {
        let meaningful = match self.service.service_type {
            ServiceType::NodePort | ServiceType::LoadBalancer => true,
            ServiceType::ClusterIp => !self.all_external_ips().is_empty(),
        };
        if meaningful {
            self.service.external_policy
        } else {
            TrafficPolicy::Cluster
        }
    }

    /// Whether clients outside can reach the port (rule C1); the type of the Service does
    /// not matter.
    pub(super) fn is_exposed(&self) -> bool {
        let mut addresses = self.external_ips().chain(self.load_balancer_ips());
        self.port.node_port != 0 || addresses.next().is_some()
    }

    /// VIPs of the family (rule E19).
    pub(super) fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.of_family(&self.service.load_balancer_ips)
    }

    fn external_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.of_family(self.all_external_ips())
    }

    /// Rule A13.
    fn all_external_ips(&self) -> &[IpAddr] {
        if self.settings.external_ips {
            &self.service.external_ips
        } else {
            &[]
        }
    }

    fn of_family(&self, addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
        let family = self.family;
        let addresses = addresses.iter().copied();
        addresses.filter(move |addr| Family::of(*addr) == family)
    }

    /// Every frontend of the port. `has_any` is as in rule C9; `restricted` says whether
    /// there are source ranges.
    pub(super) fn frontends(
        &self,
        has_any: bool,
        forwarding: Forwarding,
        restricted: bool,
    ) -> Vec<DesiredFrontend> {
        let mut frontends = Vec::with_capacity(1);
        for (kind, addr, port) in self.addresses() {
            let entry = |scope, policy, flags| DesiredFrontend {
                addr,
                port,
                scope,
                kind,
                set: set_of(policy),
                drop_when_empty: has_any,
                flags,
            };
            if kind == FrontendKind::ClusterIp {
                let flags = if self.settings.masquerade_all {
                    FrontendFlags::MASQUERADE
                } else {
                    0
                };
                // The internal policy counts for every client (rules C10, F6, F7).
                frontends.push(entry(Scope::Internal, self.service.internal_policy, flags));
                continue;
            }
            let mut flags = 0;
            if forwarding == Forwarding::Dsr {
                flags |= FrontendFlags::DSR;
            }
            // Only load-balancer VIPs are restricted (rules E12, E23, E26), whoever dials
            // them (rule E27).
            if restricted && kind == FrontendKind::LoadBalancer {
                flags |= FrontendFlags::SOURCE_RANGES;
            }
            // Clients of this node meet the cluster set, whatever the policy (rules F1,
            // F2, C14); all others obey it (rule F3).
            let policy = self.external_policy();
            if policy == TrafficPolicy::Local {
                frontends.push(entry(Scope::External, policy, flags));
                flags |= FrontendFlags::EXTERNAL_DIFFERS;
            }
            frontends.push(entry(Scope::Internal, TrafficPolicy::Cluster, flags));
        }
        // The external entry first: it must be there when the internal one refers to it.
        frontends.sort_unstable_by_key(|f| (f.addr, f.port, Reverse(f.scope)));
        frontends
    }

    /// What clients dial. An address that is of several kinds counts as the first of them,
    /// in the order in which kube-proxy matches.
    fn addresses(&self) -> Vec<(FrontendKind, IpAddr, u16)> {
        let port = self.port.port;
        let cluster_ip = self.service.cluster_ip(self.family);
        let vips = (cluster_ip
            .into_iter()
            .map(|ip| (FrontendKind::ClusterIp, ip)))
        .chain(self.external_ips().map(|ip| (FrontendKind::ExternalIp, ip)))
        .chain((self.load_balancer_ips()).map(|ip| (FrontendKind::LoadBalancer, ip)));
        let mut addresses: Vec<(FrontendKind, IpAddr, u16)> = Vec::with_capacity(1);
        for (kind, ip) in vips {
            if !addresses.iter().any(|(_, known, _)| *known == ip) {
                addresses.push((kind, ip, port));
            }
        }
        // Rule A10.
        if self.port.node_port != 0 {
            let every_node_address = self.family.unspecified();
            addresses.push((
                FrontendKind::NodePort,
                every_node_address,
                self.port.node_port,
            ));
        }
        addresses
    }
}

/// Rule C10.
const fn set_of(policy: TrafficPolicy) -> BackendSet {
    match policy {
        TrafficPolicy::Cluster => BackendSet::Cluster,
        TrafficPolicy::Local => BackendSet::Local,
    }
}
