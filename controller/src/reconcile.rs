//! The reconciler: store → desired → plan → datapath.
//!
//! Work is proportional to the Services that changed. Nothing is written before both
//! kinds of objects have been listed (rule K1). A write that fails is repeated as it
//! is, before anything else is planned; no Service is skipped for another's sake.

mod active;

use std::{collections::BTreeSet, time::Instant};

use tracing::{info, warn};

use self::active::Active;

use crate::{
    apply::ApplyError,
    datapath::{Datapath, DatapathError, Place, now_unix_ns},
    desired::{DesiredService, desired},
    devices::Inventory,
    metrics,
    model::{Event, ObjectName, Settings},
    plan::{Batch, GoneBackend, Planner, Retired, Usage, needs},
    store::Store,
    sys,
};
use lb_ebpf::abi::StatusFlags;

/// Why a reconciliation did not complete. What is left is repeated by the next one.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The datapath.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A map refused a write.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// What one reconciliation did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Services that were planned.
    pub services: usize,
    /// Writes to maps.
    pub writes: usize,
    /// UDP backends that no longer serve (rule I7).
    pub gone: Vec<GoneBackend>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Reconciler {
    store: Store,
    settings: Settings,
    /// Where to create a datapath; `None` once there is one.
    place: Option<Place>,
    active: Option<Active>,
    /// Services left to plan after a failure.
    unfinished: BTreeSet<ObjectName>,
    /// Gone backends that nobody was told of, because a later write failed.
    gone: Vec<GoneBackend>,
    synced_once: bool,
}

impl Reconciler {
    /// Adopts what is programmed, if anything is.
    pub fn start(place: Place, settings: Settings) -> Result<Self, DatapathError> {
        let (place, active) = match Datapath::adopt(place)? {
            Err(place) => (Some(place), None),
            Ok((datapath, capacity, snapshot)) => {
                let (planner, orphans) = Planner::restore(capacity, snapshot);
                // Bits may be missing after a crash; stale ones do no harm, and flows of
                // frontends that are gone need them.
                let maps = datapath.maps();
                for (word, bits) in planner.filter_words() {
                    maps.filter.set(word, maps.filter.get(word) | bits);
                }
                for (word, bits) in planner.node_port_words() {
                    maps.node_ports.set(word, maps.node_ports.get(word) | bits);
                }
                let fresh = datapath.new_status();
                datapath.write_status(|status| {
                    let old = *status;
                    *status = fresh;
                    status.flags = StatusFlags::READY;
                    status.last_sync_at = old.last_sync_at;
                });
                (None, Some(Active::new(datapath, planner, Some(orphans))))
            }
        };
        Ok(Self {
            store: Store::new(),
            settings,
            place,
            active,
            unfinished: BTreeSet::new(),
            gone: Vec::new(),
            synced_once: false,
        })
    }

    /// Takes in an event; nothing is written yet.
    pub fn observe(&mut self, event: Event) {
        if let Event::Node(node) = &event {
            if let Some(place) = &mut self.place {
                place.network.observe_node(node);
            } else if let Some(active) = &mut self.active {
                active.datapath.observe_node(node);
            }
        }
        self.store.apply(event);
    }

    /// Takes in what this node's network looks like; the datapath follows at once.
    pub fn observe_network(&mut self, inventory: Inventory) -> Result<(), DatapathError> {
        if let Some(place) = &mut self.place {
            place.network.observe(inventory);
        } else if let Some(active) = &mut self.active {
            active.datapath.follow(inventory)?;
        }
        Ok(())
    }

    /// Whether a reconciliation would do anything.
    pub fn has_work(&self) -> bool {
        self.store.synced()
            && (!self.synced_once
                || self.store.has_dirty()
                || self.store.has_cidrs_dirty()
                || !self.unfinished.is_empty()
                || self
                    .active
                    .as_ref()
                    .is_some_and(|active| active.pending.is_some()))
    }

    /// Whether everything has been listed and programmed at least once.
    pub fn synced(&self) -> bool {
        self.synced_once
    }

    /// The datapath, once there is one.
    pub fn datapath(&self) -> Option<&Datapath> {
        self.active.as_ref().map(|active| &active.datapath)
    }

    /// What is programmed, in elements.
    pub fn usage(&self) -> Usage {
        self.active
            .as_ref()
            .map(|active| active.planner.usage())
            .unwrap_or_default()
    }

    /// Removed frontends whose packets are still let in; see [`Planner::retired`].
    pub fn retired(&self) -> Vec<Retired> {
        let planner = self.active.as_ref().map(|active| &active.planner);
        planner.into_iter().flat_map(Planner::retired).collect()
    }

    /// No flow of these is left: shuts their packets out.
    ///
    /// # Errors
    /// They could not be shut out yet; that is repeated by itself.
    pub fn retire_done(&mut self, done: &[Retired]) -> Result<(), ReconcileError> {
        // Writes keep their order: what is pending may be about these frontends.
        let Some(active) = self.active.as_mut().filter(|a| a.pending.is_none()) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        active.planner.retire_done(done, &mut batch);
        active.write(batch, &mut Outcome::default())
    }

