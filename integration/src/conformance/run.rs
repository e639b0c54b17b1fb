//! Runs one case and says how it went.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{Case, Scenario, Site};
use crate::panics::catch;

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every promise was kept.
    Passed,
    /// One was broken, or the site failed.
    Failed {
        /// What the case found.
        message: String,
        /// What the site says about it.
        explanation: String,
    },
    /// It was not run, for this reason.
    Skipped(String),
}

/// Held by all cases that run; for writing, by one that must be alone.
static RUNNING: RwLock<()> = RwLock::new(());

/// Runs `case` in a namespace of its own, if the site has what it needs.
pub fn run(case: &Case, site: &Arc<dyn Site>) -> (Outcome, Duration) {
    if let Some(reason) = case.unmet_at(site.as_ref()) {
        return (Outcome::Skipped(reason), Duration::ZERO);
    }
    if case.is_alone() {
        let _alone = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
        run_prepared(case, site)
    } else {
        let _beside_others = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
        run_prepared(case, site)
    }
}

fn run_prepared(case: &Case, site: &Arc<dyn Site>) -> (Outcome, Duration) {
    let start = Instant::now();
    let scenario = Scenario::new(case, Arc::clone(site));
    let prepare_and_run = || {
        for &need in case.needs {
            site.prepare(need)
                .expect("the site prepares what it offers");
        }
        (case.run)(&scenario);
    };
    let outcome = match catch(prepare_and_run) {
        Ok(()) => Outcome::Passed,
        Err(caught) => Outcome::Failed {
            message: caught.message,
            explanation: [caught.notes, scenario.explain()].concat(),
        },
    };
    drop(scenario);
    (outcome, start.elapsed())
}
