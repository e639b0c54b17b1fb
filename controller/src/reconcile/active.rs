//! A datapath in force, and how Services get into it.
//!
//! Work is planned and written chunk by chunk. Where there is no room, quarantined indices
//! are released or the maps grow; what can do neither starves alone.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, error};

use super::{Outcome, ReconcileError};
use crate::{
    datapath::Datapath,
    desired::{DesiredService, NoLocal, NoLocalTotal},
    metrics,
    model::ObjectName,
    plan::{Batch, NoRoom, Orphans, Planner},
    store::Store,
    sys,
};

/// Services planned before their writes are applied: bounds the memory of a batch.
const SERVICES_AT_A_TIME: usize = 256;

/// A datapath and the mirror of what it holds.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) datapath: Datapath,
    pub(super) planner: Planner,
    /// What a crash left behind, until the first complete reconciliation.
    pub(super) orphans: Option<Orphans>,
    /// A batch that was planned, but not (completely) written.
    pub(super) pending: Option<Batch>,
    /// Services of which not everything fits into a map that cannot grow, and that map.
    pub(super) starved: BTreeMap<ObjectName, &'static str>,
    /// Service ports that a policy keeps from serving here.
    pub(super) no_local: NoLocalTotal,
    /// Zone id of this node.
    pub(super) zone: u16,
}

impl Active {
    pub(super) fn new(datapath: Datapath, mut planner: Planner, orphans: Option<Orphans>) -> Self {
        planner.limit(datapath.limits());
        Self {
            datapath,
            planner,
            orphans,
            pending: None,
            starved: BTreeMap::new(),
            no_local: NoLocalTotal::default(),
            zone: 0,
        }
    }

    /// Writes what is pending, and gives this node's zone a number.
    pub(super) fn set_zone(
        &mut self,
        store: &Store,
        outcome: &mut Outcome,
    ) -> Result<(), ReconcileError> {
        if let Some(batch) = self.pending.take() {
            self.write(batch, outcome)?;
        }
        let mut batch = Batch::default();
        self.zone = self.planner.zone_id(store.node().zone.as_ref(), &mut batch);
        self.write(batch, outcome)
    }

    /// Plans and writes `names`, chunk by chunk; removes from `names` what is planned.
    pub(super) fn run(
        &mut self,
        desired_of: &dyn Fn(&ObjectName) -> Vec<DesiredService>,
        names: &mut BTreeSet<ObjectName>,
        outcome: &mut Outcome,
    ) -> Result<(), ReconcileError> {
        while !names.is_empty() {
            let mut batch = Batch::default();
            for _ in 0..SERVICES_AT_A_TIME {
                let Some(name) = names.first().cloned() else {
                    break;
                };
                let wanted = desired_of(&name);
                if let Err(no_room) = self.planner.plan(&name, &wanted, &mut batch) {
                    if batch.is_empty() {
                        self.make_room(no_room)?;
                    } else {
                        // What is planned so far must be written before anything moves,
                        // and its deletions may make the room that lacks.
                        self.write(std::mem::take(&mut batch), outcome)?;
                    }
                    continue;
                }
                self.no_local.set(&name, NoLocal::of(&wanted));
                names.remove(&name);
                outcome.services += 1;
                names.append(&mut batch.replan);
                self.starved.append(&mut batch.starved);
            }
            self.write(batch, outcome)?;
        }
        Ok(())
    }

    /// Ends a quarantine if there is one, else grows the maps.
    fn make_room(&mut self, no_room: NoRoom) -> Result<(), ReconcileError> {
        if self.planner.has_quarantined() {
            sys::grace_period();
            self.planner.release();
            return Ok(());
        }
        let capacity = self.datapath.grow(self.planner.usage(), no_room)?;
        self.planner.grow(capacity);
        metrics::grown();
        Ok(())
    }

    /// Which Services lack room in maps that cannot grow, and did not before: said once.
    /// They are tried again with every change.
    pub(super) fn newly_starved(
        &self,
        before: &BTreeMap<ObjectName, &'static str>,
    ) -> Vec<(ObjectName, &'static str)> {
        let starved = self.starved.iter().map(|(name, map)| (name.clone(), *map));
        let new = starved.filter(|(name, map)| before.get(name) != Some(map));
        new.inspect(|(service, map)| {
            error!(%service, map, "the map is full: what does not fit is not admitted");
        })
        .collect()
    }

    /// Writes a batch; keeps it for the next time if that fails.
    pub(super) fn write(
        &mut self,
        mut batch: Batch,
        outcome: &mut Outcome,
    ) -> Result<(), ReconcileError> {
        if let Err(error) = self.datapath.apply(&batch) {
            error!(%error, full = error.is_full(), "a write failed and will be repeated");
            self.pending = Some(batch);
            return Err(error.into());
        }
        debug!(writes = batch.len(), "wrote a batch");
        outcome.writes += batch.len();
        outcome.gone.append(&mut batch.gone);
        Ok(())
    }
}
