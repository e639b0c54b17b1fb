//! Faults a test can order: failing answers, delay, 410, broken or odd watches.
//!
//! Outages live with the listener; everything here acts on requests and watch
//! streams that reach the server. The default is no fault.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{broadcast, watch};

use super::{
    error::ApiError,
    kinds::KindRef,
    object::{Key, meta},
    watch::{EventType, Frame},
};

/// How long a watch with reordering on waits for more changes to reorder.
const SETTLE: Duration = Duration::from_millis(50);

/// Injected frames a slow watcher may fall behind before it loses some.
const INJECTION_BUFFER: usize = 1024;

/// A frame for every watch of a kind, whatever its selectors.
#[derive(Debug, Clone)]
pub(super) struct Injection {
    pub(super) kind: KindRef,
    pub(super) frame: Frame,
}

/// The switches. Shared by all connections.
#[derive(Debug)]
pub struct Faults {
    switches: Mutex<Switches>,
    drop_watches: watch::Sender<()>,
    injections: broadcast::Sender<Injection>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
struct Switches {
    delay: Duration,
    failures: Vec<Failure>,
    expired_watches: u32,
    gone_as_status: bool,
    future_waits: bool,
    duplicate: bool,
    reorder: bool,
}

#[derive(Debug)]
struct Failure {
    remaining: u32,
    code: u16,
    retry_after_seconds: Option<u32>,
    /// Matches requests whose path and query contain this; empty matches all.
    target: String,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            switches: Mutex::default(),
            drop_watches: watch::Sender::new(()),
            injections: broadcast::Sender::new(INJECTION_BUFFER),
        }
    }
}

impl Faults {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the next `count` requests with this HTTP status.
    pub fn fail_next(&self, count: u32, code: u16) {
        self.fail_next_matching(count, code, "");
    }

    /// As [`Self::fail_next`], for requests whose path and query contain `target`.
    pub fn fail_next_matching(&self, count: u32, code: u16, target: &str) {
        let retry_after_seconds = (code == 429).then_some(1);
        let failure = Failure {
            remaining: count,
            code,
            retry_after_seconds,
            target: target.into(),
        };
        self.switches().failures.push(failure);
    }

    /// Holds every answer back this long.
    pub fn delay(&self, delay: Duration) {
        self.switches().delay = delay;
    }

    /// Answers the next `count` watches with 410, whatever version they name.
    pub fn expire_next_watches(&self, count: u32) {
        self.switches().expired_watches = count;
    }

    /// Reports 410 as the HTTP status of a watch, not as an ERROR event in it.
    /// The API allows either; servers since 1.19 send the event. kube-rs 5.0's
    /// watcher retries a status of 410 without relisting.
    pub fn gone_as_http_status(&self, on: bool) {
        self.switches().gone_as_status = on;
    }

    /// Lets a watch from a version of the future wait without a word until the store gets
    /// there, as real servers do (kubernetes/kubernetes#135452). By default it is answered
    /// 410, which is what clients of a real cluster meet when its store is restored from a
    /// backup by the book (`etcdutl snapshot restore --bump-revision --mark-compacted`):
    /// a fresh server here stands for that.
    pub fn future_versions_wait(&self, on: bool) {
        self.switches().future_waits = on;
    }

    /// Sends every watch event twice.
    pub fn duplicate_events(&self, on: bool) {
        self.switches().duplicate = on;
    }

    /// Reverses the order of events of different objects that occur within 50 ms;
    /// each object's own events stay in order.
    pub fn reorder_events(&self, on: bool) {
        self.switches().reorder = on;
    }

    /// Ends all open watches; connections and other requests live on.
    pub fn drop_watches(&self) {
        self.drop_watches.send_replace(());
    }

    /// Sends an event as is to every open watch of a kind, answering how many
    /// there are: replays of old states, events of objects that do not exist.
    pub fn inject(&self, kind: KindRef, event: EventType, object: Value) -> usize {
        let frame = Frame::new(event, Arc::new(object));
        self.injections.send(Injection { kind, frame }).unwrap_or(0)
    }

