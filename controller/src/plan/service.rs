//! The difference between one Service as desired and as programmed.

use std::collections::HashSet;

use lb_ebpf::abi::{BackendEntry, BackendFlags, TableRef};
use tracing::warn;

use super::{
    Batch, NoRoom, Planner, Programmed, Usage,
    backends::len_of_table,
    encode::{self, Attributes},
};
use crate::{desired::DesiredService, model::ObjectName};

/// Indices allocated while planning one Service, to be given back if it fails.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ids: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) tables: Vec<TableRef>,
    /// Elements of the mirror of `BACKENDS` as they were before they were changed.
    pub(super) changed: Vec<(u32, BackendEntry)>,
    /// No free region of the slab was long enough.
    pub(super) slab_failed: bool,
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
        self.check_room(name, desired, batch)?;
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
        self.plan_frontends(name, &mut new, &old, batch);
        for (planned, service) in new.iter().zip(desired) {
            self.plan_members(name, service, planned, batch);
        }
        for before in old {
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
        self.drop_members(gone.id, batch);
        batch.removed_infos.push(gone.id);
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
        for set in [BackendFlags::IN_CLUSTER_SET, BackendFlags::IN_LOCAL_SET] {
            let members = service.backends.iter().filter(|b| b.flags & set != 0);
            usage.maglev += len_of_table(members.count(), service.pinned_len);
        }
    }
    usage
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
