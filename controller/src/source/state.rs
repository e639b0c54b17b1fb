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

/// Records that `what` is followed; true if everything is now and was not before.
pub(super) fn reached(state: &watch::Sender<SourceState>, what: &'static str) -> bool {
    let mut all_well = false;
    state.send_if_modified(|state| {
        let recovered = state.failing.remove(what);
        all_well = state.failing.is_empty() && state.phase != Phase::Following;
        if all_well {
            state.phase = Phase::Following;
        }
        recovered || all_well
    });
    all_well
}

/// Records a failure of `what`; true if it is news: not its repetition, and not the same
/// trouble that something else has just had.
pub(super) fn failed(
    state: &watch::Sender<SourceState>,
    what: &'static str,
    message: String,
) -> bool {
    let mut news = false;
    state.send_modify(|state| {
        let same = !state.failing.is_empty() && state.last_failure.as_ref() == Some(&message);
        news = state.failing.insert(what) && !same;
        if state.phase == Phase::Following {
            state.phase = Phase::Interrupted;
        }
        state.failures += 1;
        state.last_failure = Some(message);
    });
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_watch_interrupts_until_it_is_back() {
        let (state, _receiver) = watch::channel(SourceState::default());
        let fail = |what, message: &str| failed(&state, what, message.into());
        assert!(fail("Services", "refused"), "the first failure is told");
        assert!(!fail("Services", "refused"), "its repetition is not");
        assert!(
            !fail("EndpointSlices", "refused"),
            "nor the same trouble elsewhere"
        );
        assert_eq!(state.borrow().phase, Phase::Starting);
        assert!(!reached(&state, "EndpointSlices"));
        assert!(reached(&state, "Services"));
        assert_eq!(state.borrow().phase, Phase::Following);
        assert!(fail("Services", "reset"));
        assert!(
            fail("EndpointSlices", "forbidden"),
            "another trouble is told"
        );
        assert!(!reached(&state, "EndpointSlices"));
        assert_eq!(state.borrow().phase, Phase::Interrupted);
        assert!(reached(&state, "Services"));
        assert_eq!(state.borrow().phase, Phase::Following);
        assert_eq!(state.borrow().failures, 5);
    }
}
