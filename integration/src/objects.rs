//! Delivers Kubernetes objects to the proxies under test.
//!
//! [`Objects`] is the seam. [`Directory`] is the back end for the file source: one file per
//! object, replaced atomically. [`Api`] writes to the stand-in API server; [`Http`] speaks to any, by a [`Kubeconfig`]. [`ControlPlane`] stands above it: tests change Services and
//! pods, and it keeps the EndpointSlices as the Kubernetes controller would.

mod api;
mod control_plane;
mod directory;
mod http;
mod kubeconfig;

use anyhow::{Context, Result};
pub use api::Api;
pub use control_plane::ControlPlane;
pub use directory::Directory;
pub use http::Http;
pub use kubeconfig::Kubeconfig;
use serde_json::Value;

/// Where objects go so that proxies see them.
pub trait Objects: Send {
    /// Creates or replaces an object.
    fn apply(&self, object: &Value) -> Result<()>;
    /// Deletes an object; one that does not exist is fine.
    fn delete(&self, id: &ObjectId) -> Result<()>;
}

/// What identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// `Service`, `EndpointSlice`, `Node`.
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectId {
    /// The identity of `object`.
    pub fn of(object: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            kind: text(&object["kind"]).context("object without kind")?,
            namespace: text(&object["metadata"]["namespace"]).unwrap_or_default(),
            name: text(&object["metadata"]["name"]).context("object without name")?,
        })
    }
}
