//! The maps in memory: batches write by write, and what a valid state is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_ebpf::{
    abi::{BackendEntry, FrontendFlags, FrontendKey, Name, ServiceEntry, ServiceInfo, TableRef},
    hash::filter_bit,
};

use crate::plan::{Batch, Snapshot};

/// One store to a map.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Zone(u32, Name),
    Backend(u32, BackendEntry),
    Entry(u32, u32),
    Info(u32, ServiceInfo),
    FilterSet(u32, u64),
    Frontend(FrontendKey, ServiceEntry),
    RemoveFrontend(FrontendKey),
    FilterClear(u32, u64),
    RemoveInfo(u32),
}

/// The writes of `batch` in the order in which they are applied.
pub(super) fn writes(batch: &Batch) -> Vec<Write> {
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
    out.extend(
        batch
            .filter_set
            .iter()
            .map(|(w, b)| Write::FilterSet(*w, *b)),
    );
    out.extend(batch.frontends.iter().map(|(k, e)| Write::Frontend(*k, *e)));
    out.extend(
        batch
            .removed_frontends
            .iter()
            .map(|k| Write::RemoveFrontend(*k)),
    );
    out.extend(
        batch
            .filter_cleared
            .iter()
            .map(|(w, b)| Write::FilterClear(*w, *b)),
    );
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
pub(super) struct Memory {
    pub(super) zones: BTreeMap<u32, Name>,
    pub(super) backends: Vec<BackendEntry>,
    pub(super) maglev: Vec<u32>,
    pub(super) infos: BTreeMap<u32, ServiceInfo>,
    pub(super) filter: BTreeMap<u32, u64>,
    pub(super) services: HashMap<FrontendKey, ServiceEntry>,
}

/// A backend without indices: address, port, flags, zone.
type PlainBackend = (String, u32, String);

/// A service without indices: its two tables and its backends.
type PlainService = (Vec<String>, Vec<String>, BTreeSet<PlainBackend>);

/// The state without indices: what clients and tools can tell apart.
#[derive(Debug, PartialEq)]
pub(super) struct Plain {
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

impl Memory {
    pub(super) fn write(&mut self, write: &Write) {
        match *write {
            Write::Zone(id, name) => drop(self.zones.insert(id, name)),
            Write::Backend(slot, entry) => {
                put(&mut self.backends, slot, &BackendEntry::FREE, entry);
            }
            Write::Entry(index, slot) => put(&mut self.maglev, index, &u32::MAX, slot),
            Write::Info(id, info) => drop(self.infos.insert(id, info)),
            Write::FilterSet(word, bits) => *self.filter.entry(word).or_default() |= bits,
            Write::Frontend(key, entry) => drop(self.services.insert(key, entry)),
            Write::RemoveFrontend(key) => drop(self.services.remove(&key)),
            Write::FilterClear(word, bits) => {
                *self.filter.entry(word).or_default() &= !bits;
                self.filter.retain(|_, bits| *bits != 0);
            }
            Write::RemoveInfo(id) => drop(self.infos.remove(&id)),
        }
    }

    pub(super) fn apply(&mut self, batch: &Batch) {
        for write in writes(batch) {
            self.write(&write);
        }
    }

    pub(super) fn table(&self, table: TableRef) -> &[u32] {
        let start = table.offset() as usize;
        self.maglev
            .get(start..start + table.len() as usize)
            .expect("a table inside the slab")
    }

    /// What a program relies on at any instant.
    pub(super) fn check(&self) {
        for (key, entry) in &self.services {
            assert!(entry.belongs_to(key), "a seal that fits {key:?}");
            let (word, bit) = filter_bit(key);
            let bits = self.filter.get(&word).copied().unwrap_or(0);
            assert!(bits & bit != 0, "the filter denies {key:?}");
            let info = self.infos.get(&entry.service_id);
            assert!(info.is_some(), "no description of {entry:?}");
            for slot in self.table(entry.table) {
                let backend = self.backends.get(*slot as usize);
                assert!(
                    backend.is_some_and(|b| b.service_id == entry.service_id && b.flags != 0),
                    "slot {slot} in the table of {entry:?} is {backend:?}"
                );
            }
        }
    }

    /// What holds beyond that once a batch is complete.
    pub(super) fn check_settled(&self) {
        self.check();
        let filter: BTreeMap<u32, u64> =
            self.services
                .keys()
                .fold(BTreeMap::new(), |mut words, key| {
                    let (word, bit) = filter_bit(key);
                    *words.entry(word).or_default() |= bit;
                    words
                });
        for (word, bits) in filter {
            assert_eq!(self.filter.get(&word).copied().unwrap_or(0) & bits, bits);
        }
        for (key, entry) in &self.services {
            let info = &self.infos[&entry.service_id];
            let expected = if entry.flags & FrontendFlags::LOCAL_SET == 0 {
                info.cluster_table
            } else {
                info.local_table
            };
            assert_eq!(entry.table, expected, "table of {key:?}");
        }
        for (slot, backend) in self.backends.iter().enumerate() {
            let owned = self.infos.contains_key(&backend.service_id);
            assert!(backend.flags == 0 || owned, "slot {slot} is an orphan");
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            infos: self.infos.iter().map(|(id, info)| (*id, *info)).collect(),
            frontends: self.services.iter().map(|(k, e)| (*k, *e)).collect(),
            backends: self.backends.clone(),
            zones: self.zones.iter().map(|(id, name)| (*id, *name)).collect(),
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

    pub(super) fn plain(&self) -> Plain {
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
            let tables = (
                self.members(info.cluster_table),
                self.members(info.local_table),
            );
            let before = plain
                .services
                .insert(self.service_name(*id), (tables.0, tables.1, backends));
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
