//! Services as tools show them: what `-o json` prints, and what tables are made of.
//!
//! Field names are stable. Counters count since the service or backend was programmed.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lb_ebpf::abi::{
    BackendEntry, BackendFlags, FrontendFlags, FrontendKey, ServiceEntry, ServiceInfo,
    ServiceStats, TableRef,
};
use serde::Serialize;

use super::{filter::Filter, snapshot::Snapshot, words};

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
    /// The VIP.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    pub kind: &'static str,
    /// `internal` (clients on this node) or `external`.
    pub scope: &'static str,
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

/// The services of `snapshot` that `filter` keeps.
pub fn services(snapshot: &Snapshot, filter: &Filter) -> Services {
    let index = Index::of(snapshot);
    let mut grouped: BTreeMap<(String, String), Service> = BTreeMap::new();
    for (id, info) in &snapshot.infos {
        if !filter.admits_service(info) || !filter.admits_any(index.addresses(*id)) {
            continue;
        }
        let service = grouped
            .entry((words::name(&info.namespace), words::name(&info.name)))
            .or_insert_with_key(|(namespace, name)| Service {
                namespace: namespace.clone(),
                name: name.clone(),
                r#type: words::service_type(info.service_type),
                cluster_ips: Vec::new(),
                internal_traffic_policy: words::policy(info.local_policies & 1 != 0),
                external_traffic_policy: words::policy(info.local_policies & 2 != 0),
                affinity_seconds: seconds(info.affinity_secs),
                ports: Vec::new(),
            });
        let port = service_port(snapshot, &index, *id, info);
        let vips = port.frontends.iter().filter(|f| f.kind == "ClusterIP");
        service.cluster_ips.extend(vips.map(|f| f.address));
        service.ports.push(port);
    }
    for service in grouped.values_mut() {
        service.cluster_ips.sort_unstable();
        service.cluster_ips.dedup();
        service.ports.sort_by(|a, b| {
            let order = |p: &ServicePort| (p.port, p.protocol, p.family, p.service_id);
            (order(a), &a.name).cmp(&(order(b), &b.name))
        });
    }
    let orphans = if filter.is_empty() {
        index.orphans(snapshot)
    } else {
        Orphans::default()
    };
    Services {
        services: grouped.into_values().collect(),
        orphans,
    }
}

