use serde_json::{Value, json};

use super::*;

fn store(history_limit: usize) -> Store {
    let store = Store::new(history_limit, &["10.96.0.0/16".parse().unwrap()]);
    put(&store, "namespaces", "", "default", json!({}));
    store
}

fn kind(name: &str) -> KindRef {
    kinds::by_name(name).unwrap()
}

fn put(store: &Store, of: &str, namespace: &str, name: &str, object: Value) -> Arc<Value> {
    let key = Key::new(namespace, name);
    store
        .write(kind(of), &key, WriteOptions::default(), |_| Ok(object))
        .unwrap()
        .object
}

fn names(store: &Store, at: Option<u64>) -> Vec<String> {
    let (_, objects) = store.list(kind("cm"), None, at).unwrap();
    objects
        .into_iter()
        .map(|(key, object)| format!("{}={}", key.name, object["data"]))
        .collect()
}

#[test]
fn older_snapshots_undo_later_changes() {
    let store = store(100);
    put(&store, "cm", "default", "a", json!({"data": 1}));
    put(&store, "cm", "default", "b", json!({"data": 1}));
    let then = store.version();
    put(&store, "cm", "default", "a", json!({"data": 2}));
    put(&store, "cm", "default", "c", json!({"data": 2}));
    let conditions = Preconditions::default();
    store
        .delete(kind("cm"), &Key::new("default", "b"), &conditions, false)
        .unwrap();
    assert_eq!(names(&store, Some(then)), ["a=1", "b=1"]);
    assert_eq!(names(&store, None), ["a=2", "c=2"]);
}

#[test]
fn history_is_bounded_and_says_when_it_is_too_short() {
    let store = store(3);
    let start = store.version();
    for data in 0..4 {
        put(&store, "cm", "default", "a", json!({"data": data}));
    }
    assert_eq!(store.check_version(start).unwrap_err().code(), 410);
    assert!(store.changes_after(kind("cm"), start).is_err());
    let (upto, changes) = store.changes_after(kind("cm"), start + 1).unwrap();
    assert_eq!((upto, changes.len()), (start + 4, 3));
}

#[test]
fn compaction_refuses_newcomers_and_spares_watches_in_step() {
    let store = store(100);
    put(&store, "cm", "default", "a", json!({"data": 1}));
    let latest = store.version();
    store.compact();
    assert!(store.check_version(latest).is_err());
    put(&store, "cm", "default", "a", json!({"data": 2}));
    assert_eq!(store.changes_after(kind("cm"), latest).unwrap().1.len(), 1);
    assert!(store.changes_after(kind("cm"), latest - 1).is_err());
}

