//! The maps in memory: batches write by write, and what a valid state is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_ebpf::{
    abi::{
        Addr, BackendEntry, BackendFlags, FrontendFlags, FrontendKey, LocalBackendKey, Name, Scope,
        ServiceEntry, ServiceInfo, SourceRange, SourceRangeKey, TableRef,
    },
    hash::{filter_bit, node_port_bit},
};

use crate::plan::{Batch, Snapshot};

/// One store to a map.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Zone(u32, Name),
    Backend(u32, BackendEntry),
    Entry(u32, u32),
    Info(u32, ServiceInfo),
    Range(SourceRangeKey),
    Local(LocalBackendKey, u32),
    FilterSet(u32, u64),
    NodePortSet(u32, u64),
    Frontend(FrontendKey, ServiceEntry),
    RemoveFrontend(FrontendKey),
    Vip(Addr, u32),
    FilterClear(u32, u64),
    NodePortClear(u32, u64),
    RemoveRange(SourceRangeKey),
    RemoveLocal(LocalBackendKey),
    RemoveInfo(u32),
}

/// The writes of `batch` in the order in which they are applied.
pub(crate) fn writes(batch: &Batch) -> Vec<Write> {
    let mut out = Vec::new();
    out.extend(batch.zones.iter().map(|(id, name)| Write::Zone(*id, *name)));
    out.extend(batch.backends.iter().map(|(s, b)| Write::Backend(*s, *b)));
    for (table, entries) in &batch.tables {
        assert_eq!(
            table.len() as usize,
            entries.len(),
            "a table fills its region"
        );
        out.extend(
            (table.offset()..)
                .zip(entries)
                .map(|(i, slot)| Write::Entry(i, *slot)),
        );
    }
    out.extend(batch.infos.iter().map(|(id, info)| Write::Info(*id, *info)));
    out.extend(batch.source_ranges.iter().map(|k| Write::Range(*k)));
    out.extend(
        batch
            .local_backends
            .iter()
            .map(|(k, s)| Write::Local(*k, *s)),
    );
    let bits = |write: fn(u32, u64) -> Write, words: &[(u32, u64)]| {
        words.iter().map(|(w, b)| write(*w, *b)).collect::<Vec<_>>()
    };
    out.extend(bits(Write::FilterSet, &batch.filter_set));
    out.extend(bits(Write::NodePortSet, &batch.node_ports_set));
    out.extend(batch.frontends.iter().map(|(k, e)| Write::Frontend(*k, *e)));
    let removed = batch.removed_frontends.iter();
    out.extend(removed.map(|k| Write::RemoveFrontend(*k)));
    out.extend(batch.vips.iter().map(|(a, k)| Write::Vip(*a, *k)));
    out.extend(bits(Write::FilterClear, &batch.filter_cleared));
    out.extend(bits(Write::NodePortClear, &batch.node_ports_cleared));
    let removed = batch.removed_source_ranges.iter();
    out.extend(removed.map(|k| Write::RemoveRange(*k)));
    let removed = batch.removed_local_backends.iter();
    out.extend(removed.map(|k| Write::RemoveLocal(*k)));
    out.extend(
        batch
            .freed_backends
            .iter()
            .map(|(s, b)| Write::Backend(*s, *b)),
    );
    out.extend(batch.removed_infos.iter().map(|id| Write::RemoveInfo(*id)));
    out
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) zones: BTreeMap<u32, Name>,
    pub(crate) backends: Vec<BackendEntry>,
    pub(crate) maglev: Vec<u32>,
    pub(crate) infos: BTreeMap<u32, ServiceInfo>,
    pub(crate) filter: BTreeMap<u32, u64>,
    pub(crate) node_ports: BTreeMap<u32, u64>,
    /// Service, significant bits, network.
    pub(crate) ranges: BTreeSet<(u32, u32, Addr)>,
    pub(crate) locals: HashMap<LocalBackendKey, u32>,
    pub(crate) services: HashMap<FrontendKey, ServiceEntry>,
    pub(crate) vips: BTreeMap<Addr, u32>,
}

/// A backend without indices: address, port, flags, zone.
type PlainBackend = (String, u32, String);

/// A service without indices: its two tables, its backends, the sources that it admits
/// and its backends for DSR.
type PlainService = (
    [Vec<String>; 2],
    BTreeSet<PlainBackend>,
    BTreeSet<(u32, Addr)>,
    BTreeMap<Addr, String>,
);

/// The state without indices: what clients and tools can tell apart.
#[derive(Debug, PartialEq)]
pub(crate) struct Plain {
    services: BTreeMap<String, PlainService>,
    frontends: BTreeMap<String, (String, u32, u32, Vec<String>)>,
}

