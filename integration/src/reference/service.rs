//! A Service port in one family, in the words of kube-proxy's proxiers.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lb_controller::{
    desired::DesiredService,
    model::{Protocol, TrafficPolicy},
};
use lb_ebpf::abi::{BackendFlags, FrontendKind};

/// See the module's documentation.
pub(super) struct ServiceView<'a> {
    pub(super) desired: &'a DesiredService,
    /// `clusterEP` (rule C4).
    pub(super) cluster: Vec<SocketAddr>,
    /// `localEP` (rule C5).
    pub(super) local: Vec<SocketAddr>,
    /// Rule C9.
    pub(super) has_any: bool,
}

impl<'a> ServiceView<'a> {
    pub(super) fn of(desired: &'a DesiredService) -> Self {
        Self {
            desired,
            cluster: members(desired, BackendFlags::IN_CLUSTER_SET),
            local: members(desired, BackendFlags::IN_LOCAL_SET),
            has_any: desired.frontends.iter().any(|f| f.drop_when_empty),
        }
    }

    /// namespace/name:port, as kube-proxy writes it.
    pub(super) fn id(&self) -> String {
        let key = &self.desired.key;
        let colon = if key.port_name.is_empty() { "" } else { ":" };
        format!("{}{colon}{}", key.service, key.port_name)
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.desired.key.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Addresses of this kind, each once.
    pub(super) fn addresses(&self, kind: FrontendKind) -> Vec<IpAddr> {
        let frontends = self.desired.frontends.iter();
        let mut found: Vec<IpAddr> = frontends
            .filter(|frontend| frontend.kind == kind)
            .map(|frontend| frontend.addr)
            .collect();
        found.dedup();
        found
    }

    pub(super) fn node_port(&self) -> Option<u16> {
        let mut frontends = self.desired.frontends.iter();
        frontends
            .find(|frontend| frontend.kind == FrontendKind::NodePort)
            .map(|frontend| frontend.port)
    }

    /// Whether clients outside can reach it (rule C1).
    pub(super) fn is_exposed(&self) -> bool {
        let mut frontends = self.desired.frontends.iter();
        frontends.any(|frontend| frontend.kind != FrontendKind::ClusterIp)
    }

    pub(super) fn external_local(&self) -> bool {
        self.desired.external_policy == TrafficPolicy::Local
    }

    pub(super) fn internal_local(&self) -> bool {
        self.desired.internal_policy == TrafficPolicy::Local
    }

    /// What the ClusterIP uses (rule C10).
    pub(super) fn internal(&self) -> &[SocketAddr] {
        if self.internal_local() {
            &self.local
        } else {
            &self.cluster
        }
    }

    /// What clients outside meet at the other frontends (rule C10).
    pub(super) fn external(&self) -> &[SocketAddr] {
        if self.external_local() {
            &self.local
        } else {
            &self.cluster
        }
    }

    /// Both sets together, sorted.
    pub(super) fn in_use(&self) -> Vec<SocketAddr> {
        let mut all = [&self.cluster[..], &self.local[..]].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn affinity(&self) -> Option<u32> {
        Some(self.desired.affinity_secs).filter(|&seconds| seconds != 0)
    }

    pub(super) fn source_ranges(&self) -> &[IpNet] {
        &self.desired.source_ranges
    }
}

fn members(desired: &DesiredService, flag: u32) -> Vec<SocketAddr> {
    let backends = desired.backends.iter();
    backends
        .filter(|backend| backend.flags & flag != 0)
        .map(|backend| SocketAddr::new(backend.addr, backend.port))
        .collect()
}
