//! Watch streams: the history of one kind, through selectors, as JSON lines.
//!
//! A watcher pulls changes later than its cursor from the store whenever a
//! commit wakes it, so it never sees a gap: either every change or a 410 ERROR
//! event when history no longer reaches back to its cursor.

mod frames;

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, sleep_until},
};

pub use self::frames::EventType;
pub(crate) use self::frames::Frame;
use super::{error::ApiError, faults::Faults, kinds::KindRef, selectors::Selectors, store::Store};

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// ADDED for everything that exists, then changes; with `mark_end` a
    /// bookmark tells where the first part ends (KEP-3157).
    Initial { mark_end: bool },
    /// Changes later than this version.
    After(u64),
}

/// A validated watch request.
#[derive(Debug, Clone)]
pub(crate) struct WatchRequest {
    pub kind: KindRef,
    pub namespace: Option<String>,
    pub selectors: Selectors,
    pub start: Start,
    /// Idle time between bookmarks; none when the client did not ask for them.
    pub bookmarks: Option<Duration>,
    pub timeout: Duration,
}

/// Frames buffered between a watcher and its connection.
const BUFFERED_FRAMES: usize = 64;

/// Starts a watch. The receiver ends when the watch does; dropping it ends the watch.
/// An unusable start version is an error before the first byte.
pub(crate) fn start(
    store: Arc<Store>,
    faults: Arc<Faults>,
    request: WatchRequest,
) -> Result<mpsc::Receiver<Bytes>, ApiError> {
    let (out, receiver) = mpsc::channel(BUFFERED_FRAMES);
    let mut watcher = Watcher {
        store,
        faults,
        request,
        cursor: 0,
        out,
    };
    let first = watcher.begin()?;
    tokio::spawn(async move {
        // An error here is the client hanging up.
        let _ = watcher.run(first).await;
    });
    Ok(receiver)
}

struct Watcher {
    store: Arc<Store>,
    faults: Arc<Faults>,
    request: WatchRequest,
    /// Everything up to this version has been sent.
    cursor: u64,
    out: mpsc::Sender<Bytes>,
}

/// The receiving side is gone.
struct HungUp;

impl Watcher {
    fn begin(&mut self) -> Result<Vec<Frame>, ApiError> {
        let kind = self.request.kind;
        match self.request.start {
            Start::After(version) => {
                self.store.check_version(version)?;
                let current = self.store.version();
                if version > current && !self.faults.future_waits() {
                    return Err(ApiError::Expired(format!(
                        "too large resource version: {version}, current: {current}"
                    )));
                }
                self.cursor = version;
                Ok(Vec::new())
            }
            Start::Initial { mark_end } => {
                let namespace = self.request.namespace.as_deref();
                let (version, objects) = self.store.list(kind, namespace, None)?;
                self.cursor = version;
                let selected = objects
                    .into_iter()
                    .filter(|(_, o)| self.request.selectors.matches(o));
                let mut frames: Vec<_> = selected
                    .map(|(_, object)| Frame::new(EventType::Added, object))
                    .collect();
                if mark_end {
                    frames.push(Frame::bookmark(kind, version, true));
                }
                Ok(frames)
            }
        }
    }

    async fn run(&mut self, first: Vec<Frame>) -> Result<(), HungUp> {
        let mut commits = self.store.subscribe();
        let mut dropped = self.faults.watch_drops();
        let mut injected = self.faults.injections();
        let deadline = Instant::now() + self.request.timeout;
        let period = self
            .request
            .bookmarks
            .unwrap_or(self.request.timeout.max(Duration::from_secs(1)));
        let mut bookmark = interval_at(Instant::now() + period, period);
        let mut timeout = pin!(sleep_until(deadline));
        self.send(first).await?;
        loop {
            commits.borrow_and_update();
            match self.pull() {
                Ok(frames) => self.send(frames).await?,
                Err(expired) => return self.send(vec![Frame::error(&expired)]).await,
            }
            tokio::select! {
                _ = commits.changed() => self.faults.settle().await,
                Ok(injected) = injected.recv() => {
                    if injected.kind == self.request.kind {
                        self.send(vec![injected.frame]).await?;
                    }
                }
                _ = dropped.changed() => return Ok(()),
                _ = bookmark.tick() => self.bookmark().await?,
                () = &mut timeout => return self.bookmark().await,
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    async fn bookmark(&self) -> Result<(), HungUp> {
        if self.request.bookmarks.is_none() {
            return Ok(());
        }
        self.send(vec![Frame::bookmark(self.request.kind, self.cursor, false)])
            .await
    }

    /// Frames for the changes since the cursor, which moves past them.
    fn pull(&mut self) -> Result<Vec<Frame>, ApiError> {
        let (version, changes) = self.store.changes_after(self.request.kind, self.cursor)?;
        self.cursor = version;
        let wanted = self.request.namespace.as_deref();
        let frames = changes
            .iter()
            .filter(|change| wanted.is_none_or(|namespace| namespace == change.key.namespace))
            .filter_map(|change| Frame::of_change(change, &self.request.selectors))
            .collect();
        Ok(self.faults.distort(frames))
    }

    async fn send(&self, frames: Vec<Frame>) -> Result<(), HungUp> {
        for frame in frames {
            self.out.send(frame.to_line()).await.map_err(|_| HungUp)?;
        }
        Ok(())
    }
}
