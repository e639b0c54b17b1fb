//! The control plane of a site: where its objects go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::Value;

use crate::{objects::ControlPlane, workload::Pod};

/// What cases do to objects; see the methods of the same names of [`crate::conformance::Site`].
pub(super) trait Plane: Send + Sync {
    /// What the Kubernetes namespace of a case is called here.
    fn namespace(&self, name: &str) -> String {
        name.to_owned()
    }
    fn apply(&self, object: &Value) -> Result<()>;
    fn delete(&self, object: &Value) -> Result<()>;
    fn set_pods(&self, pods: Vec<Pod>) -> Result<()>;
    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()>;
    fn delete_namespace(&self, namespace: &str) -> Result<()>;
}

/// Our own, which computes EndpointSlices itself.
pub(super) struct Own(Mutex<ControlPlane>);

// === impl Own ===

impl Own {
    pub(super) fn new(control_plane: ControlPlane) -> Self {
        Self(Mutex::new(control_plane))
    }

    /// A case that failed while it held the objects has left them usable.
    fn lock(&self) -> MutexGuard<'_, ControlPlane> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plane for Own {
    fn apply(&self, object: &Value) -> Result<()> {
        self.lock().apply(object)
    }

    fn delete(&self, object: &Value) -> Result<()> {
        self.lock().delete(object)
    }

    fn set_pods(&self, pods: Vec<Pod>) -> Result<()> {
        self.lock().set_pods(pods)
    }

    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()> {
        self.lock().remove_pods(namespace, names)
    }

    fn delete_namespace(&self, namespace: &str) -> Result<()> {
        self.lock().delete_namespace(namespace)
    }
}
