//! The reconciler: store → desired → plan → datapath.
//!
//! Work is proportional to the Services that changed. Nothing is written before both
//! kinds of objects have been listed (rule K1). A write that fails is repeated as it
//! is, before anything else is planned; no Service is skipped for another's sake.

mod active;
mod health_checks;
mod target;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use tracing::info;

use self::{active::Active, health_checks::WantedChecks, target::Target};

use crate::{
    apply::ApplyError,
    datapath::{Datapath, DatapathError, Place, Repairs, now_unix_ns},
    desired::{DesiredService, HealthCheck, NoLocal, desired},
    devices::Inventory,
    metrics,
    model::{Event, Family, ObjectName, Settings},
    plan::{GoneBackend, Planner, Retired, Usage, needs},
    store::Store,
    sys,
};
use lb_ebpf::abi::{Collected, StatusFlags};

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
    /// Whether every Service was planned.
    pub full: bool,
    /// Whether [`Reconciler::health_checks`] is another than the last time.
    pub health_checks: bool,
    /// Services of which not everything fits into a map, and that map, as far as it was
    /// not so before.
    pub starved: Vec<(ObjectName, &'static str)>,
    /// When the changes of EndpointSlices began that are in force now (rule J21).
    pub triggers: Vec<(Family, u64)>,
    /// Service ports that a policy keeps from serving here (rule J24).
    pub no_local: NoLocal,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Reconciler {
    store: Store,
    settings: Settings,
    /// Where to create a datapath; `None` once there is one.
    place: Option<Place>,
    active: Option<Active<Datapath>>,
    /// Gone backends that nobody was told of, because a later write failed.
    gone: Vec<GoneBackend>,
    /// Servers that Services need on this node.
    health_checks: WantedChecks,
    /// Changes that are not in force yet.
    triggers: Vec<(Family, u64)>,
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
            gone: Vec::new(),
            health_checks: WantedChecks::default(),
            triggers: Vec::new(),
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

    /// Puts back what others have taken away from the datapath (rule K5).
    pub fn repair(&mut self) -> Result<Repairs, DatapathError> {
        let active = self.active.as_mut();
        active.map_or_else(|| Ok(Repairs::default()), |a| a.datapath.repair())
    }

    /// Whether a reconciliation would do anything.
    pub fn has_work(&self) -> bool {
        self.store.synced()
            && (self.store.has_dirty()
                || self.store.has_cidrs_dirty()
                || self.active.as_ref().is_none_or(Active::has_work))
    }

    /// Whether everything has been listed and programmed at least once.
    pub fn synced(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.synced)
    }

    /// The servers that Services need on this node (rule J1).
    pub fn health_checks(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        self.health_checks.get()
    }

    /// Where these servers listen (rule J7).
    pub fn health_check_addresses(&self) -> Vec<IpAddr> {
        let active = self.active.as_ref().map(|active| active.datapath.place());
        let place = self.place.as_ref().or(active);
        place.map_or_else(Vec::new, |place| place.network.health_check_addresses())
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
        let active = self.active.as_mut();
        active.map_or(Ok(()), |active| active.retire_done(done))
    }

    /// Has the status say what the collector of flows has done.
    pub fn collected(&self, totals: Collected) {
        if let Some(active) = &self.active {
            active.datapath.write_status(|status| status.flows = totals);
        }
    }

    /// Lets freed indices be used again, if a grace period is worth its time now.
    pub fn idle(&mut self) {
        if let Some(active) = &mut self.active {
            active.idle();
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
        self.gone.append(&mut outcome.gone);
        if result.is_ok() {
            outcome.gone = std::mem::take(&mut self.gone);
            outcome.triggers = std::mem::take(&mut self.triggers);
            outcome.health_checks = self.health_checks.take_changed();
        }
        metrics::reconciled(started.elapsed(), &outcome, result.is_ok());
        result.map(|()| outcome)
    }

    fn reconcile_into(&mut self, outcome: &mut Outcome) -> Result<(), ReconcileError> {
        if !self.store.synced() {
            return Ok(());
        }
        if let Some(place) = self.place.take() {
            self.create(place)?;
        }
        self.triggers.append(&mut self.store.take_triggers());
        let cidrs_changed = self.store.take_cidrs_dirty();
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let first = !active.synced;
        if cidrs_changed || first {
            active.guard(&self.store.service_cidrs());
        }
        let names = active.due(&mut self.store);
        outcome.full = self.store.services().all(|(name, _)| names.contains(name));
        self.health_checks.look(&self.store, &names);
        active.update(names, &self.store, self.settings, outcome)?;
        let ranges = if self.settings.reject_undefined_ports {
            active.planner.service_ranges()
        } else {
            Vec::new()
        };
        active.datapath.write_service_ranges(&ranges);
        active.datapath.refresh_network()?;
        active.datapath.publish()?;
        active.synced = true;
        if first {
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

    /// Creates a datapath with room for every Service; it takes no traffic yet.
    fn create(&mut self, place: Place) -> Result<(), DatapathError> {
        let mut needed = Usage::default();
        for (name, _) in self.store.services() {
            needed += needs(&desired_of(&self.store, self.settings, name));
        }
        let (datapath, capacity) = Datapath::create(place, needed)?;
        let planner = Planner::new(capacity);
        self.active = Some(Active::new(datapath, planner, None));
        Ok(())
    }

    fn write_status(&self, ok: bool) {
        let Some(active) = &self.active else { return };
        let usage = active.planner.usage();
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
            if active.synced {
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