    /// Turns everything off.
    pub fn clear(&self) {
        *self.switches() = Switches::default();
    }

    /// Applies delay and failures to a request.
    pub(super) async fn intercept(&self, target: &str) -> Result<(), ApiError> {
        let delay = self.switches().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut switches = self.switches();
        let failures = &mut switches.failures;
        let Some(index) = failures.iter().position(|f| target.contains(&f.target)) else {
            return Ok(());
        };
        let failure = &mut failures[index];
        let Failure {
            code,
            retry_after_seconds,
            ..
        } = *failure;
        failure.remaining = failure.remaining.saturating_sub(1);
        if failure.remaining == 0 {
            failures.remove(index);
        }
        Err(ApiError::Injected {
            code,
            retry_after_seconds,
        })
    }

    /// Applies expiry to a watch about to start.
    pub(super) fn refuse_watch(&self) -> Result<(), ApiError> {
        let mut switches = self.switches();
        if switches.expired_watches == 0 {
            return Ok(());
        }
        switches.expired_watches -= 1;
        Err(ApiError::Expired(
            "too old resource version (injected)".into(),
        ))
    }

    pub(super) fn future_waits(&self) -> bool {
        self.switches().future_waits
    }

    pub(super) fn gone_is_status(&self) -> bool {
        self.switches().gone_as_status
    }

    pub(super) fn watch_drops(&self) -> watch::Receiver<()> {
        self.drop_watches.subscribe()
    }

    pub(super) fn injections(&self) -> broadcast::Receiver<Injection> {
        self.injections.subscribe()
    }

    /// Gives changes time to gather when they are to be reordered.
    pub(super) async fn settle(&self) {
        if self.switches().reorder {
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Applies duplication and reordering to a batch of frames.
    pub(super) fn distort(&self, mut frames: Vec<Frame>) -> Vec<Frame> {
        let (duplicate, reorder) = {
            let switches = self.switches();
            (switches.duplicate, switches.reorder)
        };
        if reorder {
            frames = reverse_objects(frames);
        }
        if duplicate {
            frames = frames
                .into_iter()
                .flat_map(|frame| [frame.clone(), frame])
                .collect();
        }
        frames
    }
}

/// Objects in reverse order of first appearance, each with its events in order.
fn reverse_objects(frames: Vec<Frame>) -> Vec<Frame> {
    let mut groups: Vec<(Key, Vec<Frame>)> = Vec::new();
    for frame in frames {
        let key = Key::new(
            meta(&frame.object, "namespace"),
            meta(&frame.object, "name"),
        );
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, group)) => group.push(frame),
            None => groups.push((key, vec![frame])),
        }
    }
    groups
        .into_iter()
        .rev()
        .flat_map(|(_, group)| group)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reordering_keeps_each_objects_own_order() {
        let frame = |name: &str, version: u64| {
            let object = json!({"metadata": {"name": name, "resourceVersion": version}});
            Frame::new(EventType::Modified, Arc::new(object))
        };
        let faults = Faults::default();
        faults.reorder_events(true);
        let frames = faults.distort(vec![frame("a", 1), frame("b", 2), frame("a", 3)]);
        let versions: Vec<_> = frames
            .iter()
            .map(|f| f.object["metadata"]["resourceVersion"].clone())
            .collect();
        assert_eq!(versions, [2, 1, 3]);
    }

    #[tokio::test]
    async fn failures_hit_only_matching_requests_and_run_out() {
        let faults = Faults::default();
        faults.fail_next_matching(1, 429, "/services");
        assert!(faults.intercept("/api/v1/nodes").await.is_ok());
        let error = faults
            .intercept("/api/v1/services?watch=1")
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.reason()), (429, "TooManyRequests"));
        assert!(faults.intercept("/api/v1/services").await.is_ok());
    }
}