fn put<T: Clone>(array: &mut Vec<T>, index: u32, free: &T, value: T) {
    let index = index as usize;
    if index >= array.len() {
        array.resize(index + 1, free.clone());
    }
    array[index] = value;
}

fn range(key: &SourceRangeKey) -> (u32, u32, Addr) {
    (key.range.service_id, key.prefix_len, key.range.addr)
}

fn range_key((service_id, prefix_len, addr): (u32, u32, Addr)) -> SourceRangeKey {
    SourceRangeKey {
        prefix_len,
        range: SourceRange { service_id, addr },
    }
}

impl Memory {
    pub(crate) fn write(&mut self, write: &Write) {
        match *write {
            Write::Zone(id, name) => drop(self.zones.insert(id, name)),
            Write::Backend(slot, entry) => {
                put(&mut self.backends, slot, &BackendEntry::FREE, entry);
            }
            Write::Entry(index, slot) => put(&mut self.maglev, index, &u32::MAX, slot),
            Write::Info(id, info) => drop(self.infos.insert(id, info)),
            Write::Range(key) => drop(self.ranges.insert(range(&key))),
            Write::RemoveRange(key) => drop(self.ranges.remove(&range(&key))),
            Write::Local(key, slot) => drop(self.locals.insert(key, slot)),
            Write::RemoveLocal(key) => drop(self.locals.remove(&key)),
            Write::FilterSet(word, bits) => *self.filter.entry(word).or_default() |= bits,
            Write::NodePortSet(word, bits) => *self.node_ports.entry(word).or_default() |= bits,
            Write::NodePortClear(word, bits) => {
                *self.node_ports.entry(word).or_default() &= !bits;
                self.node_ports.retain(|_, bits| *bits != 0);
            }
            Write::Frontend(key, entry) => drop(self.services.insert(key, entry)),
            Write::RemoveFrontend(key) => drop(self.services.remove(&key)),
            Write::Vip(addr, 0) => drop(self.vips.remove(&addr)),
            Write::Vip(addr, kinds) => drop(self.vips.insert(addr, kinds)),
            Write::FilterClear(word, bits) => {
                *self.filter.entry(word).or_default() &= !bits;
                self.filter.retain(|_, bits| *bits != 0);
            }
            Write::RemoveInfo(id) => drop(self.infos.remove(&id)),
        }
    }

    pub(crate) fn apply(&mut self, batch: &Batch) {
        for write in writes(batch) {
            self.write(&write);
        }
    }

    pub(crate) fn table(&self, table: TableRef) -> &[u32] {
        let start = table.offset() as usize;
        self.maglev
            .get(start..start + table.len() as usize)
            .expect("a table inside the slab")
    }

    /// What a program relies on at any instant.
    pub(crate) fn check(&self) {
        for (key, entry) in &self.services {
            assert!(entry.belongs_to(key), "a seal that fits {key:?}");
            assert!(self.lets_in(key), "the bits deny {key:?}");
            let info = self.infos.get(&entry.service_id);
            assert!(info.is_some(), "no description of {entry:?}");
            for slot in self.table(entry.table) {
                let backend = self.backends.get(*slot as usize);
                assert!(
                    backend.is_some_and(|b| b.service_id == entry.service_id && b.flags != 0),
                    "slot {slot} in the table of {entry:?} is {backend:?}"
                );
            }
            let external = key.in_scope(Scope::External);
            assert!(
                entry.flags & FrontendFlags::EXTERNAL_DIFFERS == 0
                    || self.services.contains_key(&external),
                "{key:?} refers to no external entry"
            );
            assert!(
                entry.flags & FrontendFlags::SOURCE_RANGES == 0
                    || self.ranges.iter().any(|(id, ..)| *id == entry.service_id),
                "{key:?} admits nobody"
            );
        }
        for (key, slot) in &self.locals {
            let backend = self.backends[*slot as usize];
            let is = (backend.addr, backend.service_id, backend.flags != 0);
            assert_eq!(is, (key.addr, key.service_id, true), "{key:?}");
        }
    }

