//! The one control loop the server can run: EndpointSlices of Services with a selector, from the
//! Pods in the store, and mirrored ones of Endpoints. What it has written it does not repair.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    error::ApiError,
    kinds,
    object::Key,
    store::{Part, Preconditions, Store, WriteOptions},
};
use crate::workload::{Pod, endpoint_slices, mirrored_slices};

const WHOLE: WriteOptions = WriteOptions {
    part: Part::Whole,
    dry_run: false,
};

/// On Endpoints that have slices of their own.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// Keeps the slices up to date until it is told to stop.
pub(super) async fn run(store: Arc<Store>, stop: CancellationToken) {
    let mut versions = store.subscribe();
    let mut written = BTreeMap::new();
    loop {
        if let Err(error) = sync(&store, &mut written) {
            tracing::error!("the EndpointSlice controller: {error}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = versions.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes what differs from what was written last.
fn sync(store: &Store, written: &mut BTreeMap<Key, Value>) -> Result<(), ApiError> {
    let zones: BTreeMap<String, String> = list(store, "nodes")?
        .into_iter()
        .map(|(key, node)| (key.name, zone_of(&node)))
        .collect();
    let pods: Vec<Pod> = list(store, "pods")?
        .iter()
        .filter_map(|(_, pod)| Pod::from_object(pod, &zones))
        .collect();
    let mut wanted = BTreeMap::new();
    for (key, service) in list(store, "services")? {
        for slice in endpoint_slices(&service, &pods) {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            wanted.insert(Key::new(key.namespace.clone(), name), slice);
        }
    }
    for (key, endpoints) in list(store, "endpoints")? {
        if endpoints["metadata"]["labels"][SKIP_MIRROR] == "true" {
            continue;
        }
        for slice in mirrored_slices(&endpoints) {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            wanted.insert(Key::new(key.namespace.clone(), name), slice);
        }
    }
    let kind = kinds::by_name("endpointslices").ok_or(ApiError::UnknownPath)?;
    for (key, slice) in &wanted {
        if written.get(key) != Some(slice) {
            store.write(kind, key, WHOLE, |_| Ok(slice.clone()))?;
        }
    }
    for key in written.keys().filter(|key| !wanted.contains_key(key)) {
        match store.delete(kind, key, &Preconditions::default(), false) {
            // Its namespace has taken it along.
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    *written = wanted;
    Ok(())
}

fn list(store: &Store, plural: &str) -> Result<Vec<(Key, Arc<Value>)>, ApiError> {
    let kind = kinds::by_name(plural).ok_or(ApiError::UnknownPath)?;
    Ok(store.list(kind, None, None)?.1)
}

fn zone_of(node: &Value) -> String {
    let zone = node["metadata"]["labels"]["topology.kubernetes.io/zone"].as_str();
    zone.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(store: &Store, plural: &str, object: Value) {
        let kind = kinds::by_name(plural).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = if kind.namespaced() { "default" } else { "" };
        let key = Key::new(namespace, name);
        store.write(kind, &key, WHOLE, |_| Ok(object)).unwrap();
    }

    fn endpoints(store: &Store) -> Vec<Value> {
        let slices = list(store, "endpointslices").unwrap();
        let all = slices.iter().map(|(_, slice)| slice["endpoints"].clone());
        all.filter(|endpoints| endpoints != &json!([])).collect()
    }

    #[test]
    fn slices_follow_pods_and_go_with_their_service() {
        let store = Store::new(100, &["10.96.0.0/16".parse().unwrap()]);
        put(
            &store,
            "namespaces",
            json!({"metadata": {"name": "default"}}),
        );
        put(
            &store,
            "nodes",
            json!({"metadata": {
                "name": "node-1", "labels": {"topology.kubernetes.io/zone": "east"},
            }}),
        );
        let service = json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        put(&store, "services", service);
        let pod = |ready: &str| {
            json!({
                "metadata": {"name": "pod", "namespace": "default", "labels": {"app": "web"}},
                "spec": {"nodeName": "node-1", "containers": [{"name": "c"}]},
                "status": {
                    "phase": "Running", "podIPs": [{"ip": "10.244.1.2"}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            })
        };
        let mut written = BTreeMap::new();
        put(&store, "pods", pod("False"));
        sync(&store, &mut written).unwrap();
        let found = endpoints(&store);
        assert_eq!(found[0][0]["addresses"], json!(["10.244.1.2"]));
        assert_eq!(found[0][0]["zone"], "east");
        assert_eq!(found[0][0]["conditions"]["ready"], false);
        put(&store, "pods", pod("True"));
        sync(&store, &mut written).unwrap();
        assert_eq!(endpoints(&store)[0][0]["conditions"]["ready"], true);
        let version = store.version();
        sync(&store, &mut written).unwrap();
        assert_eq!(store.version(), version, "nothing has changed");

        let kind = kinds::by_name("services").unwrap();
        let key = Key::new("default", "web");
        store
            .delete(kind, &key, &Preconditions::default(), false)
            .unwrap();
        sync(&store, &mut written).unwrap();
        assert!(list(&store, "endpointslices").unwrap().is_empty());
    }
}
