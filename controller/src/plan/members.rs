//! What belongs to one service in the maps that never grow: the sources that it admits,
//! and, under DSR, its backends on this node.

use lb_ebpf::abi::{Addr, BackendFlags, LocalBackendKey, SourceRange, SourceRangeKey, map};

use super::{Batch, Planner, Programmed, encode};
use crate::{
    desired::{DesiredService, Forwarding},
    model::ObjectName,
};

/// A prefix of `SOURCE_RANGES` without its service.
pub(super) type Prefix = (u32, Addr);

/// The key of a prefix of service `id`.
fn range_key(id: u32, (prefix_len, addr): Prefix) -> SourceRangeKey {
    let service_id = id;
    SourceRangeKey {
        prefix_len,
        range: SourceRange { service_id, addr },
    }
}

impl Planner {
    /// Adds what `planned` needs; nothing can fail.
    pub(super) fn plan_members(
        &mut self,
        name: &ObjectName,
        desired: &DesiredService,
        planned: &Programmed,
        batch: &mut Batch,
    ) {
        let ranges = desired.source_ranges.iter().map(encode::prefix).collect();
        if self.change_ranges(planned.id, ranges, batch) {
            batch.starved.insert(name.clone(), map::SOURCE_RANGES);
        }
        // Other nodes may choose any endpoint of this one: their hints and their view of
        // its conditions differ from ours.
        let mut locals = Vec::new();
        if desired.forwarding == Forwarding::Dsr {
            let backends = planned
                .slots
                .iter()
                .map(|slot| (*slot, self.backend(*slot)));
            let local = backends.filter(|(_, backend)| backend.has(BackendFlags::LOCAL));
            locals.extend(local.map(|(slot, backend)| (backend.addr, slot)));
        }
        if self.change_local_backends(planned.id, locals, batch) {
            batch.starved.insert(name.clone(), map::LOCAL_BACKENDS);
        }
    }

    /// Removes everything of service `id`.
    pub(super) fn drop_members(&mut self, id: u32, batch: &mut Batch) {
        self.change_ranges(id, Vec::new(), batch);
        self.change_local_backends(id, Vec::new(), batch);
    }

    /// Whether some did not fit.
    fn change_ranges(&mut self, id: u32, wanted: Vec<(Prefix, ())>, batch: &mut Batch) -> bool {
        let leaving = batch.removed_source_ranges.len();
        let change = self.source_ranges.change(id, wanted, leaving);
        for (prefix, ()) in change.put {
            let key = range_key(id, prefix);
            batch.removed_source_ranges.retain(|gone| *gone != key);
            batch.source_ranges.push(key);
        }
        let removed = change.removed.iter().map(|prefix| range_key(id, *prefix));
        batch.removed_source_ranges.extend(removed);
        change.full
    }

    /// Whether some did not fit. Of backends with one address, the first (lowest port)
    /// is written: the outer header of an encapsulated packet names no port.
    fn change_local_backends(
        &mut self,
        service_id: u32,
        wanted: Vec<(Addr, u32)>,
        batch: &mut Batch,
    ) -> bool {
        let leaving = batch.removed_local_backends.len();
        let change = self.local_backends.change(service_id, wanted, leaving);
        for (addr, slot) in change.put {
            let key = LocalBackendKey { addr, service_id };
            batch.removed_local_backends.retain(|gone| *gone != key);
            batch.local_backends.push((key, slot));
        }
        let removed = change.removed.into_iter();
        let removed = removed.map(|addr| LocalBackendKey { addr, service_id });
        batch.removed_local_backends.extend(removed);
        change.full
    }
}
