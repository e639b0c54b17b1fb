//! The difference between one Service as desired and as programmed.

use std::{cmp::Ordering, collections::HashSet};

use lb_ebpf::abi::{Addr, BackendEntry, BackendFlags, FrontendKey, Port, TableRef};
use maglev::{Entry, Key, table_len};
use tracing::warn;

use super::{
    Batch, GoneBackend, NoRoom, Planner, Programmed, Usage,
    encode::{self, Attributes},
};
use crate::{
    desired::{BackendSet, DesiredBackend, DesiredService},
    model::{ObjectName, Protocol},
};

/// Indices allocated while planning one Service, to be given back if it fails.
#[derive(Default)]
struct Taken {
    ids: Vec<u32>,
    slots: Vec<u32>,
    tables: Vec<TableRef>,
    /// Elements of the mirror of `BACKENDS` as they were before they were changed.
    changed: Vec<(u32, BackendEntry)>,
    /// No free region of the slab was long enough.
    slab_failed: bool,
}

/// What becomes of a service's backends.
struct Backends {
    slots: Vec<u32>,
    /// Whether the members of the cluster set or the local set change.
    sets_changed: (bool, bool),
}

impl Planner {
    /// Adds to `batch` what makes `name` as desired; nothing desired removes it.
    ///
    /// # Errors
    /// [`NoRoom`] if the maps must grow first; then nothing was planned.
    pub fn plan(
        &mut self,
        name: &ObjectName,
        desired: &[DesiredService],
        batch: &mut Batch,
    ) -> Result<(), NoRoom> {
        self.check_room(desired, batch)?;
        let old = self.services.remove(name).unwrap_or_default();
        let mut new = Vec::with_capacity(desired.len());
        let mut taken = Taken::default();
        let mut writes = Batch::default();
        for service in desired {
            let before = old.iter().find(|o| o.is(&service.key));
            let planned = self.plan_service(name, service, before, &mut taken, &mut writes);
            let Some(planned) = planned else {
                let slab = taken.slab_failed;
                self.give_back(taken);
                batch.zones.append(&mut writes.zones);
                if !old.is_empty() {
                    self.services.insert(name.clone(), old);
                }
                return Err(NoRoom {
                    needed: needs(desired),
                    slab,
                });
            };
            new.push(planned);
        }
        // Nothing can fail from here on.
        merge(batch, writes);
        for planned in &mut new {
            let before = old.iter().find(|o| o.id == planned.id);
            self.hold_frontends(name, planned, before, batch);
        }
        // An address may have moved from one port of the Service to another.
        let held: HashSet<_> = new
            .iter()
            .flat_map(|n| &n.frontends)
            .map(|(key, _)| *key)
            .collect();
        for before in old {
            for (key, _) in &before.frontends {
                if !held.contains(key) {
                    self.drop_frontend(name, key, batch);
                }
            }
            match new.iter().find(|n| n.id == before.id) {
                Some(planned) => self.free_unused(planned, &before, batch),
                None => self.remove_service(&before, batch),
            }
        }
        if !new.is_empty() {
            self.services.insert(name.clone(), new);
        }
        Ok(())
    }

