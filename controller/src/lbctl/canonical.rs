//! `dump --canonical`: the programmed state without anything that depends on the order
//! in which it was programmed.
//!
//! Slots, offsets, ids, generations and counters are left out, everything is sorted by
//! what it means, and a Maglev table is its length and a digest of the addresses in it.
//! Equal states give equal dumps on every node and in every run.

use std::net::IpAddr;

use lb_ebpf::abi::{
    BackendEntry, BackendFlags, FrontendFlags, FrontendKey, Scope, ServiceEntry, ServiceInfo,
    TableRef,
};
use serde::Serialize;

use super::{digest::Fnv, filter::Filter, snapshot::Snapshot, view::Index, words};

/// The whole dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Canonical {
    /// Version of this format; changes with any change of meaning.
    pub format: &'static str,
    /// Sorted by namespace, name, port, protocol, family.
    pub services: Vec<Service>,
    /// What belongs to no service; empty when filtered.
    pub orphans: Orphans,
    /// What contradicts itself, one sentence each; empty on a healthy node.
    pub inconsistencies: Vec<String>,
}

/// One service port in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    pub protocol: &'static str,
    pub family: &'static str,
    pub port_name: String,
    pub r#type: &'static str,
    pub internal_traffic_policy: &'static str,
    pub external_traffic_policy: &'static str,
    pub affinity_seconds: u32,
    pub pinned_table_length: u32,
    /// Of packets from outside to backends on other nodes: `snat` or `dsr`.
    pub forwarding: &'static str,
    /// Sources that restricted frontends admit.
    pub source_ranges: Vec<String>,
    /// Backends of this node that other nodes may choose by DSR.
    pub dsr_backends: Vec<IpAddr>,
    pub cluster_table: Table,
    pub local_table: Table,
    pub frontends: Vec<Frontend>,
    pub backends: Vec<Backend>,
}

/// A Maglev table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Table {
    /// `empty`.
    Empty(&'static str),
    /// What is in it.
    Filled {
        /// Number of entries.
        length: u32,
        /// FNV-1a, 64 bits, of the sequence of backend addresses (16 bytes, v4-mapped)
        /// and ports (2 bytes, network order); ff×18 for a slot of no backend of the
        /// service.
        digest: String,
    },
}

/// A frontend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Frontend {
    /// The VIP; the unspecified address for a NodePort.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// `internal` or `external`.
    pub scope: &'static str,
    /// Why it exists.
    pub kind: &'static str,
    /// `external-differs`, `source-ranges`, `dsr`.
    pub flags: Vec<&'static str>,
    /// Which table of the service it uses: `cluster` or `local`.
    pub set: &'static str,
    /// What it does with an empty table: `refuse` or `drop`.
    pub when_empty: &'static str,
    /// Session-affinity timeout; 0 without affinity.
    pub affinity_seconds: u32,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its conditions and sets, in the order of their bits.
    pub flags: Vec<String>,
    /// Its zone, or empty.
    pub zone: String,
}

/// What belongs to no service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orphans {
    /// Frontends.
    pub frontends: Vec<Frontend>,
    /// Backends.
    pub backends: Vec<Backend>,
}

