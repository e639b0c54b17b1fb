//! What holds for any sequence of changes, and for a crash anywhere in it.

use std::collections::HashMap;

use proptest::{collection::vec, option, prelude::*};

use super::{
    build::arbitrary_change,
    driver::{Desired, Driver, ROOMY, from_scratch},
    memory::writes,
};
use crate::plan::{Batch, Planner};

fn steps() -> impl Strategy<Value = Vec<(Desired, bool)>> {
    vec((arbitrary_change(), any::<bool>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// The way to a state leaves no trace: neither in what clients and tools see, nor in
    /// what is in use. (`change` checks the state after each single write.)
    #[test]
    fn any_history_ends_in_the_state_planned_from_scratch(steps in steps()) {
        let mut driver = Driver::new(ROOMY);
        for (change, release) in steps {
            driver.change(change);
            if release {
                driver.release();
            }
        }
        driver.retire();
        let mut scratch = from_scratch(&driver.desired);
        prop_assert_eq!(driver.memory.plain(), scratch.memory.plain());
        prop_assert_eq!(&driver.memory.filter, &scratch.memory.filter);
        prop_assert_eq!(&driver.memory.node_ports, &scratch.memory.node_ports);
        prop_assert_eq!(driver.used(), scratch.used());
    }

    #[test]
    fn planning_what_is_programmed_writes_nothing(steps in steps()) {
        let mut driver = Driver::new(ROOMY);
        for (change, _) in steps {
            driver.change(change);
        }
        let again = driver.plan(driver.desired.clone());
        prop_assert_eq!(again, Batch::default());
    }

    #[test]
    fn two_runs_from_nothing_are_byte_identical(change in arbitrary_change()) {
        let (mut first, mut second) = (Driver::new(ROOMY), Driver::new(ROOMY));
        prop_assert_eq!(first.change(change.clone()), second.change(change));
        prop_assert_eq!(first.memory, second.memory);
    }

    /// Cut off after any write, read back, planned as is desired by then: the same state as
    /// from scratch, and nothing is left behind.
    #[test]
    fn crash_at_any_write_converges(
        steps in steps(),
        cut in any::<prop::sample::Index>(),
        meanwhile in option::of(arbitrary_change()),
    ) {
        let mut driver = Driver::new(ROOMY);
        let (last, before) = steps.split_last().expect("at least one");
        for (change, release) in before {
            driver.change(change.clone());
            if *release {
                driver.release();
            }
        }
        let batch = driver.plan(last.0.clone());
        let writes = writes(&batch);
        for write in &writes[..cut.index(writes.len() + 1)] {
            driver.memory.write(write);
        }
        driver.memory.check();
        driver.desired.extend(meanwhile.into_iter().flatten());

        let (planner, orphans) = Planner::restore(ROOMY, driver.memory.snapshot());
        let mut restored = Driver::with(planner, driver.memory);
        for (word, bits) in restored.planner.filter_words() {
            *restored.memory.filter.entry(word).or_default() |= bits;
        }
        for (word, bits) in restored.planner.node_port_words() {
            *restored.memory.node_ports.entry(word).or_default() |= bits;
        }
        let mut everything: Desired =
            restored.planner.programmed().map(|name| (name.clone(), Vec::new())).collect();
        everything.extend(driver.desired.clone());
        restored.change_unsettled(everything);
        let mut sweep = Batch::default();
        restored.planner.sweep(orphans, &mut sweep);
        restored.memory.apply(&sweep);
        restored.memory.check_settled();

        let mut scratch = from_scratch(&driver.desired);
        prop_assert_eq!(restored.memory.plain(), scratch.memory.plain());
        prop_assert_eq!(restored.used(), scratch.used());
        let again = restored.plan(driver.desired);
        prop_assert_eq!(again, Batch::default());
    }

    /// A restart without a crash leaves frontends and backends alone and writes tables
    /// only with what they hold already. The bits that let packets in are known from it.
    #[test]
    fn restart_changes_nothing(steps in steps()) {
        let mut driver = Driver::new(ROOMY);
        for (change, _) in steps {
            driver.change(change);
        }
        driver.retire();
        let (mut planner, orphans) = Planner::restore(ROOMY, driver.memory.snapshot());
        let bits = driver.memory.filter.clone().into_iter().collect::<HashMap<_, _>>();
        prop_assert_eq!(planner.filter_words(), bits);
        let bits = driver.memory.node_ports.clone().into_iter().collect::<HashMap<_, _>>();
        prop_assert_eq!(planner.node_port_words(), bits);
        let mut batch = Batch::default();
        for (name, wanted) in &driver.desired {
            planner.plan(name, wanted, &mut batch).expect("room");
        }
        planner.sweep(orphans, &mut batch);
        let mut after = driver.memory.clone();
        after.apply(&batch);
        prop_assert_eq!(&after, &driver.memory);
        batch.tables.clear();
        prop_assert!(batch.is_empty(), "{:?}", batch);
    }
}
