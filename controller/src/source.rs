//! Where objects come from: a stream of [`Event`]s.
//!
//! Input: manifests on disk ([`FilesSource`]) or a Kubernetes API ([`ApiSource`]).
//! Output: batches of events, converted at once so that memory follows the model and
//! not the objects, and a [`SourceState`] for logs, metrics and status.
//!
//! Invariants: a source that has started never gives up and never takes back what it
//! said because it lost touch with its origin (rule K3): only a start can fail, with a
//! [`SourceError`]. Events that belong together are in one batch (rule B12).
#![forbid(unsafe_code)]

mod api;
mod error;
mod files;
mod state;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use api::ApiSource;
pub use error::{ManifestError, SourceError};
pub use files::FilesSource;
pub use state::{Phase, SourceState};

use crate::model::Event;

/// Events in a batch while a list is under way.
const BATCH: usize = 512;

/// One of the two sources.
#[derive(Debug)]
pub enum Source {
    /// Manifests in a file or directory.
    Files(FilesSource),
    /// A Kubernetes API.
    Api(ApiSource),
}

impl Source {
    /// Sends events until `stop`, or until nobody receives them any more.
    ///
    /// An error can only come before the first [`Event::Listed`].
    pub async fn run(
        self,
        events: mpsc::Sender<Vec<Event>>,
        state: watch::Sender<SourceState>,
        stop: CancellationToken,
    ) -> Result<(), SourceError> {
        let run = async {
            match self {
                Self::Files(files) => files.run(events, &state).await,
                Self::Api(api) => api.run(events, &state).await,
            }
        };
        stop.run_until_cancelled(run).await.unwrap_or(Ok(()))
    }
}