/// The canonical form of what `filter` keeps.
pub fn canonical(snapshot: &Snapshot, filter: &Filter) -> Canonical {
    let index = Index::of(snapshot);
    let mut inconsistencies = Vec::new();
    let mut services = Vec::new();
    for (id, info) in &snapshot.infos {
        if filter.admits_service(info) && filter.admits_any(index.addresses(*id)) {
            services.push(service(snapshot, &index, *id, info, &mut inconsistencies));
        }
    }
    services.sort_unstable();
    let mut orphans = Orphans::default();
    if filter.is_empty() {
        let described = |id: u32| {
            snapshot
                .infos
                .binary_search_by_key(&id, |(id, _)| *id)
                .is_ok()
        };
        for (key, entry) in &snapshot.frontends {
            if !described(entry.service_id) {
                check_frontend(snapshot, key, entry, &mut inconsistencies);
                orphans.frontends.push(frontend(key, entry));
            }
        }
        for entry in &snapshot.backends {
            if entry.flags != 0 && !described(entry.service_id) {
                orphans.backends.push(backend(snapshot, entry));
            }
        }
        let ranges = snapshot.source_ranges.iter();
        let stray = ranges
            .filter(|key| !described(key.range.service_id))
            .count();
        if stray > 0 {
            inconsistencies.push(format!("{stray} source ranges belong to no service"));
        }
        let locals = snapshot.local_backends.iter();
        let stray = locals.filter(|(key, _)| !described(key.service_id)).count();
        if stray > 0 {
            inconsistencies.push(format!("{stray} DSR backends belong to no service"));
        }
        orphans.frontends.sort_unstable();
        orphans.backends.sort_unstable();
    }
    inconsistencies.sort_unstable();
    Canonical {
        format: "lb-canonical/2",
        services,
        orphans,
        inconsistencies,
    }
}

fn service(
    snapshot: &Snapshot,
    index: &Index<'_>,
    id: u32,
    info: &ServiceInfo,
    inconsistencies: &mut Vec<String>,
) -> Service {
    let label = format!(
        "{}/{}:{}/{}",
        info.namespace,
        info.name,
        info.port.get(),
        words::protocol(info.protocol)
    );
    let mut tables = [info.cluster_table, info.local_table].map(|table| (table, None));
    for ((table, described), set) in tables.iter_mut().zip(["cluster", "local"]) {
        let (text, foreign) = digest(snapshot, id, *table);
        if foreign > 0 {
            let problem = format!("{label}: {foreign} entries of the {set} table lead elsewhere");
            inconsistencies.push(problem);
        }
        *described = Some(text);
    }
    let [(cluster, cluster_table), (local, local_table)] = tables;
    let mut frontends = Vec::new();
    for (key, entry) in index.frontends(id) {
        check_frontend(snapshot, key, entry, inconsistencies);
        let (of_set, set) = if entry.flags & FrontendFlags::LOCAL_SET == 0 {
            (cluster, "cluster")
        } else {
            (local, "local")
        };
        if entry.table != of_set {
            let vip = vip(key);
            inconsistencies.push(format!("{label}: {vip} does not use the {set} table"));
        }
        frontends.push(frontend(key, entry));
    }
    frontends.sort_unstable();
    let backends = index.backends(id).iter();
    let mut backends: Vec<_> = backends.map(|(_, b)| backend(snapshot, b)).collect();
    backends.sort_unstable();
    let mut source_ranges: Vec<_> = snapshot
        .source_ranges_of(id)
        .map(words::source_range)
        .collect();
    source_ranges.sort_unstable();
    let mut dsr_backends = Vec::new();
    for (key, slot) in snapshot.local_backends_of(id) {
        let address = key.addr.to_ip();
        dsr_backends.push(address);
        let backend = snapshot.backend(*slot);
        if backend.is_none_or(|b| (b.addr, b.service_id) != (key.addr, id)) {
            inconsistencies.push(format!("{label}: DSR backend {address} leads elsewhere"));
        }
    }
    dsr_backends.sort_unstable();
    Service {
        namespace: words::name(&info.namespace),
        name: words::name(&info.name),
        port: info.port.get(),
        protocol: words::protocol(info.protocol),
        family: words::family(info.family),
        port_name: words::name(&info.port_name),
        r#type: words::service_type(info.service_type),
        internal_traffic_policy: words::policy(info.local_policies & 1 != 0),
        external_traffic_policy: words::policy(info.local_policies & 2 != 0),
        affinity_seconds: info.affinity_secs,
        pinned_table_length: info.pinned_len,
        forwarding: words::forwarding(info.forwarding == 1),
        source_ranges,
        dsr_backends,
        cluster_table: cluster_table.unwrap_or(EMPTY),
        local_table: local_table.unwrap_or(EMPTY),
        frontends,
        backends,
    }
}

const EMPTY: Table = Table::Empty("empty");

