//! Backends and tables of one service: slots, flags, and who owns which entries.

use std::cmp::Ordering;

use lb_ebpf::abi::{Addr, BackendEntry, BackendFlags, Port, TableRef};
use maglev::{Entry, Key, table_len};
use tracing::warn;

use super::{Batch, GoneBackend, Planner, Programmed, service::Taken};
use crate::{
    desired::{DesiredBackend, DesiredService},
    model::Protocol,
};

/// What becomes of a service's backends.
pub(super) struct Backends {
    pub(super) slots: Vec<u32>,
    /// Whether the members of the cluster set or the local set change.
    pub(super) sets_changed: (bool, bool),
}

impl Planner {
    /// Merges the sorted lists of backends.
    pub(super) fn plan_backends(
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
    pub(super) fn plan_table(
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
        let len = len_of_table(members.len(), pinned);
        if len == 0 {
            return Some(TableRef::EMPTY);
        }
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

    pub(super) fn free_backend(&mut self, protocol: Protocol, slot: u32, batch: &mut Batch) {
        let entry = self.backend(slot);
        let freed = BackendEntry { flags: 0, ..entry };
        if protocol == Protocol::Udp && stops_serving(&entry, &freed) {
            batch.gone.push(gone(slot, &entry));
        }
        self.set_backend(slot, freed);
        batch.freed_backends.push((slot, freed));
        self.slots.free(slot);
    }
}

/// Entries of the table over `members` backends.
pub(super) fn len_of_table(members: usize, pinned: Option<u32>) -> u32 {
    match (members, pinned) {
        (0, _) => 0,
        // More backends than a pinned length has entries: some would get none.
        (n, Some(len)) if len as usize >= n => len,
        (n, _) => table_len(n),
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

/// The Maglev identity of a backend: address and port in network order, the same on
/// every node.
fn maglev_key(backend: &BackendEntry) -> Key {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&backend.addr.octets());
    bytes[16..].copy_from_slice(&backend.port.get().to_be_bytes());
    Key::new(&bytes)
}
