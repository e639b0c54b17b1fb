//! Restoring the mirror from what is programmed, after a restart.
//!
//! Nothing is deleted here (rule K1): what no description accounts for, the trace of
//! a crash in the middle of a batch, is kept aside as [`Orphans`] and swept once the
//! desired state is known and programmed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use lb_ebpf::abi::{
    Addr, BackendEntry, FrontendKey, LocalBackendKey, MAX_ZONES, Name, Protocol, ServiceEntry,
    ServiceInfo, SourceRangeKey, TableRef,
};

use super::{
    Batch, Capacity, Planner, Programmed, encode::Attributes, filter::Bits, frontends::held_as,
};
use crate::model::{Family, ObjectName};

/// What is programmed, as read back from the maps.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Used elements of `SERVICE_INFO`, by id.
    pub infos: Vec<(u32, ServiceInfo)>,
    /// `SERVICES`.
    pub frontends: Vec<(FrontendKey, ServiceEntry)>,
    /// `BACKENDS`, from slot 0.
    pub backends: Vec<BackendEntry>,
    /// `ZONES`.
    pub zones: Vec<(u32, Name)>,
    /// `SOURCE_RANGES`.
    pub source_ranges: Vec<SourceRangeKey>,
    /// `LOCAL_BACKENDS`.
    pub local_backends: Vec<(LocalBackendKey, u32)>,
    /// `VIPS`.
    pub vips: Vec<(Addr, u32)>,
}

/// What no service accounts for; see [`Planner::sweep`].
#[derive(Debug, Default)]
pub struct Orphans {
    frontends: Vec<FrontendKey>,
    slots: Vec<u32>,
    tables: Vec<TableRef>,
    /// Services that have source ranges or local backends, but no description. Their ids
    /// are not given to others before the sweep.
    ids: BTreeSet<u32>,
    /// `VIPS` as it was found: a crash may have kept it behind.
    vips: Vec<(Addr, u32)>,
}

impl Planner {
    /// The mirror of `snapshot`.
    pub fn restore(capacity: Capacity, snapshot: Snapshot) -> (Self, Orphans) {
        let mut planner = Self::new(capacity);
        planner.distrust_tables = true;
        let mut orphans = Orphans::default();
        planner.restore_zones(snapshot.zones);
        let mut by_id = planner.restore_services(snapshot.infos);
        planner.restore_backends(snapshot.backends, &mut by_id, &mut orphans);
        planner.restore_frontends(snapshot.frontends, &mut by_id, &mut orphans);
        planner.restore_members(snapshot.source_ranges, snapshot.local_backends);
        orphans.vips = snapshot.vips;
        orphans.ids.extend(planner.source_ranges.ids());
        orphans.ids.extend(planner.local_backends.ids());
        orphans.ids.retain(|id| !by_id.contains_key(id));
        for id in orphans.ids.iter().filter(|id| **id < capacity.services) {
            planner.ids.claim(*id);
        }
        for (name, programmed) in by_id.into_values() {
            planner.services.entry(name).or_default().push(programmed);
        }
        for services in planner.services.values_mut() {
            services.sort_by_key(|service| service.id);
        }
        planner.orphan_frontends = orphans.frontends.len() as u32;
        (planner, orphans)
    }

    /// Removes what a crash has left behind. To be called after everything desired has
    /// been planned: from then on no frontend refers to it.
    pub fn sweep(&mut self, orphans: Orphans, batch: &mut Batch) {
        self.distrust_tables = false;
        self.orphan_frontends = 0;
        self.vips.repair(orphans.vips, batch);
        for key in orphans.frontends {
            if !self.is_programmed(&key) {
                batch.removed_frontends.push(key);
            }
        }
        for slot in orphans.slots {
            let entry = BackendEntry {
                flags: 0,
                ..self.backend(slot)
            };
            self.set_backend(slot, entry);
            batch.freed_backends.push((slot, entry));
            self.slots.free(slot);
        }
        for table in orphans.tables {
            self.slab.free(table);
        }
        for id in orphans.ids {
            self.drop_members(id, batch);
            if self.ids.is_used(id) {
                self.ids.free(id);
            }
        }
    }

    /// The words of `FILTER` that should not be zero.
    pub fn filter_words(&self) -> HashMap<u32, u64> {
        self.filter.words(Bits::Filter)
    }

    /// The words of `NODE_PORTS` that should not be zero.
    pub fn node_port_words(&self) -> HashMap<u32, u64> {
        self.filter.words(Bits::NodePorts)
    }

