//! Services as tools show them: what `-o json` prints, and what tables are made of.
//!
//! Field names are stable. Counters count since the service or backend was programmed.

mod build;

use std::net::IpAddr;

use lb_ebpf::abi::{BackendEntry, BackendFlags};
use serde::Serialize;

pub(super) use build::Index;
pub use build::services;

use super::filter::Filter;

/// The answer of `list --by-service`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Services {
    /// Sorted by namespace and name.
    pub services: Vec<Service>,
    /// What belongs to no service; only counted without a filter.
    #[serde(skip)]
    pub orphans: Orphans,
}

/// Elements that belong to no service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orphans {
    /// Frontends.
    pub frontends: usize,
    /// Used backend slots.
    pub backends: usize,
}

/// A Kubernetes Service.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `ClusterIP`, `NodePort` or `LoadBalancer`.
    pub r#type: &'static str,
    /// Addresses of its ClusterIP frontends, IPv4 first.
    pub cluster_ips: Vec<IpAddr>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: &'static str,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: &'static str,
    /// Session-affinity timeout; null without affinity.
    pub affinity_seconds: Option<u32>,
    /// Its ports, each family by itself, sorted by port, protocol and family.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service in one family: the unit of balancing.
#[derive(Clone, Debug, Serialize)]
pub struct ServicePort {
    /// `spec.ports[].name`, perhaps empty.
    pub name: String,
    /// `spec.ports[].port`.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Its index in the maps; only meaningful on this node.
    pub service_id: u32,
    /// Entries of the Maglev table over the cluster set; 0 if there is none.
    pub cluster_table_length: u32,
    /// Entries of the Maglev table over the local set; 0 if there is none.
    pub local_table_length: u32,
    /// Table length that an annotation asks for; null is adaptive.
    pub pinned_table_length: Option<u32>,
    /// Of packets from outside to backends on other nodes: `snat` or `dsr`.
    pub forwarding: &'static str,
    /// Sources that restricted frontends admit.
    pub source_ranges: Vec<String>,
    /// Backends with condition `ready`.
    pub ready_backends: usize,
    /// All backends.
    pub total_backends: usize,
    /// What clients dial.
    pub frontends: Vec<Frontend>,
    /// Where connections go, sorted by address and port.
    pub backends: Vec<Backend>,
    /// Connections.
    pub counters: Counters,
}

/// An address that clients dial.
#[derive(Clone, Debug, Serialize)]
pub struct Frontend {
    /// The VIP; the unspecified address for a NodePort.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    pub kind: &'static str,
    /// `internal` (clients on this node, and others too unless there is an external entry)
    /// or `external`.
    pub scope: &'static str,
    /// Of an internal entry: packets from outside have an external one.
    pub external_differs: bool,
    /// Only the service port's source ranges are admitted.
    pub restricted: bool,
    /// Backends see an address of this node, whoever the client is (rule G4).
    pub masquerade: bool,
    /// Of packets from outside to backends on other nodes: `snat` or `dsr`; null for a
    /// ClusterIP.
    pub forwarding: Option<&'static str>,
    /// The policy that it obeys: `Cluster` or `Local`.
    pub policy: &'static str,
    /// Session-affinity timeout; null without affinity.
    pub affinity_seconds: Option<u32>,
    /// Entries of its Maglev table; 0 if it has no backend to choose.
    pub table_length: u32,
    /// What new connections meet.
    pub new_connections: NewConnections,
}

/// What new connections to a frontend meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NewConnections {
    /// A backend.
    Balanced,
    /// A refusal: no endpoint anywhere.
    Refused,
    /// Silence: no endpoint that the policy allows.
    Dropped,
}

/// State of a backend, by its endpoint conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// `ready`, not terminating.
    Ready,
    /// `ready` and `terminating` (publishNotReadyAddresses).
    ReadyTerminating,
    /// `serving` and `terminating`: finishes, and takes new connections if no backend is
    /// ready.
    ServingTerminating,
    /// `terminating` only.
    Terminating,
    /// `serving`, but neither ready nor terminating.
    ServingNotReady,
    /// None of them.
    NotReady,
}

impl State {
    fn of(backend: &BackendEntry) -> Self {
        let terminating = backend.has(BackendFlags::TERMINATING);
        let serving = backend.has(BackendFlags::SERVING);
        match (backend.has(BackendFlags::READY), serving, terminating) {
            (true, _, false) => Self::Ready,
            (true, _, true) => Self::ReadyTerminating,
            (false, true, true) => Self::ServingTerminating,
            (false, false, true) => Self::Terminating,
            (false, true, false) => Self::ServingNotReady,
            (false, false, false) => Self::NotReady,
        }
    }

