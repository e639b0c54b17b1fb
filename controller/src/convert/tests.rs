//! One test per rule, on objects as they appear on the wire.

mod endpoint_slice;
mod service;

use serde_json::{Value, json};

use super::*;
use crate::model::{Family, Standing};

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
fn what_is_deleted_is_told_by_its_name() {
    let metadata: ObjectMeta =
        serde_json::from_value(json!({"namespace": "a", "name": "b"})).unwrap();
    let mut converter = converter();
    let name = converter.name(&metadata).unwrap();
    assert_eq!(
        converter.service_deleted(&metadata),
        Some(Event::Service(name.clone(), None))
    );
    assert_eq!(
        converter.endpoint_slice_deleted(&metadata),
        Some(Event::EndpointSlice(name.clone(), None))
    );
    assert_eq!(
        converter.service_cidr_deleted(&metadata),
        Some(Event::ServiceCidr(name, None))
    );
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
            standing: Standing::Staying,
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
fn pod_networks_of_a_node_are_its_pod_cidrs_or_else_its_one_pod_cidr() {
    let networks = |spec: Value| {
        let object = json!({"metadata": {"name": NODE}, "spec": spec});
        match converter().node(&serde_json::from_value(object).unwrap()) {
            Some(Event::Node(node)) => node.pod_cidrs.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    };
    let one = "10.244.1.0/24";
    let two = ["10.244.2.0/24", "fd00:244::/64"];
    for (spec, expected) in [
        (json!({"podCIDR": one, "podCIDRs": two}), &two[..]),
        (json!({"podCIDRs": two}), &two),
        (json!({"podCIDR": one, "podCIDRs": []}), &[one]),
        (json!({"podCIDR": one}), &[one]),
        (json!({"podCIDR": "nonsense"}), &[]),
        (json!({}), &[]),
    ] {
        let found: Vec<String> = networks(spec.clone());
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn l2_the_primary_address_of_a_family_is_the_first_internal_else_external_one() {
    let primary = |addresses: Value| {
        let object = json!({"metadata": {"name": NODE}, "status": {"addresses": addresses}});
        let event = converter().node(&serde_json::from_value(object).unwrap());
        let Some(Event::Node(node)) = event else {
            panic!("{event:?}")
        };
        Family::ALL.map(|family| node.primary(family).map(|ip| ip.to_string()))
    };
    let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
    let all = json!([
        address("Hostname", "node-1"),
        address("ExternalIP", "203.0.113.1"),
        address("ExternalIP", "2001:db8::1"),
        address("InternalIP", "10.0.0.1"),
        address("InternalIP", "10.0.0.2"),
    ]);
    assert_eq!(
        primary(all),
        [Some("10.0.0.1".into()), Some("2001:db8::1".into())]
    );
    assert_eq!(
        primary(json!([address("InternalDNS", "10.0.0.1")])),
        [None, None]
    );
    assert_eq!(primary(json!(null)), [None, None]);
}

#[test]
fn j12_a_node_leaves_when_it_is_deleted_or_an_autoscaler_is_about_to() {
    let standing = |patch: Value| {
        let mut object = json!({"metadata": {"name": NODE}, "spec": {}});
        merge(&mut object, &patch);
        match converter().node(&serde_json::from_value(object).unwrap()) {
            Some(Event::Node(node)) => node.standing,
            other => panic!("{other:?}"),
        }
    };
    let tainted = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    assert_eq!(standing(json!({})), Standing::Staying);
    let unschedulable = tainted("node.kubernetes.io/unschedulable");
    assert_eq!(standing(unschedulable), Standing::Staying);
    let doomed = tainted("ToBeDeletedByClusterAutoscaler");
    assert_eq!(standing(doomed), Standing::Leaving);
    let deleted = json!({"name": NODE, "deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(standing(json!({ "metadata": deleted })), Standing::Leaving);
    let gone = serde_json::from_value(json!({"name": NODE})).unwrap();
    let Some(Event::Node(node)) = converter().node_deleted(&gone) else {
        panic!("the Node is this one");
    };
    assert_eq!(node.standing, Standing::Unknown);
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
