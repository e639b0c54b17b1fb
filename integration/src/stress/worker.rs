//! Work that goes on in a namespace until it is told to stop.

use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::netns::Netns;

/// A thread with a runtime of its own; dropping the handle tells it to stop.
#[derive(Debug)]
pub(super) struct Worker<T> {
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<T>>>,
}

// === impl Worker ===

impl<T: Send + 'static> Worker<T> {
    /// Starts `work`, which ends soon after its token is cancelled. Its sockets belong to
    /// `netns`.
    pub(super) fn start<F>(
        netns: &Netns,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T>>,
    {
        let (netns, stop) = (netns.clone(), CancellationToken::new());
        let token = stop.clone();
        let run = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("starting a runtime")?.block_on(work(token))
        };
        let thread = Some(thread::spawn(move || netns.run(run)?));
        Self { stop, thread }
    }

    /// Tells it to stop and waits for what it gives.
    pub(super) fn finish(mut self) -> Result<T> {
        self.stop.cancel();
        let thread = self.thread.take().context("it was finished before")?;
        thread.join().map_err(|_| anyhow!("a worker panicked"))?
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