    /// The word for it, the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::ReadyTerminating => "ready-terminating",
            Self::ServingTerminating => "serving-terminating",
            Self::Terminating => "terminating",
            Self::ServingNotReady => "serving-not-ready",
            Self::NotReady => "not-ready",
        }
    }
}

/// Where connections go.
#[derive(Clone, Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the conditions are independent of each other"
)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its state.
    pub state: State,
    /// Condition `ready`.
    pub ready: bool,
    /// Condition `serving`.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
    /// Whether it is on this node.
    pub node_local: bool,
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// Entries of the cluster table that lead to it.
    pub cluster_table_entries: u32,
    /// Entries of the local table that lead to it.
    pub local_table_entries: u32,
    /// Connections opened.
    pub opened: u64,
    /// Of these, closed since.
    pub closed: u64,
    /// `opened − closed`.
    pub active: u64,
    /// Its index in the maps; only meaningful on this node.
    pub slot: u32,
    /// How many backends the slot has held.
    pub generation: u32,
}

/// Connections of a service port.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counters {
    /// A backend was chosen.
    pub opened: u64,
    /// Of these, still open.
    pub active: u64,
    /// Of the opened ones, chosen by session affinity.
    pub affinity_hits: u64,
    /// Refused: no endpoint anywhere.
    pub refused: u64,
    /// Dropped: no endpoint that the policy allows.
    pub dropped: u64,
    /// UDP flows that share a backend with another VIP of the same socket.
    pub shared_backends: u64,
    /// Connections whose application sees the backend's address, not the VIP.
    pub untracked: u64,
}

/// A row of `list`.
#[derive(Clone, Debug, Serialize)]
pub struct FrontendRow<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `spec.ports[].name`, perhaps empty.
    pub port_name: &'a str,
    /// The frontend.
    #[serde(flatten)]
    pub frontend: &'a Frontend,
    /// Sources that it admits, if it is restricted.
    pub source_ranges: &'a [String],
    /// Backends with condition `ready`.
    pub ready_backends: usize,
    /// All backends.
    pub total_backends: usize,
    /// Index of the service port in the maps.
    pub service_id: u32,
    /// Connections of the service port, over all its frontends.
    pub counters: Counters,
}

/// A row of `backends`.
#[derive(Clone, Debug, Serialize)]
pub struct BackendRow<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `spec.ports[].name`, perhaps empty.
    pub port_name: &'a str,
    /// `spec.ports[].port`.
    pub service_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// Index of the service port in the maps.
    pub service_id: u32,
    /// Entries of the Maglev table over the cluster set; 0 if there is none.
    pub cluster_table_length: u32,
    /// Entries of the Maglev table over the local set; 0 if there is none.
    pub local_table_length: u32,
    /// The backend.
    #[serde(flatten)]
    pub backend: &'a Backend,
}

impl Services {
    /// The rows of `list`.
    pub fn frontend_rows<'a>(&'a self, filter: &Filter) -> Vec<FrontendRow<'a>> {
        let mut rows = Vec::new();
        for (service, port) in self.ports() {
            let by_backend = filter.admits_any(port.backends.iter().map(|b| b.address));
            for frontend in &port.frontends {
                if by_backend || filter.admits_any([frontend.address]) {
                    rows.push(FrontendRow {
                        namespace: &service.namespace,
                        name: &service.name,
                        port_name: &port.name,
                        frontend,
                        source_ranges: if frontend.restricted {
                            &port.source_ranges
                        } else {
                            &[]
                        },
                        ready_backends: port.ready_backends,
                        total_backends: port.total_backends,
                        service_id: port.service_id,
                        counters: port.counters,
                    });
                }
            }
        }
        rows
    }

    /// The rows of `backends`.
    pub fn backend_rows<'a>(&'a self, filter: &Filter) -> Vec<BackendRow<'a>> {
        let mut rows = Vec::new();
        for (service, port) in self.ports() {
            let by_frontend = filter.admits_any(port.frontends.iter().map(|f| f.address));
            for backend in &port.backends {
                if by_frontend || filter.admits_any([backend.address]) {
                    rows.push(BackendRow {
                        namespace: &service.namespace,
                        name: &service.name,
                        port_name: &port.name,
                        service_port: port.port,
                        protocol: port.protocol,
                        service_id: port.service_id,
                        cluster_table_length: port.cluster_table_length,
                        local_table_length: port.local_table_length,
                        backend,
                    });
                }
            }
        }
        rows
    }

    fn ports(&self) -> impl Iterator<Item = (&Service, &ServicePort)> {
        self.services
            .iter()
            .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
    }
}