    /// Whether the bit of a frontend is set.
    pub(crate) fn lets_in(&self, key: &FrontendKey) -> bool {
        let (words, (word, bit)) = if key.addr.is_unspecified() {
            let bit = node_port_bit(key.protocol, key.port.get());
            (&self.node_ports, bit.expect("a known protocol"))
        } else {
            (&self.filter, filter_bit(key))
        };
        words.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// What holds beyond that once a batch is complete.
    pub(crate) fn check_settled(&self) {
        self.check();
        for (key, entry) in &self.services {
            let info = &self.infos[&entry.service_id];
            let expected = if entry.flags & FrontendFlags::LOCAL_SET == 0 {
                info.cluster_table
            } else {
                info.local_table
            };
            assert_eq!(entry.table, expected, "table of {key:?}");
        }
        for (id, info) in &self.infos {
            self.check_members(*id, BackendFlags::IN_CLUSTER_SET, info.cluster_table);
            self.check_members(*id, BackendFlags::IN_LOCAL_SET, info.local_table);
        }
        assert_eq!(self.vips, self.expected_vips());
        for (slot, backend) in self.backends.iter().enumerate() {
            let owned = self.infos.contains_key(&backend.service_id);
            assert!(backend.flags == 0 || owned, "slot {slot} is an orphan");
            let info = self.infos.get(&backend.service_id);
            let dsr = backend.has(BackendFlags::LOCAL | BackendFlags::USED)
                && info.is_some_and(|info| info.forwarding == 1);
            let key = LocalBackendKey {
                addr: backend.addr,
                service_id: backend.service_id,
            };
            assert!(!dsr || self.locals.contains_key(&key), "{key:?} is missing");
        }
        for (id, ..) in &self.ranges {
            assert!(self.infos.contains_key(id), "ranges of nobody");
        }
        for (key, slot) in &self.locals {
            let info = &self.infos[&key.service_id];
            assert_eq!(info.forwarding, 1, "{key:?}");
            assert!(self.backends[*slot as usize].has(BackendFlags::LOCAL));
        }
    }

    /// Each backend of a set has a part of the set's table, and nobody else has.
    fn check_members(&self, id: u32, set: u32, table: TableRef) {
        let backends = (0..).zip(&self.backends);
        let members = backends.filter(|(_, b)| b.service_id == id && b.flags & set != 0);
        let members: BTreeSet<u32> = members.map(|(slot, _)| slot).collect();
        let chosen: BTreeSet<u32> = self.table(table).iter().copied().collect();
        assert_eq!(chosen, members, "{table:?} of service {id}");
    }

    /// The addresses of the frontends and their kinds.
    fn expected_vips(&self) -> BTreeMap<Addr, u32> {
        let mut vips = BTreeMap::new();
        for (key, entry) in &self.services {
            if key.scope == Scope::Internal as u8 && !key.addr.is_unspecified() {
                let kind = 1 << (entry.flags & FrontendFlags::KIND_MASK);
                *vips.entry(key.addr).or_default() |= kind;
            }
        }
        vips
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            infos: self.infos.iter().map(|(id, info)| (*id, *info)).collect(),
            frontends: self.services.iter().map(|(k, e)| (*k, *e)).collect(),
            backends: self.backends.clone(),
            zones: self.zones.iter().map(|(id, name)| (*id, *name)).collect(),
            source_ranges: self.ranges.iter().map(|key| range_key(*key)).collect(),
            local_backends: self.locals.iter().map(|(k, s)| (*k, *s)).collect(),
            vips: self.vips.iter().map(|(a, k)| (*a, *k)).collect(),
        }
    }

    fn members(&self, table: TableRef) -> Vec<String> {
        let slots = self.table(table).iter();
        slots.map(|slot| self.address(*slot)).collect()
    }

    fn address(&self, slot: u32) -> String {
        let backend = &self.backends[slot as usize];
        format!("{}:{}", backend.addr.to_ip(), backend.port.get())
    }

    fn service_name(&self, id: u32) -> String {
        let info = &self.infos[&id];
        let stripped = ServiceInfo {
            cluster_table: TableRef::EMPTY,
            local_table: TableRef::EMPTY,
            ..*info
        };
        format!("{stripped:?}")
    }

    pub(crate) fn plain(&self) -> Plain {
        let mut plain = Plain {
            services: BTreeMap::new(),
            frontends: BTreeMap::new(),
        };
        for (id, info) in &self.infos {
            let backends = (0..)
                .zip(&self.backends)
                .filter(|(_, b)| b.flags != 0 && b.service_id == *id)
                .map(|(slot, b)| {
                    let zone = self.zones.get(&u32::from(b.zone)).map(Name::to_string);
                    (self.address(slot), b.flags, zone.unwrap_or_default())
                })
                .collect();
            let tables = [info.cluster_table, info.local_table].map(|table| self.members(table));
            let ranges = self.ranges.iter().filter(|(of, ..)| of == id);
            let locals = self.locals.iter().filter(|(key, _)| key.service_id == *id);
            let service = (
                tables,
                backends,
                ranges.map(|(_, len, addr)| (*len, *addr)).collect(),
                locals
                    .map(|(key, slot)| (key.addr, self.address(*slot)))
                    .collect(),
            );
            let before = plain.services.insert(self.service_name(*id), service);
            assert!(before.is_none(), "a service described twice");
        }
        for (key, entry) in &self.services {
            let value = (
                self.service_name(entry.service_id),
                entry.flags,
                entry.affinity_secs,
                self.members(entry.table),
            );
            plain.frontends.insert(format!("{key:?}"), value);
        }
        plain
    }
}