    fn restore_zones(&mut self, mut zones: Vec<(u32, Name)>) {
        zones.sort_by_key(|(id, _)| *id);
        // Ids are dense and from 1; others could only come from somebody else's write.
        let ids = 1..=u32::from(MAX_ZONES);
        for (id, name) in zones.into_iter().filter(|(id, _)| ids.contains(id)) {
            self.zones.resize(id as usize - 1, Arc::from(""));
            self.zones.push(Arc::from(name.as_str()));
        }
    }

    fn restore_services(
        &mut self,
        infos: Vec<(u32, ServiceInfo)>,
    ) -> HashMap<u32, (ObjectName, Programmed)> {
        let mut by_id = HashMap::with_capacity(infos.len());
        for (id, info) in infos {
            let Some(protocol) = Protocol::from_number(info.protocol) else {
                continue;
            };
            self.ids.claim(id);
            self.slab.claim(info.cluster_table);
            self.slab.claim(info.local_table);
            let name = ObjectName {
                namespace: Arc::from(info.namespace.as_str()),
                name: Arc::from(info.name.as_str()),
            };
            let programmed = Programmed {
                id,
                port_name: Arc::from(info.port_name.as_str()),
                protocol,
                family: if info.family == 6 {
                    Family::V6
                } else {
                    Family::V4
                },
                attributes: Attributes::from_info(&info),
                cluster_table: info.cluster_table,
                local_table: info.local_table,
                frontends: Vec::new(),
                slots: Vec::new(),
            };
            by_id.insert(id, (name, programmed));
        }
        by_id
    }

    fn restore_backends(
        &mut self,
        backends: Vec<BackendEntry>,
        by_id: &mut HashMap<u32, (ObjectName, Programmed)>,
        orphans: &mut Orphans,
    ) {
        let used = backends
            .iter()
            .rposition(|b| b.generation != 0)
            .map_or(0, |last| last + 1);
        self.backends = backends;
        self.backends.truncate(used);
        self.backends.shrink_to_fit();
        for (slot, entry) in (0..).zip(&self.backends) {
            if entry.flags == 0 {
                continue;
            }
            self.slots.claim(slot);
            match by_id.get_mut(&entry.service_id) {
                Some((_, programmed)) => programmed.slots.push(slot),
                None => orphans.slots.push(slot),
            }
        }
        let mirror = &self.backends;
        for (_, programmed) in by_id.values_mut() {
            programmed.slots.sort_by_key(|slot| {
                mirror
                    .get(*slot as usize)
                    .map(|b| (b.addr.octets(), b.port.get()))
            });
        }
    }

    fn restore_frontends(
        &mut self,
        mut frontends: Vec<(FrontendKey, ServiceEntry)>,
        by_id: &mut HashMap<u32, (ObjectName, Programmed)>,
        orphans: &mut Orphans,
    ) {
        // The internal entry, which says who holds a frontend, before the external one.
        frontends.sort_by_key(|(key, _)| (key.addr, key.port.get(), key.protocol, key.scope));
        // The bits are written from the filter's words, not from a batch.
        let mut unused = Batch::default();
        for (key, entry) in frontends {
            // A table that only a frontend knows is the old one of an interrupted change:
            // it must not be handed out while the frontend refers to it.
            if !entry.table.is_empty() && self.slab.claim(entry.table) {
                orphans.tables.push(entry.table);
            }
            let service = by_id.get_mut(&entry.service_id);
            let held = held_as(&key);
            let Some((name, programmed)) = service else {
                orphans.frontends.push(key);
                continue;
            };
            // An external entry may be the rest of an interrupted change of hands: then it
            // goes when its service is planned.
            if !self.owners.contains_key(&held) {
                self.filter.add(&held, &mut unused);
                self.owners.insert(held, name.clone());
            }
            self.vips.change([], [&(key, entry)], &mut unused);
            programmed.frontends.push((key, entry));
            self.entries += 1;
        }
    }

    fn restore_members(
        &mut self,
        source_ranges: Vec<SourceRangeKey>,
        local_backends: Vec<(LocalBackendKey, u32)>,
    ) {
        let ranges = source_ranges.into_iter();
        self.source_ranges.restore(
            ranges.map(|key| (key.range.service_id, ((key.prefix_len, key.range.addr), ()))),
        );
        let locals = local_backends.into_iter();
        self.local_backends
            .restore(locals.map(|(key, slot)| (key.service_id, (key.addr, slot))));
    }
}
