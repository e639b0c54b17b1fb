use serde_json::{Value, json};

use super::{Format, apply};
use crate::apiserver::kinds;

fn patched(kind: &str, format: Format, object: &Value, patch: &Value) -> Value {
    apply(kinds::by_name(kind).unwrap(), format, object, patch).unwrap()
}

fn service() -> Value {
    json!({"spec": {
        "selector": {"app": "web", "tier": "front"},
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443, "nodePort": 30443}],
    }})
}

#[test]
fn merge_patch_replaces_lists_and_removes_nulls() {
    let patch = json!({"spec": {"selector": {"tier": null}, "ports": [{"port": 1}]}});
    let after = patched("svc", Format::Merge, &service(), &patch);
    assert_eq!(
        after,
        json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 1}]}})
    );
}

#[test]
fn strategic_patch_merges_service_ports_by_number() {
    let patch = json!({"spec": {
        "$setElementOrder/ports": [{"port": 53}, {"port": 443}],
        "ports": [
            {"port": 443, "targetPort": 8443},
            {"port": 53, "protocol": "UDP"},
            {"$patch": "delete", "port": 80},
        ],
    }});
    let after = patched("svc", Format::Strategic, &service(), &patch);
    let ports = json!([
        {"port": 53, "protocol": "UDP"},
        {"name": "https", "port": 443, "nodePort": 30443, "targetPort": 8443},
    ]);
    assert_eq!(after["spec"]["ports"], ports);
}

#[test]
fn strategic_patch_knows_containers_sets_and_atomic_lists() {
    let object = json!({
        "metadata": {"finalizers": ["a", "b"]},
        "spec": {"template": {"spec": {"containers": [
            {"name": "lb", "image": "lb:1", "env": [{"name": "X", "value": "1"}], "args": ["-v"]},
        ]}}},
    });
    let patch = json!({
        "metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
        "spec": {"template": {"spec": {"containers": [
            {"name": "lb", "env": [{"name": "Y", "value": "2"}], "args": ["-q"]},
            {"name": "sidecar"},
        ]}}},
    });
    let after = patched("ds", Format::Strategic, &object, &patch);
    assert_eq!(after["metadata"]["finalizers"], json!(["b", "c"]));
    let containers = &after["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["image"], "lb:1");
    assert_eq!(containers[0]["env"].as_array().unwrap().len(), 2);
    assert_eq!(containers[0]["args"], json!(["-q"]));
    assert_eq!(containers[1], json!({"name": "sidecar"}));
    let slice = json!({"endpoints": [{"addresses": ["10.0.0.1"]}]});
    let patch = json!({"endpoints": [{"addresses": ["10.0.0.2"]}]});
    assert_eq!(
        patched("endpointslices", Format::Strategic, &slice, &patch),
        patch
    );
}

#[test]
fn strategic_patch_replaces_maps_on_request() {
    let patch = json!({"spec": {"selector": {"$patch": "replace", "app": "db"}}});
    let after = patched("svc", Format::Strategic, &service(), &patch);
    assert_eq!(after["spec"]["selector"], json!({"app": "db"}));
    let patch = json!({"spec": {"selector": {"$retainKeys": ["app"], "app": "db"}}});
    let after = patched("svc", Format::Strategic, &service(), &patch);
    assert_eq!(after["spec"]["selector"], json!({"app": "db"}));
}

#[test]
fn json_patch_tests_before_it_changes() {
    let patch = json!([
        {"op": "test", "path": "/spec/ports/0/port", "value": 80},
        {"op": "remove", "path": "/spec/ports/0"},
    ]);
    let once = patched("svc", Format::Json, &service(), &patch);
    assert_eq!(once["spec"]["ports"][0]["port"], 443);
    let kind = kinds::by_name("svc").unwrap();
    assert_eq!(
        apply(kind, Format::Json, &once, &patch).unwrap_err().code(),
        400
    );
}

#[test]
fn applied_lists_replace_and_finalizers_unite() {
    let object =
        json!({"metadata": {"finalizers": ["a"], "labels": {"x": "1"}}, "spec": {"l": [1, 2]}});
    let applied =
        json!({"metadata": {"finalizers": ["b"], "labels": {"y": "2"}}, "spec": {"l": [3]}});
    let after = patched("svc", Format::Apply, &object, &applied);
    let expected = json!({
        "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}, "spec": {"l": [3]},
    });
    assert_eq!(after, expected);
}

#[test]
fn unknown_content_types_are_refused() {
    assert_eq!(
        Format::from_content_type("application/json")
            .unwrap_err()
            .code(),
        415
    );
    let format = Format::from_content_type("application/merge-patch+json; charset=utf-8");
    assert_eq!(format, Ok(Format::Merge));
}
