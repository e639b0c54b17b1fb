//! Objects in the stand-in API server.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{ObjectId, Objects};
use crate::apiserver::{ApiError, ApiServer};

/// Writes to a server straight, as the control plane's own components would.
#[derive(Clone, Debug)]
pub struct Api {
    server: Arc<ApiServer>,
}

// === impl Api ===

impl Api {
    /// Objects go into `server`.
    pub fn new(server: Arc<ApiServer>) -> Self {
        Self { server }
    }
}

impl Objects for Api {
    fn apply(&self, object: &Value) -> Result<()> {
        let written = self.server.replace(object.clone());
        written
            .map(drop)
            .with_context(|| format!("writing {:?}", ObjectId::of(object)))
    }

    fn delete(&self, id: &ObjectId) -> Result<()> {
        match self.server.delete(&id.kind, &id.namespace, &id.name) {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {id:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::Options;

    #[test]
    fn objects_are_in_the_server_until_deleted() {
        let server = Arc::new(ApiServer::start_on_thread(Options::default()).unwrap());
        let api = Api::new(Arc::clone(&server));
        let mut slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "default", "name": "web-1", "labels": {"a": "b"}},
            "addressType": "IPv4", "ports": [], "endpoints": [],
        });
        api.apply(&slice).unwrap();
        slice["metadata"]["labels"] = json!({});
        api.apply(&slice).unwrap();
        let stored = server.get("endpointslices", "default", "web-1").unwrap();
        // Replaced, not merged.
        assert!(stored["metadata"]["labels"].get("a").is_none());
        let id = ObjectId::of(&slice).unwrap();
        api.delete(&id).unwrap();
        api.delete(&id).unwrap();
        assert!(server.get("endpointslices", "default", "web-1").is_err());
    }
}