/// Frontends and used backends by service id.
#[derive(Debug)]
pub(super) struct Index<'a> {
    frontends: HashMap<u32, Vec<&'a (FrontendKey, ServiceEntry)>>,
    /// In the order of slots.
    backends: HashMap<u32, Vec<(u32, &'a BackendEntry)>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut index = Self {
            frontends: HashMap::with_capacity(snapshot.infos.len()),
            backends: HashMap::with_capacity(snapshot.infos.len()),
        };
        for frontend in &snapshot.frontends {
            let id = frontend.1.service_id;
            index.frontends.entry(id).or_default().push(frontend);
        }
        for (slot, backend) in (0..).zip(&snapshot.backends) {
            if backend.flags != 0 {
                let of_service = index.backends.entry(backend.service_id).or_default();
                of_service.push((slot, backend));
            }
        }
        index
    }

    pub(super) fn frontends(&self, id: u32) -> &[&'a (FrontendKey, ServiceEntry)] {
        self.frontends.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn backends(&self, id: u32) -> &[(u32, &'a BackendEntry)] {
        self.backends.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Addresses of the frontends and backends of a service.
    pub(super) fn addresses(&self, id: u32) -> impl Iterator<Item = IpAddr> {
        let frontends = self.frontends(id).iter().map(|(key, _)| key.addr.to_ip());
        frontends.chain(self.backends(id).iter().map(|(_, b)| b.addr.to_ip()))
    }

    fn orphans(&self, snapshot: &Snapshot) -> Orphans {
        let described = |id: &u32| {
            snapshot
                .infos
                .binary_search_by_key(id, |(id, _)| *id)
                .is_ok()
        };
        let stray = self.frontends.iter().filter(|(id, _)| !described(id));
        let frontends = stray.map(|(_, list)| list.len()).sum();
        let stray = self.backends.iter().filter(|(id, _)| !described(id));
        let backends = stray.map(|(_, list)| list.len()).sum();
        Orphans {
            frontends,
            backends,
        }
    }
}

fn service_port(
    snapshot: &Snapshot,
    index: &Index<'_>,
    id: u32,
    info: &ServiceInfo,
) -> ServicePort {
    let slots = index.backends(id);
    let cluster = shares(snapshot, info.cluster_table, slots);
    let local = shares(snapshot, info.local_table, slots);
    let shares = cluster.into_iter().zip(local);
    let mut backends: Vec<_> = slots
        .iter()
        .zip(shares)
        .map(|((slot, entry), shares)| backend(snapshot, *slot, entry, shares))
        .collect();
    backends.sort_by_key(|b| (b.address, b.port, b.slot));
    let stats = snapshot.service_stats.get(id as usize).copied();
    let active = backends
        .iter()
        .fold(0, |sum: u64, b| sum.saturating_add(b.active));
    let frontends = index.frontends(id).iter();
    ServicePort {
        name: words::name(&info.port_name),
        port: info.port.get(),
        protocol: words::protocol(info.protocol),
        family: words::family(info.family),
        service_id: id,
        cluster_table_length: info.cluster_table.len(),
        local_table_length: info.local_table.len(),
        pinned_table_length: seconds(info.pinned_len),
        ready_backends: backends.iter().filter(|b| b.ready).count(),
        total_backends: backends.len(),
        frontends: frontends.map(|(key, entry)| frontend(key, entry)).collect(),
        backends,
        counters: counters(&stats.unwrap_or_default(), active),
    }
}

fn counters(stats: &ServiceStats, active: u64) -> Counters {
    Counters {
        opened: stats.opened,
        active,
        affinity_hits: stats.affinity_hits,
        refused: stats.refused,
        dropped: stats.dropped,
        shared_backends: stats.shared_backends,
        untracked: stats.untracked,
    }
}

/// How many entries of `table` lead to each of `slots`, which are in ascending order.
fn shares(snapshot: &Snapshot, table: TableRef, slots: &[(u32, &BackendEntry)]) -> Vec<u32> {
    let mut shares = vec![0; slots.len()];
    for slot in snapshot.entries(table) {
        if let Ok(index) = slots.binary_search_by_key(&slot, |(slot, _)| *slot)
            && let Some(share) = shares.get_mut(index)
        {
            *share += 1;
        }
    }
    shares
}

fn frontend(key: &FrontendKey, entry: &ServiceEntry) -> Frontend {
    Frontend {
        address: key.addr.to_ip(),
        port: key.port.get(),
        protocol: words::protocol(key.protocol),
        kind: words::kind(entry.flags),
        scope: words::scope(key.scope),
        policy: words::policy(entry.flags & FrontendFlags::LOCAL_SET != 0),
        affinity_seconds: seconds(entry.affinity_secs),
        table_length: entry.table.len(),
        new_connections: match (entry.table.is_empty(), entry.flags & FrontendFlags::DROP) {
            (false, _) => NewConnections::Balanced,
            (true, 0) => NewConnections::Refused,
            (true, _) => NewConnections::Dropped,
        },
    }
}

fn backend(
    snapshot: &Snapshot,
    slot: u32,
    entry: &BackendEntry,
    (cluster, local): (u32, u32),
) -> Backend {
    let stats = snapshot.backend_stats.get(slot as usize).copied();
    let stats = stats.unwrap_or_default();
    Backend {
        address: entry.addr.to_ip(),
        port: entry.port.get(),
        state: State::of(entry),
        ready: entry.has(BackendFlags::READY),
        serving: entry.has(BackendFlags::SERVING),
        terminating: entry.has(BackendFlags::TERMINATING),
        node_local: entry.has(BackendFlags::LOCAL),
        zone: snapshot.zone(u32::from(entry.zone)),
        cluster_table_entries: cluster,
        local_table_entries: local,
        opened: stats.opened,
        closed: stats.closed,
        active: stats.opened.saturating_sub(stats.closed),
        slot,
        generation: entry.generation,
    }
}

/// 0 stands for "none" in the maps.
fn seconds(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}