#[test]
fn writes_that_change_nothing_are_not_changes() {
    let store = store(100);
    let first = put(&store, "cm", "default", "a", json!({"data": 1}));
    let again = put(
        &store,
        "cm",
        "default",
        "a",
        json!({"data": 1, "metadata": {"labels": null}}),
    );
    assert_eq!(first, again);
    let third = put(&store, "cm", "default", "a", json!({"data": 2}));
    assert_eq!(third["metadata"]["generation"], 2);
    assert_eq!(third["metadata"]["uid"], first["metadata"]["uid"]);
    assert_ne!(
        third["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}

#[test]
fn stale_versions_and_foreign_uids_conflict() {
    let store = store(100);
    let first = put(&store, "cm", "default", "a", json!({"data": 1}));
    put(&store, "cm", "default", "a", json!({"data": 2}));
    let key = Key::new("default", "a");
    let write = |object| store.write(kind("cm"), &key, WriteOptions::default(), |_| Ok(object));
    assert_eq!(write((*first).clone()).unwrap_err().code(), 409);
    assert_eq!(
        write(json!({"metadata": {"uid": "x"}})).unwrap_err().code(),
        409
    );
}

#[test]
fn finalizers_delay_deletion() {
    let store = store(100);
    let key = Key::new("default", "a");
    put(
        &store,
        "cm",
        "default",
        "a",
        json!({"metadata": {"finalizers": ["x/y"]}}),
    );
    let conditions = Preconditions::default();
    let marked = store.delete(kind("cm"), &key, &conditions, false).unwrap();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert!(store.get(kind("cm"), &key).is_ok());
    put(
        &store,
        "cm",
        "default",
        "a",
        json!({"metadata": {"finalizers": []}}),
    );
    assert_eq!(store.get(kind("cm"), &key).unwrap_err().code(), 404);
}

#[test]
fn namespaces_must_exist_and_take_their_objects_along() {
    let store = store(100);
    let key = Key::new("shop", "a");
    let write = || store.write(kind("cm"), &key, WriteOptions::default(), |_| Ok(json!({})));
    assert_eq!(write().unwrap_err().code(), 404);
    put(&store, "ns", "", "shop", json!({}));
    write().unwrap();
    let conditions = Preconditions::default();
    store
        .delete(kind("ns"), &Key::new("", "shop"), &conditions, false)
        .unwrap();
    assert_eq!(store.get(kind("cm"), &key).unwrap_err().code(), 404);
}

#[test]
fn deleted_services_release_their_node_port() {
    let store = store(100);
    let spec = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31000}]}});
    put(&store, "svc", "default", "a", spec.clone());
    let key = Key::new("default", "b");
    let write = || {
        store.write(kind("svc"), &key, WriteOptions::default(), |_| {
            Ok(spec.clone())
        })
    };
    assert_eq!(write().unwrap_err().code(), 422);
    let conditions = Preconditions::default();
    store
        .delete(kind("svc"), &Key::new("default", "a"), &conditions, false)
        .unwrap();
    assert_eq!(
        write().unwrap().object["spec"]["ports"][0]["nodePort"],
        31_000
    );
}

#[test]
fn status_and_spec_are_written_apart() {
    let store = store(100);
    let key = Key::new("default", "a");
    let write = |part, object: Value| {
        let options = WriteOptions {
            part,
            dry_run: false,
        };
        store
            .write(kind("svc"), &key, options, |_| Ok(object))
            .unwrap()
            .object
    };
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    let created = write(Part::Main, json!({"spec": spec, "status": ingress}));
    assert_eq!(created["status"], json!({"loadBalancer": {}}));
    let mut changed = (*created).clone();
    changed["status"] = ingress;
    changed["spec"]["type"] = "ClusterIP".into();
    let changed = write(Part::Status, changed);
    assert_eq!(changed["spec"]["type"], "LoadBalancer");
    assert_eq!(
        changed["status"]["loadBalancer"]["ingress"][0]["ipMode"],
        "VIP"
    );
}

#[test]
fn dry_runs_leave_no_trace() {
    let store = store(100);
    let before = store.version();
    let options = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    let key = Key::new("default", "a");
    let written = store
        .write(kind("svc"), &key, options, |_| Ok(json!({})))
        .unwrap();
    assert!(written.object["spec"]["clusterIP"].is_string());
    assert_eq!(store.version(), before);
    assert!(store.get(kind("svc"), &key).is_err());
}

#[test]
fn a_pod_marked_with_grace_stays_until_it_is_deleted_without() {
    let store = store(100);
    put(
        &store,
        "pods",
        "default",
        "a",
        json!({"spec": {"nodeName": "n"}}),
    );
    let key = Key::new("default", "a");
    let marked = store.mark(kind("pods"), &key, 30).unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    // A change does not end it, and another deletion does not start anew.
    let changed = put(
        &store,
        "pods",
        "default",
        "a",
        json!({"spec": {"nodeName": "m"}}),
    );
    assert_eq!(
        changed["metadata"]["deletionTimestamp"],
        marked["metadata"]["deletionTimestamp"]
    );
    let again = store.mark(kind("pods"), &key, 60).unwrap();
    assert_eq!(again["metadata"]["deletionGracePeriodSeconds"], 30);
    store
        .delete(kind("pods"), &key, &Preconditions::default(), false)
        .unwrap();
    assert!(store.get(kind("pods"), &key).is_err());
}