    /// Indices, backends and tables of one service; what is written before frontends.
    fn plan_service(
        &mut self,
        name: &ObjectName,
        desired: &DesiredService,
        before: Option<&Programmed>,
        taken: &mut Taken,
        batch: &mut Batch,
    ) -> Option<Programmed> {
        let id = if let Some(before) = before {
            before.id
        } else {
            let id = self.ids.allocate()?;
            taken.ids.push(id);
            batch.reset_services.push(id);
            id
        };
        let backends = self.plan_backends(id, desired, before, taken, batch)?;
        let pinned = desired.pinned_len;
        let (old_cluster, old_local) = before.map_or((TableRef::EMPTY, TableRef::EMPTY), |b| {
            (b.cluster_table, b.local_table)
        });
        let keep = !self.distrust_tables
            && before.is_some_and(|b| b.attributes.pinned_len == pinned.unwrap_or(0));
        let (cluster_changed, local_changed) = backends.sets_changed;
        let cluster_table = if cluster_changed || !keep {
            self.plan_table(
                &backends.slots,
                BackendFlags::IN_CLUSTER_SET,
                pinned,
                old_cluster,
                taken,
                batch,
            )?
        } else {
            old_cluster
        };
        let local_table = if local_changed || !keep {
            self.plan_table(
                &backends.slots,
                BackendFlags::IN_LOCAL_SET,
                pinned,
                old_local,
                taken,
                batch,
            )?
        } else {
            old_local
        };
        let attributes = Attributes::of(desired);
        let tables = (cluster_table, local_table);
        let unchanged = before.is_some_and(|b| {
            b.attributes == attributes && (b.cluster_table, b.local_table) == tables
        });
        if !unchanged {
            let key = &desired.key;
            let (protocol, family) = (key.protocol, key.family);
            if let Some(info) =
                encode::info(name, &key.port_name, protocol, family, &attributes, tables)
            {
                batch.infos.push((id, info));
            } else {
                warn!(service = %name, "a name is longer than 63 bytes: not described");
            }
        }
        let mut frontends: Vec<_> = desired
            .frontends
            .iter()
            .map(|f| encode::frontend(f, desired.key.protocol, id, desired.affinity_secs, tables))
            .collect();
        frontends.shrink_to_fit();
        Some(Programmed {
            id,
            port_name: desired.key.port_name.clone(),
            protocol: desired.key.protocol,
            family: desired.key.family,
            attributes,
            cluster_table,
            local_table,
            frontends,
            slots: backends.slots,
        })
    }

    /// Merges the sorted lists of backends.
    fn plan_backends(
        &mut self,
        id: u32,
        desired: &DesiredService,
        before: Option<&Programmed>,
        taken: &mut Taken,
        batch: &mut Batch,
    ) -> Option<Backends> {
        let mut old = before
            .map_or(&[][..], |b| &b.slots)
            .iter()
            .copied()
            .peekable();
        let mut slots = Vec::with_capacity(desired.backends.len());
        let mut sets = 0;
        for backend in &desired.backends {
            let wanted = (Addr::from(backend.addr).octets(), backend.port);
            let existing = loop {
                let Some(&slot) = old.peek() else { break None };
                let entry = self.backend(slot);
                match (entry.addr.octets(), entry.port.get()).cmp(&wanted) {
                    Ordering::Less => {
                        old.next();
                        sets |= entry.flags;
                    }
                    Ordering::Equal => {
                        old.next();
                        break Some((slot, entry));
                    }
                    Ordering::Greater => break None,
                }
            };
            let zone = self.zone_id(backend.zone.as_ref(), batch);
            let slot = if let Some((slot, entry)) = existing {
                sets |= entry.flags ^ backend.flags;
                let changed = BackendEntry {
                    flags: backend.flags,
                    zone,
                    ..entry
                };
                if changed != entry {
                    if desired.key.protocol == Protocol::Udp && stops_serving(&entry, &changed) {
                        batch.gone.push(gone(slot, &entry));
                    }
                    taken.changed.push((slot, entry));
                    self.set_backend(slot, changed);
                    batch.backends.push((slot, changed));
                }
                slot
            } else {
                sets |= backend.flags;
                self.new_backend(id, backend, zone, taken, batch)?
            };
            slots.push(slot);
        }
        for slot in old {
            sets |= self.backend(slot).flags;
        }
        Some(Backends {
            slots,
            sets_changed: (
                sets & BackendFlags::IN_CLUSTER_SET != 0,
                sets & BackendFlags::IN_LOCAL_SET != 0,
            ),
        })
    }

    fn new_backend(
        &mut self,
        id: u32,
        backend: &DesiredBackend,
        zone: u16,
        taken: &mut Taken,
        batch: &mut Batch,
    ) -> Option<u32> {
        let slot = self.slots.allocate()?;
        taken.slots.push(slot);
        taken.changed.push((slot, self.backend(slot)));
        let entry = BackendEntry {
            addr: Addr::from(backend.addr),
            port: Port::new(backend.port),
            zone,
            flags: backend.flags,
            service_id: id,
            generation: self.backend(slot).generation.wrapping_add(1),
        };
        self.set_backend(slot, entry);
        batch.reset_backends.push(slot);
        batch.backends.push((slot, entry));
        Some(slot)
    }

