//! Runs one case and says how it went.

use std::{
    sync::Arc,
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

/// Runs `case` in a namespace of its own, if the site has what it needs.
pub fn run(case: &Case, site: &Arc<dyn Site>) -> (Outcome, Duration) {
    if let Some(reason) = case.unmet_at(site.as_ref()) {
        return (Outcome::Skipped(reason), Duration::ZERO);
    }
    let start = Instant::now();
    let scenario = Scenario::new(case, Arc::clone(site));
    let outcome = match catch(|| (case.run)(&scenario)) {
        Ok(()) => Outcome::Passed,
        Err(caught) => Outcome::Failed {
            message: caught.message,
            explanation: [caught.notes, scenario.explain()].concat(),
        },
    };
    drop(scenario);
    (outcome, start.elapsed())
}
