//! Objects from manifests: a file, or a directory with everything below it.
//!
//! Input: what `kubectl get -o yaml` or `-o json` prints. Output: their Services,
//! EndpointSlices and this node's Node; other kinds are ignored. Files are followed: a
//! change is sent about 50 ms after the writer is done, whether it rewrites the file or
//! renames another one over it. At the start a malformed manifest is an error; later it
//! is logged and counted, and the last good version of that file stays in force.
#![forbid(unsafe_code)]

mod loader;
mod manifest;
mod scan;
#[cfg(test)]
mod tests;
mod watch;
mod yaml;

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    sync::{mpsc, watch as state_watch},
    task::spawn_blocking,
};

use super::{SourceError, SourceState, state};
use crate::model::Event;
use loader::Loader;
use watch::Watch;

/// What [`SourceState::failing`] names.
const MANIFESTS: &str = "manifests";

/// Manifests in a file or directory.
#[derive(Debug)]
pub struct FilesSource {
    root: PathBuf,
    node_name: String,
}

impl FilesSource {
    /// `path` is a file or a directory; `node_name` is this node's (rule L1).
    pub fn new(path: &Path, node_name: &str) -> Result<Self, SourceError> {
        let unreadable = |source: io::Error| SourceError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let root = std::path::absolute(path).map_err(unreadable)?;
        root.metadata().map_err(unreadable)?;
        let node_name = node_name.to_owned();
        Ok(Self { root, node_name })
    }

    pub(super) async fn run(
        self,
        events: mpsc::Sender<Vec<Event>>,
        state: &state_watch::Sender<SourceState>,
    ) -> Result<(), SourceError> {
        // Before the first scan, so that no change falls between the two.
        let mut watch = Watch::new(&self.root);
        let mut loader = Loader::new(self.root, &self.node_name, events.clone());
        loader = in_background(loader, Loader::load).await?;
        state::reached(state, MANIFESTS);
        while !events.is_closed() {
            let changed = watch.changed().await;
            loader = in_background(loader, move |loader| {
                loader.refresh(&changed);
                Ok(())
            })
            .await?;
            match loader.take_failure() {
                Some(failure) => _ = state::failed(state, MANIFESTS, failure),
                None if loader.is_healthy() => _ = state::reached(state, MANIFESTS),
                None => {}
            }
        }
        Ok(())
    }
}

/// Runs `work` where it may block, and gives the loader back.
async fn in_background(
    mut loader: Loader,
    work: impl FnOnce(&mut Loader) -> Result<(), SourceError> + Send + 'static,
) -> Result<Loader, SourceError> {
    let done = spawn_blocking(move || work(&mut loader).map(|()| loader)).await;
    match done {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
