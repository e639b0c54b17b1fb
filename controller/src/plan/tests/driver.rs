//! Drives a planner as the reconciler does, over maps in memory.

use std::collections::{BTreeMap, BTreeSet};

use lb_ebpf::abi::TableRef;

use super::memory::{Memory, Write, writes};
use crate::{
    desired::DesiredService,
    model::ObjectName,
    plan::{Batch, Capacity, Planner, Usage},
};

pub(super) const ROOMY: Capacity = Capacity {
    services: 64,
    frontends: 256,
    backends: 256,
    maglev: 1 << 16,
};

pub(super) type Desired = BTreeMap<ObjectName, Vec<DesiredService>>;

/// A planner, the maps that it plans for, and what is in quarantine.
pub(super) struct Driver {
    pub(super) planner: Planner,
    pub(super) memory: Memory,
    pub(super) desired: Desired,
    /// Slots freed since the last release.
    freed_slots: BTreeSet<u32>,
    /// Tables that programs may still read.
    seen_tables: Vec<TableRef>,
}

impl Driver {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self::with(Planner::new(capacity), Memory::default())
    }

    pub(super) fn with(planner: Planner, memory: Memory) -> Self {
        Self {
            planner,
            memory,
            desired: Desired::new(),
            freed_slots: BTreeSet::new(),
            seen_tables: Vec::new(),
        }
    }

    /// Plans `changes` in one batch, without applying it; grows as needed.
    pub(super) fn plan(&mut self, changes: Desired) -> Batch {
        let mut names: BTreeSet<_> = changes.keys().cloned().collect();
        self.desired.extend(changes);
        let mut batch = Batch::default();
        while let Some(name) = names.pop_first() {
            let wanted = self.desired.get(&name).cloned().unwrap_or_default();
            self.planner
                .plan(&name, &wanted, &mut batch)
                .expect("room for everything");
            names.append(&mut batch.replan);
        }
        batch
    }

    /// Plans and applies `changes`; checks every state on the way.
    pub(super) fn change(&mut self, changes: Desired) -> Batch {
        let batch = self.change_unsettled(changes);
        self.memory.check_settled();
        batch
    }

    /// The same where orphans of a crash are still about.
    pub(super) fn change_unsettled(&mut self, changes: Desired) -> Batch {
        let batch = self.plan(changes);
        check_len(&batch);
        self.check_quarantine(&batch);
        for write in writes(&batch) {
            self.memory.write(&write);
            self.memory.check();
        }
        for retired in self.planner.retired() {
            assert!(self.memory.lets_in(&retired.key), "{retired:?} is shut out");
        }
        self.freed_slots
            .extend(batch.freed_backends.iter().map(|(slot, _)| *slot));
        batch
    }

    /// No flow needs any removed frontend any more.
    pub(super) fn retire(&mut self) -> Batch {
        let retired: Vec<_> = self.planner.retired().collect();
        let mut batch = Batch::default();
        self.planner.retire_done(&retired, &mut batch);
        check_len(&batch);
        self.memory.apply(&batch);
        self.memory.check_settled();
        batch
    }

    pub(super) fn release(&mut self) {
        self.planner.release();
        self.freed_slots.clear();
        self.seen_tables.clear();
    }

    /// Nothing freed since the last release is used again.
    fn check_quarantine(&mut self, batch: &Batch) {
        let present: Vec<TableRef> = self
            .memory
            .infos
            .values()
            .flat_map(|info| [info.cluster_table, info.local_table])
            .collect();
        self.seen_tables.extend(&present);
        for slot in &batch.reset_backends {
            assert!(
                !self.freed_slots.contains(slot),
                "slot {slot} reused at once"
            );
        }
        for (table, _) in &batch.tables {
            let apart = |other: &TableRef| {
                table.offset() + table.len() <= other.offset()
                    || other.offset() + other.len() <= table.offset()
            };
            assert!(
                present.contains(table) || self.seen_tables.iter().all(apart),
                "{table:?} reuses a region at once"
            );
        }
    }

    /// Used by services, backends, tables and frontends, without what is in quarantine.
    pub(super) fn used(&mut self) -> Usage {
        self.release();
        self.planner.usage()
    }
}

/// A batch counts what it writes: whoever takes it for empty writes nothing.
fn check_len(batch: &Batch) {
    let stores = writes(batch);
    let of_tables = stores.iter().filter(|w| matches!(w, Write::Entry(..)));
    let resets = batch.reset_services.len() + batch.reset_backends.len();
    let len = stores.len() - of_tables.count() + batch.tables.len() + resets;
    assert_eq!(batch.len(), len);
    assert_eq!(batch.is_empty(), stores.is_empty());
}

/// The state that planning `desired` from nothing in one batch gives.
pub(super) fn from_scratch(desired: &Desired) -> Driver {
    let mut driver = Driver::new(ROOMY);
    driver.change(desired.clone());
    driver
}