    /// Lets freed indices be used again, if a grace period is worth its time now.
    pub fn idle(&mut self) {
        if let Some(active) = &mut self.active
            && active.pending.is_none()
            && active.planner.has_quarantined()
        {
            sys::grace_period();
            active.planner.release();
        }
    }

    /// Makes the datapath as desired.
    ///
    /// # Errors
    /// Whatever could not be written; call again later.
    pub fn reconcile(&mut self) -> Result<Outcome, ReconcileError> {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let result = self.reconcile_into(&mut outcome);
        self.write_status(result.is_ok());
        metrics::reconciled(started.elapsed(), &outcome, result.is_ok());
        self.gone.append(&mut outcome.gone);
        result.map(|()| {
            outcome.gone = std::mem::take(&mut self.gone);
            outcome
        })
    }

    fn reconcile_into(&mut self, outcome: &mut Outcome) -> Result<(), ReconcileError> {
        if !self.store.synced() {
            return Ok(());
        }
        let mut names = std::mem::take(&mut self.unfinished);
        names.append(&mut self.store.take_dirty());
        if !self.synced_once {
            names.extend(self.store.services().map(|(name, _)| name.clone()));
            if let Some(active) = &self.active {
                names.extend(active.planner.programmed().cloned());
            }
        }
        if let Some(place) = self.place.take() {
            self.create(place, &names)?;
        }
        let cidrs_changed = self.store.take_cidrs_dirty();
        if let Some(active) = &mut self.active
            && (cidrs_changed || !self.synced_once)
            && !active
                .planner
                .set_service_cidrs(&self.store.service_cidrs())
        {
            warn!(
                "more ServiceCIDRs than can be guarded: in the narrowest, packets to ClusterIPs that no Service has are left to routing"
            );
        }
        self.update(names, outcome)?;
        if !self.synced_once {
            self.synced_once = true;
            info!(
                services = outcome.services,
                writes = outcome.writes,
                "programmed the first time"
            );
            // Lists of thousands of objects have just been taken apart.
            sys::release_free_memory();
        }
        Ok(())
    }

    /// Creates a datapath with room for `names`; it takes no traffic yet.
    fn create(&mut self, place: Place, names: &BTreeSet<ObjectName>) -> Result<(), DatapathError> {
        let mut needed = Usage::default();
        for name in names {
            needed += needs(&desired_of(&self.store, self.settings, name));
        }
        let (datapath, capacity) = Datapath::create(place, needed)?;
        let planner = Planner::new(capacity);
        self.active = Some(Active::new(datapath, planner, None));
        Ok(())
    }

    fn update(
        &mut self,
        mut names: BTreeSet<ObjectName>,
        outcome: &mut Outcome,
    ) -> Result<(), ReconcileError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let (store, settings) = (&self.store, self.settings);
        let desired_of = |name: &ObjectName| desired_of(store, settings, name);
        let was_starved = std::mem::take(&mut active.starved);
        names.extend(was_starved.keys().cloned());
        let result = active
            .set_zone(store, outcome)
            .and_then(|()| active.run(&desired_of, &mut names, outcome));
        self.unfinished = names;
        result?;
        // What was removed may have made room.
        let mut again = active.starved.keys().cloned().collect();
        active.starved.clear();
        let result = active.run(&desired_of, &mut again, outcome);
        self.unfinished = again;
        result?;
        active.report_starved(&was_starved);
        if let Some(orphans) = active.orphans.take() {
            let mut batch = Batch::default();
            active.planner.sweep(orphans, &mut batch);
            active.write(batch, outcome)?;
        }
        let ranges = if settings.reject_undefined_ports {
            active.planner.service_ranges()
        } else {
            Vec::new()
        };
        active.datapath.write_service_ranges(&ranges);
        active.datapath.refresh_network()?;
        active.datapath.publish()?;
        Ok(())
    }

    fn write_status(&self, ok: bool) {
        let Some(active) = &self.active else { return };
        let usage = active.planner.usage();
        let synced = self.synced_once;
        active.datapath.write_status(|status| {
            status.frontends = usage.frontends;
            status.services = usage.services;
            status.backends = usage.backends;
            status.maglev_entries = usage.maglev;
            status.zone = u32::from(active.zone);
            if ok {
                status.syncs += 1;
                status.last_sync_at = now_unix_ns();
            } else {
                status.failed_syncs += 1;
            }
            if synced {
                status.flags |= StatusFlags::SYNCED;
            }
        });
    }
}

fn desired_of(store: &Store, settings: Settings, name: &ObjectName) -> Vec<DesiredService> {
    let Some(service) = store.service(name) else {
        return Vec::new();
    };
    let slices = store.slices_of(name);
    desired(name, service, &slices, store.node(), settings)
}
