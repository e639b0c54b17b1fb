//! How a source is doing.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use tokio::sync::watch;

/// State of a source, published for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Whether the origin is within reach.
    pub phase: Phase,
    /// What cannot be followed at present.
    pub failing: BTreeSet<&'static str>,
    /// Failures since the start: lost connections, manifests that could not be read.
    pub failures: u64,
    /// The last of them, in one sentence.
    pub last_failure: Option<String>,
}

/// Whether the origin of objects is within reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It was not reached yet.
    #[default]
    Starting,
    /// What is sent is up to date.
    Following,
    /// The last known objects stay in force (rule K3); trying again.
    Interrupted,
}

/// Records that `what` is followed; true if that was not so before.
pub(super) fn reached(state: &watch::Sender<SourceState>, what: &'static str) -> bool {
    state.send_if_modified(|state| {
        let recovered = state.failing.remove(what);
        let first = state.phase == Phase::Starting;
        if state.failing.is_empty() {
            state.phase = Phase::Following;
        }
        recovered || first
    })
}

/// Records a failure of `what`; true if all was well with it before.
pub(super) fn failed(
    state: &watch::Sender<SourceState>,
    what: &'static str,
    message: String,
) -> bool {
    let mut first = false;
    state.send_modify(|state| {
        first = state.failing.insert(what);
        if state.phase == Phase::Following {
            state.phase = Phase::Interrupted;
        }
        state.failures += 1;
        state.last_failure = Some(message);
    });
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_watch_interrupts_until_it_is_back() {
        let (state, _receiver) = watch::channel(SourceState::default());
        assert!(
            failed(&state, "Services", "refused".into()),
            "the first failure is told"
        );
        assert!(
            !failed(&state, "Services", "refused".into()),
            "its repetition is not"
        );
        assert_eq!(state.borrow().phase, Phase::Starting);
        assert!(reached(&state, "Services"));
        assert_eq!(state.borrow().phase, Phase::Following);
        assert!(failed(&state, "Services", "reset".into()));
        assert!(!reached(&state, "EndpointSlices"));
        assert_eq!(state.borrow().phase, Phase::Interrupted);
        assert!(reached(&state, "Services"));
        assert_eq!(state.borrow().phase, Phase::Following);
        assert_eq!(state.borrow().failures, 3);
    }
}
