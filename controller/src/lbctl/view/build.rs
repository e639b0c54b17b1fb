//! Making services of a snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lb_ebpf::abi::{
    BackendEntry, BackendFlags, FrontendFlags, FrontendKey, FrontendKind, ServiceEntry,
    ServiceInfo, ServiceStats, TableRef,
};

use super::{
    Backend, Counters, Frontend, NewConnections, Orphans, Service, ServicePort, Services, State,
};
use crate::lbctl::{filter::Filter, snapshot::Snapshot, words};

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
pub(in crate::lbctl) struct Index<'a> {
    frontends: HashMap<u32, Vec<&'a (FrontendKey, ServiceEntry)>>,
    /// In the order of slots.
    backends: HashMap<u32, Vec<(u32, &'a BackendEntry)>>,
}

impl<'a> Index<'a> {
    pub(in crate::lbctl) fn of(snapshot: &'a Snapshot) -> Self {
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

    pub(in crate::lbctl) fn frontends(&self, id: u32) -> &[&'a (FrontendKey, ServiceEntry)] {
        self.frontends.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(in crate::lbctl) fn backends(&self, id: u32) -> &[(u32, &'a BackendEntry)] {
        self.backends.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Addresses of the frontends and backends of a service.
    pub(in crate::lbctl) fn addresses(&self, id: u32) -> impl Iterator<Item = IpAddr> {
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
        forwarding: words::forwarding(info.forwarding == 1),
        source_ranges: snapshot
            .source_ranges_of(id)
            .map(words::source_range)
            .collect(),
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
    let has = |flag: u32| entry.flags & flag != 0;
    Frontend {
        address: key.addr.to_ip(),
        port: key.port.get(),
        protocol: words::protocol(key.protocol),
        kind: words::kind(entry.flags),
        scope: words::scope(key.scope),
        external_differs: has(FrontendFlags::EXTERNAL_DIFFERS),
        restricted: has(FrontendFlags::SOURCE_RANGES),
        masquerade: has(FrontendFlags::MASQUERADE),
        forwarding: (FrontendKind::from_flags(entry.flags) != Some(FrontendKind::ClusterIp))
            .then(|| words::forwarding(has(FrontendFlags::DSR))),
        policy: words::policy(has(FrontendFlags::LOCAL_SET)),
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
