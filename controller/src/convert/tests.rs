//! One test per rule, on objects as they appear on the wire.

mod endpoint_slice;
mod service;

use serde_json::{Value, json};

use super::*;

const NODE: &str = "node-1";

fn converter() -> Converter {
    Converter::new(NODE)
}

fn merge(object: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        object[key] = value.clone();
    }
}

#[test]
fn d4_only_this_nodes_zone_counts_and_an_empty_one_is_none() {
    let node = |name: &str, labels: Value| {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        converter().node(&serde_json::from_value(object).unwrap())
    };
    let zone = |zone: Option<&str>| {
        Some(Event::Node(NodeInfo {
            zone: zone.map(Into::into),
            ..NodeInfo::default()
        }))
    };
    assert_eq!(
        node(NODE, json!({"topology.kubernetes.io/zone": "a", "x": "y"})),
        zone(Some("a"))
    );
    assert_eq!(
        node(NODE, json!({"topology.kubernetes.io/zone": ""})),
        zone(None)
    );
    assert_eq!(node(NODE, json!(null)), zone(None));
    assert_eq!(
        node("node-2", json!({"topology.kubernetes.io/zone": "a"})),
        None
    );
}

#[test]
fn an_object_without_a_name_is_skipped_and_the_namespace_has_a_default() {
    let object = |metadata: Value| serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    assert_eq!(converter().service(&object(json!({}))), None);
    let event = converter()
        .service(&object(json!({"name": "web"})))
        .unwrap();
    let Event::Service(name, None) = event else {
        panic!("{event:?}")
    };
    assert_eq!(name.to_string(), "default/web");
}