/// A table of service `id`, and how many of its entries lead to no backend of it.
fn digest(snapshot: &Snapshot, id: u32, table: TableRef) -> (Table, u64) {
    if table.is_empty() {
        return (EMPTY, 0);
    }
    let mut fnv = Fnv::new();
    let mut good = 0;
    for slot in snapshot.entries(table) {
        match snapshot.backend(slot).filter(|b| b.service_id == id) {
            Some(backend) => {
                good += 1;
                fnv.write(&backend.addr.octets());
                fnv.write(&backend.port.get().to_be_bytes());
            }
            None => fnv.write(&[0xff; 18]),
        }
    }
    let filled = Table::Filled {
        length: table.len(),
        digest: fnv.hex(),
    };
    (filled, u64::from(table.len()) - good)
}

fn check_frontend(
    snapshot: &Snapshot,
    key: &FrontendKey,
    entry: &ServiceEntry,
    inconsistencies: &mut Vec<String>,
) {
    if !snapshot.lets_in(key) {
        let vip = vip(key);
        inconsistencies.push(format!("{vip}: its bit is clear: nothing reaches it"));
    }
    if !entry.belongs_to(key) {
        let vip = vip(key);
        inconsistencies.push(format!("{vip}: its seal does not fit: it is not used"));
    }
    if entry.flags & FrontendFlags::EXTERNAL_DIFFERS != 0
        && !snapshot.has_frontend(&key.in_scope(Scope::External))
    {
        let vip = vip(key);
        inconsistencies.push(format!(
            "{vip}: the external entry that it refers to is missing"
        ));
    }
    if !snapshot.admits(entry) {
        let vip = vip(key);
        inconsistencies.push(format!("{vip}: it is restricted, but admits no source"));
    }
}

fn vip(key: &FrontendKey) -> String {
    let address = std::net::SocketAddr::new(key.addr.to_ip(), key.port.get());
    let (protocol, scope) = (words::protocol(key.protocol), words::scope(key.scope));
    format!("frontend {address}/{protocol} ({scope})")
}

fn frontend(key: &FrontendKey, entry: &ServiceEntry) -> Frontend {
    const FLAGS: [(u32, &str); 4] = [
        (FrontendFlags::EXTERNAL_DIFFERS, "external-differs"),
        (FrontendFlags::SOURCE_RANGES, "source-ranges"),
        (FrontendFlags::DSR, "dsr"),
        (FrontendFlags::MASQUERADE, "masquerade"),
    ];
    Frontend {
        address: key.addr.to_ip(),
        port: key.port.get(),
        protocol: words::protocol(key.protocol),
        scope: words::scope(key.scope),
        kind: words::kind(entry.flags),
        flags: FLAGS
            .into_iter()
            .filter(|(bit, _)| entry.flags & bit != 0)
            .map(|(_, name)| name)
            .collect(),
        set: words::set(entry.flags & FrontendFlags::LOCAL_SET != 0),
        when_empty: if entry.flags & FrontendFlags::DROP == 0 {
            "refuse"
        } else {
            "drop"
        },
        affinity_seconds: entry.affinity_secs,
    }
}

fn backend(snapshot: &Snapshot, entry: &BackendEntry) -> Backend {
    const NAMES: [(u32, &str); 6] = [
        (BackendFlags::READY, "ready"),
        (BackendFlags::SERVING, "serving"),
        (BackendFlags::TERMINATING, "terminating"),
        (BackendFlags::LOCAL, "local"),
        (BackendFlags::IN_CLUSTER_SET, "cluster-set"),
        (BackendFlags::IN_LOCAL_SET, "local-set"),
    ];
    let mut rest = entry.flags & !BackendFlags::USED;
    let mut flags = Vec::new();
    for (bit, name) in NAMES {
        if rest & bit != 0 {
            flags.push(name.to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        flags.push(format!("unknown-{rest:#x}"));
    }
    Backend {
        address: entry.addr.to_ip(),
        port: entry.port.get(),
        flags,
        zone: snapshot.zone(u32::from(entry.zone)).unwrap_or_default(),
    }
}
