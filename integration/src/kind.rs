//! A kind cluster with lb in place of kube-proxy: how it is made, and what runs in it.
//!
//! * [`runner`]: the one door to `kind`, `kubectl` and `docker`; tests record what goes through it.
//! * [`commands`]: their argument vectors. [`config`]: the cluster's configuration.
//! * [`tools`]: whether they are there, and an engine behind them.
//! * [`cluster`]: creates the cluster, loads the images, applies `manifests/`.
//! * [`site`]: the cluster as a site of the conformance suite, with real pods; [`pod`] is what the
//!   API server gets.
//! * [`upstream`]: Kubernetes' own conformance image, and its results by row.
//!
//! All of this is tested as far as argument vectors, manifests and parsing go. It has not met an
//! engine yet: what only a real cluster can show is not known.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod cluster;
pub mod commands;
pub mod config;
pub mod pod;
mod pods;
mod read;
pub mod runner;
pub mod site;
pub mod tools;
pub mod upstream;

pub use cluster::KindCluster;
pub use runner::{DryRun, Invocation, Runner, System};
pub use site::KindSite;

/// A case that failed while it held it has left it usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
