//! Runs many cases at once.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::{Case, Outcome, Site, run, selection::Selection};

/// What came of one case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The case.
    pub case: &'static Case,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Told about each case when it starts and when it has ended.
pub trait Progress: Sync {
    /// A case begins.
    fn starts(&self, case: &'static Case);
    /// A case has ended.
    fn ended(&self, result: &CaseResult);
}

/// Runs the selected ones of `cases`, `jobs` at a time, and those that must be alone at the end;
/// the results are in the order of `cases`.
pub fn run_all(
    cases: &[&'static Case],
    selection: &Selection,
    site: &Arc<dyn Site>,
    jobs: NonZeroUsize,
    progress: &dyn Progress,
) -> Vec<CaseResult> {
    let mut ordered: Vec<(usize, &'static Case)> = cases.iter().copied().enumerate().collect();
    ordered.sort_by_key(|(_, case)| case.is_alone());
    let queue = Mutex::new(VecDeque::from(ordered));
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((number, case)) = next else { return };
            let result = run_one(case, selection, site, progress);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push((number, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.get() {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn run_one(
    case: &'static Case,
    selection: &Selection,
    site: &Arc<dyn Site>,
    progress: &dyn Progress,
) -> CaseResult {
    let (outcome, took) = if let Some(reason) = selection.leaves_out(case) {
        (Outcome::Skipped(reason), Duration::ZERO)
    } else {
        progress.starts(case);
        run(case, site)
    };
    let result = CaseResult {
        case,
        outcome,
        took,
    };
    progress.ended(&result);
    result
}
