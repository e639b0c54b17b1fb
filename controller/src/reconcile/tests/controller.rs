//! A controller over maps in memory: what `Reconciler` is over the kernel's.

use super::{
    super::{Outcome, ReconcileError, active::Active, desired_of},
    cluster::{Cluster, NODE},
    dump,
    player::{Player, Seen},
    target::{Faults, Maps},
};
use crate::{
    convert::Converter,
    desired::DesiredService,
    model::{Event, ObjectName, Settings},
    plan::{Capacity, Planner, tests::memory::Memory},
    store::Store,
};

/// Most failures in a row that a test waits through.
const PATIENCE: usize = 100;

/// What follows a write that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Another try.
    Retry,
    /// The end of the process, and another one.
    Restart,
}

/// See the module's documentation.
pub(super) struct Controller {
    pub(super) settings: Settings,
    converter: Converter,
    store: Store,
    active: Active<Maps>,
    then: Then,
    restarted: bool,
}

impl Controller {
    /// One that finds nothing programmed.
    pub(super) fn new(capacity: Capacity, faults: Faults, then: Then) -> Self {
        let maps = Maps::new(capacity, faults);
        Self {
            settings: Settings::default(),
            converter: Converter::new(NODE),
            store: Store::new(),
            active: Active::new(maps, Planner::new(capacity), None),
            then,
            restarted: false,
        }
    }

    /// The maps that programming `cluster` from nothing at once gives.
    pub(super) fn from_scratch(cluster: &Cluster, settings: Settings) -> Self {
        let roomy = Capacity {
            services: 1 << 10,
            frontends: 1 << 12,
            backends: 1 << 12,
            maglev: 1 << 20,
        };
        let mut scratch = Self::new(roomy, Faults::Never, Then::Retry);
        scratch.settings = settings;
        scratch.relist(cluster);
        scratch.reconcile(cluster);
        scratch
    }

    pub(super) const fn restarted(&self) -> bool {
        self.restarted
    }

    fn update(&mut self) -> Result<(), ReconcileError> {
        let names = self.active.due(&mut self.store);
        let outcome = &mut Outcome::default();
        self.active
            .update(names, &self.store, self.settings, outcome)
    }

    pub(super) fn has_work(&self) -> bool {
        self.store.has_dirty() || self.active.has_work()
    }

    pub(super) fn maps(&mut self) -> &mut Maps {
        &mut self.active.datapath
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.active.datapath.memory
    }

    /// What is desired, Service by Service.
    pub(super) fn desired(&self) -> Vec<DesiredService> {
        desired_by(&self.store, self.settings)
    }
}

/// What is desired of everything in a store, Service by Service.
pub(super) fn desired_by(store: &Store, settings: Settings) -> Vec<DesiredService> {
    let mut names: Vec<&ObjectName> = store.services().map(|(name, _)| name).collect();
    names.sort();
    let of = |name| desired_of(store, settings, name);
    names.into_iter().flat_map(of).collect()
}

impl Player for Controller {
    fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn converter(&mut self) -> &mut Converter {
        &mut self.converter
    }

    fn observe(&mut self, event: Event) {
        self.store.apply(event);
    }

    fn restart(&mut self, cluster: &Cluster) {
        let maps = std::mem::replace(
            &mut self.active.datapath,
            Maps::new(super::target::TINY, Faults::Never),
        );
        let (planner, orphans) = Planner::restore(maps.capacity, maps.memory.snapshot());
        self.active = Active::new(maps, planner, Some(orphans));
        let (planner, memory) = (&self.active.planner, &mut self.active.datapath.memory);
        for (word, bits) in planner.filter_words() {
            *memory.filter.entry(word).or_default() |= bits;
        }
        for (word, bits) in planner.node_port_words() {
            *memory.node_ports.entry(word).or_default() |= bits;
        }
        memory.check();
        self.restarted = true;
        self.converter = Converter::new(NODE);
        self.store = Store::new();
        self.relist(cluster);
    }

    fn reconcile(&mut self, cluster: &Cluster) {
        for _ in 0..PATIENCE {
            if self.update().is_ok() {
                self.active.synced = true;
                self.active.datapath.memory.check_settled();
                return;
            }
            if self.then == Then::Restart {
                self.restart(cluster);
            }
        }
        panic!("never done");
    }

    fn idle(&mut self) {
        self.active.idle();
        let retired: Vec<_> = self.active.planner.retired().collect();
        while self.active.retire_done(&retired).is_err() {
            let _ = self.update();
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            desired: dump::desired(&self.desired()),
            maps: dump::maps(&dump::snapshot(self.memory())),
        }
    }
}
