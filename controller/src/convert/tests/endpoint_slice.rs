//! EndpointSlices.

use serde_json::{Value, json};

use super::{super::*, NODE, converter, merge};
use crate::model::{EndpointSlice, Family, NodeHint, Protocol};

/// A slice of one port and one endpoint, with `patch` merged into the object.
fn slice(patch: &Value) -> Option<EndpointSlice> {
    let mut object = json!({
        "metadata": {
            "name": "web-x7k2p",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"]}],
    });
    merge(&mut object, patch);
    let object = serde_json::from_value(object).unwrap();
    match converter().endpoint_slice(&object).unwrap() {
        Event::EndpointSlice(name, slice) => {
            assert_eq!(name.to_string(), "shop/web-x7k2p");
            slice
        }
        other => panic!("{other:?}"),
    }
}

fn endpoint(patch: &Value) -> crate::model::Endpoint {
    let mut endpoint = json!({"addresses": ["10.1.0.1"]});
    merge(&mut endpoint, patch);
    slice(&json!({ "endpoints": [endpoint] }))
        .unwrap()
        .endpoints[0]
        .clone()
}

#[test]
fn b1_a_slice_belongs_to_the_service_of_its_label_and_namespace() {
    assert_eq!(slice(&json!({})).unwrap().service.to_string(), "shop/web");
    let labels = |labels: Value| json!({"metadata": {"name": "web-x7k2p", "namespace": "shop", "labels": labels}});
    assert_eq!(slice(&labels(json!({}))), None);
    assert_eq!(slice(&labels(json!({SERVICE_NAME_LABEL: ""}))), None);
}

#[test]
fn j21_only_changes_after_the_start_have_a_time() {
    let mut converter = converter();
    let mut trigger = |time: &str| {
        let object = json!({
            "metadata": {
                "name": "web-1", "namespace": "shop",
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": time},
            },
            "addressType": "IPv4", "endpoints": [],
        });
        converter.trigger(&serde_json::from_value(object).unwrap())
    };
    assert_eq!(trigger("2020-01-01T00:00:00Z"), None);
    assert_eq!(trigger("soon"), None);
    assert_eq!(trigger(""), None);
    let Some(Event::Triggered(slice, at)) = trigger("2200-01-01T00:00:00.5Z") else {
        panic!("a change of the future is after the start");
    };
    assert_eq!(slice.to_string(), "shop/web-1");
    assert_eq!(at, 7_258_118_400_500_000_000);
}

#[test]
fn b2_slices_of_headless_services_are_excluded() {
    let labels = json!({SERVICE_NAME_LABEL: "web", HEADLESS_LABEL: ""});
    let metadata = json!({"name": "web-x7k2p", "namespace": "shop", "labels": labels});
    assert_eq!(slice(&json!({ "metadata": metadata })), None);
}

#[test]
fn b4_the_address_type_is_the_family() {
    assert_eq!(slice(&json!({})).unwrap().family, Family::V4);
    let v6 = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd01::1"]}]});
    assert_eq!(slice(&v6).unwrap().family, Family::V6);
    let names = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]});
    assert_eq!(slice(&names), None);
    assert_eq!(slice(&json!({"addressType": "IPX"})), None);
    // An address of the other family cannot be reached in this one.
    let mixed = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["::ffff:10.0.0.1"]}]});
    assert_eq!(slice(&mixed).unwrap().endpoints, []);
}

#[test]
fn b6_b7_ports_need_a_name_and_a_number() {
    let ports = slice(&json!({"ports": [
        {"name": "http", "port": 8080},
        {"name": "", "port": 80, "protocol": "UDP"},
        {"name": null, "port": 81},
        {"port": 82},
        {"name": "null-number"},
        {"name": "zero", "port": 0},
        {"name": "large", "port": 65536},
        {"name": "icmp", "port": 83, "protocol": "ICMP"},
    ]}));
    let ports = ports.unwrap().ports;
    let summary: Vec<_> = ports
        .iter()
        .map(|p| (&*p.name, p.protocol, p.port))
        .collect();
    assert_eq!(
        summary,
        [("http", Protocol::Tcp, 8080), ("", Protocol::Udp, 80)]
    );
    assert_eq!(slice(&json!({"ports": null})).unwrap().ports, []);
}

#[test]
fn b8_only_the_first_address_counts() {
    let endpoints = slice(&json!({"endpoints": [
        {"addresses": ["10.1.0.1", "10.1.0.2"]},
        {"addresses": []},
        {"addresses": ["010.1.0.03"]},
        {"addresses": ["nonsense"]},
    ]}));
    let addrs: Vec<_> = endpoints
        .unwrap()
        .endpoints
        .iter()
        .map(|e| e.addr.to_string())
        .collect();
    assert_eq!(addrs, ["10.1.0.1", "10.1.0.3"]);
    assert_eq!(slice(&json!({"endpoints": null})).unwrap().endpoints, []);
}

#[test]
fn b9_conditions_have_defaults() {
    let conditions = |conditions: Value| {
        let e = endpoint(&json!({ "conditions": conditions }));
        (e.ready, e.serving, e.terminating)
    };
    assert_eq!(conditions(json!({})), (true, true, false));
    assert_eq!(conditions(json!(null)), (true, true, false));
    assert_eq!(conditions(json!({"ready": false})), (false, true, false));
    assert_eq!(
        conditions(json!({"ready": false, "serving": false, "terminating": true})),
        (false, false, true)
    );
}

#[test]
fn b10_local_is_an_endpoint_with_exactly_this_node_name() {
    assert!(endpoint(&json!({"nodeName": NODE})).local);
    assert!(!endpoint(&json!({"nodeName": "NODE-1"})).local);
    assert!(!endpoint(&json!({"nodeName": ""})).local);
    assert!(!endpoint(&json!({})).local);
    let nameless = serde_json::from_value(json!({
        "metadata": {"name": "x", "labels": {SERVICE_NAME_LABEL: "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": ""}],
    }));
    let event = Converter::new("")
        .endpoint_slice(&nameless.unwrap())
        .unwrap();
    let Event::EndpointSlice(_, Some(slice)) = event else {
        panic!("{event:?}")
    };
    assert!(!slice.endpoints[0].local);
}

#[test]
fn d1_hints_are_kept_as_far_as_they_concern_this_node() {
    let hints = |hints: Value| {
        let e = endpoint(&json!({"zone": "a", "hints": hints}));
        (
            e.node_hint,
            e.zone_hints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(hints(json!(null)), (NodeHint::None, vec![]));
    assert_eq!(
        hints(json!({"forNodes": [], "forZones": []})),
        (NodeHint::None, vec![])
    );
    assert_eq!(
        hints(
            json!({"forNodes": [{"name": "node-2"}, {"name": NODE}], "forZones": [{"name": "a"}, {"name": "b"}]})
        ),
        (NodeHint::This, vec!["a".into(), "b".into()])
    );
    assert_eq!(
        hints(json!({"forNodes": [{"name": "node-2"}]})),
        (NodeHint::Other, vec![])
    );
    assert_eq!(endpoint(&json!({"zone": "a"})).zone.as_deref(), Some("a"));
    assert_eq!(endpoint(&json!({"zone": ""})).zone, None);
}
