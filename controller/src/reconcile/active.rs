//! A datapath in force, and how Services get into it.
//!
//! Work is planned and written chunk by chunk. Where there is no room, quarantined indices
//! are released or the maps grow; what can do neither starves alone.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, error, warn};

use super::{Outcome, ReconcileError, Target, desired_of};
use crate::{
    desired::{DesiredService, NoLocal, NoLocalTotal},
    metrics,
    model::{IpNet, ObjectName, Settings},
    plan::{Batch, NoRoom, Orphans, Planner, Retired},
    store::Store,
};

/// Services planned before their writes are applied: bounds the memory of a batch.
const SERVICES_AT_A_TIME: usize = 256;

/// A datapath and the mirror of what it holds.
#[derive(Debug)]
pub(super) struct Active<T> {
    pub(super) datapath: T,
    pub(super) planner: Planner,
    /// What a crash left behind, until the first complete reconciliation.
    orphans: Option<Orphans>,
    /// A batch that was planned, but not (completely) written.
    pending: Option<Batch>,
    /// Services left to plan after a failure.
    unfinished: BTreeSet<ObjectName>,
    /// Services of which not everything fits into a map that cannot grow, and that map.
    starved: BTreeMap<ObjectName, &'static str>,
    /// Service ports that a policy keeps from serving here.
    no_local: NoLocalTotal,
    /// Zone id of this node.
    pub(super) zone: u16,
    /// Whether everything has been programmed and put into force at least once.
    pub(super) synced: bool,
}

impl<T: Target> Active<T> {
    pub(super) fn new(datapath: T, mut planner: Planner, orphans: Option<Orphans>) -> Self {
        planner.limit(datapath.limits());
        Self {
            datapath,
            planner,
            orphans,
            pending: None,
            unfinished: BTreeSet::new(),
            starved: BTreeMap::new(),
            no_local: NoLocalTotal::default(),
            zone: 0,
            synced: false,
        }
    }

    /// Whether there is something to do even if no object changes.
    pub(super) fn has_work(&self) -> bool {
        !self.synced || self.pending.is_some() || !self.unfinished.is_empty()
    }

    /// Services to look at: what has changed, and what a failure has left; the first time
    /// everything that exists or is programmed.
    pub(super) fn due(&mut self, store: &mut Store) -> BTreeSet<ObjectName> {
        let mut names = store.take_dirty();
        names.append(&mut self.unfinished);
        if !self.synced {
            names.extend(store.services().map(|(name, _)| name.clone()));
            names.extend(self.planner.programmed().cloned());
        }
        names
    }

    /// Makes the maps as desired for what is [due](Self::due), and for what has starved so
    /// far.
    pub(super) fn update(
        &mut self,
        mut names: BTreeSet<ObjectName>,
        store: &Store,
        settings: Settings,
        outcome: &mut Outcome,
    ) -> Result<(), ReconcileError> {
        let desired_of = |name: &ObjectName| desired_of(store, settings, name);
        let was_starved = std::mem::take(&mut self.starved);
        names.extend(was_starved.keys().cloned());
        let result = self
            .set_zone(store, outcome)
            .and_then(|()| self.run(&desired_of, &mut names, outcome));
        self.unfinished = names;
        result?;
        // What was removed may have made room.
        let mut again = self.starved.keys().cloned().collect();
        self.starved.clear();
        let result = self.run(&desired_of, &mut again, outcome);
        self.unfinished = again;
        result?;
        outcome.starved = self.newly_starved(&was_starved);
        outcome.no_local = self.no_local.total();
        if let Some(orphans) = self.orphans.take() {
            let mut batch = Batch::default();
            self.planner.sweep(orphans, &mut batch);
            self.write(batch, outcome)?;
        }
        Ok(())
    }

    /// Has packets to addresses of these ServiceCIDRs that no Service has dropped (rule E3).
    pub(super) fn guard(&mut self, cidrs: &[IpNet]) {
        if !self.planner.set_service_cidrs(cidrs) {
            warn!(
                "more ServiceCIDRs than can be guarded: in the narrowest, packets to ClusterIPs \
                 that no Service has are left to routing"
            );
        }
    }

    /// No flow of these frontends is left: shuts their packets out.
    pub(super) fn retire_done(&mut self, done: &[Retired]) -> Result<(), ReconcileError> {
        // Writes keep their order: what is pending may be about these frontends.
        if self.pending.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        self.planner.retire_done(done, &mut batch);
        self.write(batch, &mut Outcome::default())
    }

    /// Lets freed indices be used again, if a grace period is worth its time.
    pub(super) fn idle(&mut self) {
        if self.pending.is_none() && self.planner.has_quarantined() {
            self.datapath.grace_period();
            self.planner.release();
        }
    }

    /// Writes what is pending, and gives this node's zone a number.
    fn set_zone(&mut self, store: &Store, outcome: &mut Outcome) -> Result<(), ReconcileError> {
        if let Some(batch) = self.pending.take() {
            self.write(batch, outcome)?;
        }
        let mut batch = Batch::default();
        self.zone = self.planner.zone_id(store.node().zone.as_ref(), &mut batch);
        self.write(batch, outcome)
    }

    /// Plans and writes `names`, chunk by chunk; removes from `names` what is planned.
    fn run(
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
            self.datapath.grace_period();
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
    fn newly_starved(
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
    fn write(&mut self, mut batch: Batch, outcome: &mut Outcome) -> Result<(), ReconcileError> {
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