    /// A table over those `slots` that carry `set`: in place of `old` if the length
    /// stays, else in a new region.
    fn plan_table(
        &mut self,
        slots: &[u32],
        set: u32,
        pinned: Option<u32>,
        old: TableRef,
        taken: &mut Taken,
        batch: &mut Batch,
    ) -> Option<TableRef> {
        let members: Vec<Entry> = slots
            .iter()
            .map(|slot| (*slot, self.backend(*slot)))
            .filter(|(_, backend)| backend.has(set))
            .map(|(slot, backend)| Entry::new(maglev_key(&backend), slot))
            .collect();
        let len = match (members.len(), pinned) {
            (0, _) => return Some(TableRef::EMPTY),
            // More backends than a pinned length has entries: some would get none.
            (n, Some(len)) if len as usize >= n => len,
            (n, _) => table_len(n),
        };
        let table = if len == old.len() {
            old
        } else {
            let table = self.slab.allocate(len);
            taken.slab_failed |= table.is_none();
            taken.tables.extend(table);
            table?
        };
        match self.builder.values(&members, len as usize) {
            Ok(entries) => batch.tables.push((table, entries.to_vec())),
            // Lengths come from the ladder or were validated, keys are distinct
            // addresses: not reachable. An empty table refuses connections.
            Err(error) => {
                warn!(%error, len, "cannot build a Maglev table");
                return Some(TableRef::EMPTY);
            }
        }
        Some(table)
    }

    /// Takes the frontends that `planned` may have and writes those that changed.
    fn hold_frontends(
        &mut self,
        name: &ObjectName,
        planned: &mut Programmed,
        before: Option<&Programmed>,
        batch: &mut Batch,
    ) {
        let before_frontends = before.map_or(&[][..], |b| &b.frontends);
        for (key, entry) in std::mem::take(&mut planned.frontends) {
            if !self.acquire(name, &key, batch) {
                continue;
            }
            if !before_frontends.contains(&(key, entry)) {
                batch.frontends.push((key, entry));
            }
            planned.frontends.push((key, entry));
        }
    }

    /// Frees backends and tables that `planned` no longer needs.
    fn free_unused(&mut self, planned: &Programmed, before: &Programmed, batch: &mut Batch) {
        let kept: HashSet<_> = planned.slots.iter().collect();
        for slot in &before.slots {
            if !kept.contains(slot) {
                self.free_backend(planned.protocol, *slot, batch);
            }
        }
        for (old, new) in [
            (before.cluster_table, planned.cluster_table),
            (before.local_table, planned.local_table),
        ] {
            if old != new {
                self.slab.free(old);
            }
        }
    }

    /// Frees everything but the frontends.
    fn remove_service(&mut self, gone: &Programmed, batch: &mut Batch) {
        for slot in &gone.slots {
            self.free_backend(gone.protocol, *slot, batch);
        }
        self.slab.free(gone.cluster_table);
        self.slab.free(gone.local_table);
        self.ids.free(gone.id);
        batch.removed_infos.push(gone.id);
    }

    /// Makes `name` the owner of a frontend, unless one that sorts before it holds it.
    fn acquire(&mut self, name: &ObjectName, key: &FrontendKey, batch: &mut Batch) -> bool {
        match self.owners.get(key) {
            Some(owner) if owner == name => true,
            Some(owner) if owner < name => {
                warn!(service = %name, holder = %owner, address = %key.addr.to_ip(),
                    port = key.port.get(), "address and port are held by another Service");
                self.waiting.entry(*key).or_default().insert(name.clone());
                false
            }
            Some(owner) => {
                let owner = owner.clone();
                warn!(service = %name, holder = %owner, address = %key.addr.to_ip(),
                    port = key.port.get(), "address and port are taken over from another Service");
                for programmed in self.services.get_mut(&owner).into_iter().flatten() {
                    programmed.frontends.retain(|(held, _)| held != key);
                }
                self.waiting.entry(*key).or_default().insert(owner);
                self.owners.insert(*key, name.clone());
                true
            }
            None => {
                if let Some(bit) = self.filter.add(key) {
                    batch.set_filter_bit(bit);
                }
                batch.keep_frontend(key);
                self.owners.insert(*key, name.clone());
                if let Some(waiting) = self.waiting.get_mut(key) {
                    waiting.remove(name);
                    if waiting.is_empty() {
                        self.waiting.remove(key);
                    }
                }
                true
            }
        }
    }

