//! `dump --raw`: the programmed state as it lies in the maps, without counters and
//! status, to compare byte by byte.

use std::net::IpAddr;

use lb_ebpf::abi::TableRef;
use serde::Serialize;

use super::{digest::Fnv, filter::Filter, snapshot::Snapshot, view::Index, words};

/// The whole dump.
#[derive(Clone, Debug, Serialize)]
pub struct Raw {
    pub format: &'static str,
    /// By id.
    pub services: Vec<Service>,
    /// By address, port, protocol and scope.
    pub frontends: Vec<Frontend>,
    /// By slot; freed slots too, for their generations.
    pub backends: Vec<Backend>,
    /// By service, length and address.
    pub source_ranges: Vec<SourceRange>,
    /// By service and address.
    pub local_backends: Vec<LocalBackend>,
    /// By id; left out when filtered.
    pub zones: Vec<Zone>,
    /// The set words of the filter; null when filtered.
    pub filter: Option<Words>,
    /// The set words of the NodePort bits; null when filtered.
    pub node_ports: Option<Words>,
    /// The whole slab; null when filtered.
    pub maglev: Option<Words>,
}

/// An element of `SERVICE_INFO`.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    pub id: u32,
    pub namespace: String,
    pub name: String,
    pub port_name: String,
    pub port: u16,
    pub protocol: u8,
    pub family: u8,
    pub r#type: u8,
    pub local_policies: u8,
    pub affinity_seconds: u32,
    pub pinned_table_length: u32,
    pub forwarding: u8,
    pub cluster_table: Table,
    pub local_table: Table,
}

/// A Maglev table: FNV-1a, 64 bits, of its slots as little-endian u32.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    pub offset: u32,
    pub length: u32,
    pub digest: String,
}

/// An element of `SERVICES`.
#[derive(Clone, Debug, Serialize)]
pub struct Frontend {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: u8,
    pub scope: u8,
    pub service_id: u32,
    pub flags: u32,
    pub table_offset: u32,
    pub table_length: u32,
    pub affinity_seconds: u32,
    pub seal: u32,
}

/// An element of `BACKENDS`.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    pub slot: u32,
    pub generation: u32,
    pub service_id: u32,
    pub address: IpAddr,
    pub port: u16,
    pub flags: u32,
    pub zone: u16,
}

/// An element of `SOURCE_RANGES`.
#[derive(Clone, Debug, Serialize)]
pub struct SourceRange {
    pub service_id: u32,
    pub prefix_length: u32,
    pub range: String,
}

/// An element of `LOCAL_BACKENDS`.
#[derive(Clone, Debug, Serialize)]
pub struct LocalBackend {
    pub service_id: u32,
    pub address: IpAddr,
    pub slot: u32,
}

/// An element of `ZONES`.
#[derive(Clone, Debug, Serialize)]
pub struct Zone {
    pub id: u32,
    pub name: String,
}

/// A whole array: FNV-1a, 64 bits, of its words, little-endian.
#[derive(Clone, Debug, Serialize)]
pub struct Words {
    /// Number of words.
    pub length: usize,
    /// Words that are not zero.
    pub nonzero: usize,
    /// See the type.
    pub digest: String,
}

/// What `filter` keeps, as it is.
pub fn raw(snapshot: &Snapshot, filter: &Filter) -> Raw {
    let index = Index::of(snapshot);
    let kept = |id: u32| {
        let found = snapshot.infos.binary_search_by_key(&id, |(id, _)| *id).ok();
        let info = found.and_then(|index| snapshot.infos.get(index));
        filter.is_empty()
            || info.is_some_and(|(_, info)| {
                filter.admits_service(info) && filter.admits_any(index.addresses(id))
            })
    };
    let services = snapshot.infos.iter().filter(|(id, _)| kept(*id));
    let frontends = snapshot
        .frontends
        .iter()
        .filter(|(_, e)| kept(e.service_id));
    let backends = (0..).zip(&snapshot.backends).filter(|(_, b)| {
        if filter.is_empty() {
            b.flags != 0 || b.generation != 0
        } else {
            b.flags != 0 && kept(b.service_id)
        }
    });
    let source_ranges = snapshot.source_ranges.iter();
    let source_ranges = source_ranges.filter(|key| kept(key.range.service_id));
    let local_backends = snapshot.local_backends.iter();
    let local_backends = local_backends.filter(|(key, _)| kept(key.service_id));
    let everything = filter.is_empty();
    let zones = snapshot.zones.iter().filter(|_| everything);
    Raw {
        format: "lb-raw/2",
        services: services
            .map(|(id, info)| Service {
                id: *id,
                namespace: words::name(&info.namespace),
                name: words::name(&info.name),
                port_name: words::name(&info.port_name),
                port: info.port.get(),
                protocol: info.protocol,
                family: info.family,
                r#type: info.service_type,
                local_policies: info.local_policies,
                affinity_seconds: info.affinity_secs,
                pinned_table_length: info.pinned_len,
                forwarding: info.forwarding,
                cluster_table: table(snapshot, info.cluster_table),
                local_table: table(snapshot, info.local_table),
            })
            .collect(),
        frontends: frontends
            .map(|(key, entry)| Frontend {
                address: key.addr.to_ip(),
                port: key.port.get(),
                protocol: key.protocol,
                scope: key.scope,
                service_id: entry.service_id,
                flags: entry.flags,
                table_offset: entry.table.offset(),
                table_length: entry.table.len(),
                affinity_seconds: entry.affinity_secs,
                seal: entry.seal,
            })
            .collect(),
        backends: backends
            .map(|(slot, backend)| Backend {
                slot,
                generation: backend.generation,
                service_id: backend.service_id,
                address: backend.addr.to_ip(),
                port: backend.port.get(),
                flags: backend.flags,
                zone: backend.zone,
            })
            .collect(),
        source_ranges: source_ranges
            .map(|key| SourceRange {
                service_id: key.range.service_id,
                prefix_length: key.prefix_len,
                range: super::words::source_range(key),
            })
            .collect(),
        local_backends: local_backends
            .map(|(key, slot)| LocalBackend {
                service_id: key.service_id,
                address: key.addr.to_ip(),
                slot: *slot,
            })
            .collect(),
        zones: zones
            .map(|(id, name)| Zone {
                id: *id,
                name: words::name(name),
            })
            .collect(),
        filter: everything.then(|| words(snapshot.filter.iter().map(|word| word.to_le_bytes()))),
        node_ports: everything
            .then(|| words(snapshot.node_ports.iter().map(|word| word.to_le_bytes()))),
        maglev: everything.then(|| {
            let entries = (0..snapshot.slab.entries()).filter_map(|i| snapshot.slab.entry(i));
            words(entries.map(u32::to_le_bytes))
        }),
    }
}

fn table(snapshot: &Snapshot, table: TableRef) -> Table {
    let mut fnv = Fnv::new();
    for slot in snapshot.entries(table) {
        fnv.write(&slot.to_le_bytes());
    }
    Table {
        offset: table.offset(),
        length: table.len(),
        digest: fnv.hex(),
    }
}

fn words<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> Words {
    let mut fnv = Fnv::new();
    let (mut length, mut nonzero) = (0, 0);
    for word in words {
        length += 1;
        nonzero += usize::from(word != [0; N]);
        fnv.write(&word);
    }
    Words {
        length,
        nonzero,
        digest: fnv.hex(),
    }
}