    fn drop_frontend(&mut self, name: &ObjectName, key: &FrontendKey, batch: &mut Batch) {
        if self.owners.get(key) != Some(name) {
            return;
        }
        self.owners.remove(key);
        batch.filter_cleared.extend(self.filter.remove(key));
        batch.removed_frontends.push(*key);
        if let Some(waiting) = self.waiting.remove(key) {
            batch.replan.extend(waiting);
        }
    }

    fn free_backend(&mut self, protocol: Protocol, slot: u32, batch: &mut Batch) {
        let entry = self.backend(slot);
        let freed = BackendEntry { flags: 0, ..entry };
        if protocol == Protocol::Udp && stops_serving(&entry, &freed) {
            batch.gone.push(gone(slot, &entry));
        }
        self.set_backend(slot, freed);
        batch.freed_backends.push((slot, freed));
        self.slots.free(slot);
    }

    /// Undoes a failed plan. What was never published needs no quarantine; with one,
    /// whoever waits for quarantines to end before growing the maps would wait forever.
    fn give_back(&mut self, taken: Taken) {
        for id in taken.ids {
            self.ids.give_back(id);
        }
        for slot in taken.slots {
            self.slots.give_back(slot);
        }
        for table in taken.tables {
            self.slab.give_back(table);
        }
        for (slot, entry) in taken.changed {
            self.set_backend(slot, entry);
        }
    }

    /// A full `SERVICES` map would show only while applying: look before. What the batch
    /// removes still takes room while it is applied, as do orphans until the sweep.
    fn check_room(&self, desired: &[DesiredService], batch: &Batch) -> Result<(), NoRoom> {
        let new = desired
            .iter()
            .flat_map(|service| service.frontends.iter().map(move |f| (service, f)))
            .filter(|(service, f)| {
                let none = (TableRef::EMPTY, TableRef::EMPTY);
                let (key, _) = encode::frontend(f, service.key.protocol, 0, 0, none);
                !self.owners.contains_key(&key)
            })
            .count();
        let present =
            self.owners.len() + batch.removed_frontends.len() + self.orphan_frontends as usize;
        if present + new <= self.max_frontends as usize {
            Ok(())
        } else {
            Err(NoRoom {
                needed: needs(desired),
                slab: false,
            })
        }
    }
}

fn stops_serving(before: &BackendEntry, after: &BackendEntry) -> bool {
    before.keeps_flows() && !after.keeps_flows()
}

fn gone(slot: u32, entry: &BackendEntry) -> GoneBackend {
    GoneBackend {
        slot,
        generation: entry.generation,
        addr: entry.addr.to_ip(),
        port: entry.port.get(),
    }
}

/// What `desired` needs from nothing.
pub fn needs(desired: &[DesiredService]) -> Usage {
    let mut usage = Usage {
        services: desired.len() as u32,
        ..Usage::default()
    };
    for service in desired {
        usage.frontends += service.frontends.len() as u32;
        usage.backends += service.backends.len() as u32;
        for set in [BackendSet::Cluster, BackendSet::Local] {
            let flag = match set {
                BackendSet::Cluster => BackendFlags::IN_CLUSTER_SET,
                BackendSet::Local => BackendFlags::IN_LOCAL_SET,
            };
            let members = service
                .backends
                .iter()
                .filter(|b| b.flags & flag != 0)
                .count();
            usage.maglev += match (members, service.pinned_len) {
                (0, _) => 0,
                (_, Some(len)) => len.max(table_len(members)),
                (n, None) => table_len(n),
            };
        }
    }
    usage
}

/// The Maglev identity of a backend: address and port in network order, the same on
/// every node.
fn maglev_key(backend: &BackendEntry) -> Key {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&backend.addr.octets());
    bytes[16..].copy_from_slice(&backend.port.get().to_be_bytes());
    Key::new(&bytes)
}

fn merge(batch: &mut Batch, writes: Batch) {
    batch.zones.extend(writes.zones);
    batch.reset_services.extend(writes.reset_services);
    batch.reset_backends.extend(writes.reset_backends);
    batch.backends.extend(writes.backends);
    batch.tables.extend(writes.tables);
    batch.infos.extend(writes.infos);
    batch.gone.extend(writes.gone);
}
