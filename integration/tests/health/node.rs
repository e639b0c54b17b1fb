//! This node as far as the conformance suite does not ask: nodes that are not known, addresses that
//! are taken, what operators are told of us (rules J12, J16 to J18).

use std::{net::TcpListener, thread, time::Duration};

use serde_json::json;

use super::{
    ask::{Answer, answers, eventually, get},
    stage::{From, Stage},
};

#[test]
fn j17_j18_operators_are_told_our_mode_and_options() {
    let stage = Stage::new(1, From::Files, &[]);
    assert_eq!(stage.operator("/proxyMode"), (200, "ebpf".to_owned()));
    let (code, text) = stage.operator("/configz");
    let options: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 200);
    assert_eq!(options["lb-controller"]["node-name"], "node-1");
    assert_eq!(options["lb-controller"]["sync-period"], "30s");
    for absent in ["/", "/flagz", "/debug/pprof/", "/metrics/slis"] {
        assert_eq!(stage.operator(absent).0, 404, "{absent}");
    }
}

#[test]
fn j12_a_node_that_was_not_seen_yet_is_not_eligible_with_an_api_server() {
    let mut stage = Stage::without_proxies(1, From::Api, &[]);
    stage.launch();
    let host = stage.cluster.node(0).host();
    let healthz = [stage.healthz()];
    answers(&[&host], &healthz, "/livez", 200);
    eventually("the first sync", || {
        stage.output().contains("programmed the first time")
    });
    let Answer::Status(503, text) = get(&host, healthz[0], "/healthz") else {
        panic!("nothing is known of the node");
    };
    assert!(text.contains("\"nodeEligible\":false"), "{text}");
    assert!(text.contains("\"healthy\":true"), "{text}");
    let node = stage.cluster.node(0).object();
    stage.control_plane.apply(&node).unwrap();
    answers(&[&host], &healthz, "/healthz", 200);
}

#[test]
fn j12_a_node_without_a_manifest_is_eligible() {
    let mut stage = Stage::without_proxies(1, From::Files, &[]);
    stage.launch();
    let host = stage.cluster.node(0).host();
    let healthz = [stage.healthz()];
    answers(&[&host], &healthz, "/healthz", 200);
    let mut node = stage.cluster.node(0).object();
    node["spec"]["taints"] = json!([{"key": "ToBeDeletedByClusterAutoscaler"}]);
    node["spec"]["taints"][0]["effect"] = json!("NoSchedule");
    stage.control_plane.apply(&node).unwrap();
    answers(&[&host], &healthz, "/healthz", 503);
    stage.control_plane.delete(&node).unwrap();
    answers(&[&host], &healthz, "/healthz", 200);
}

#[test]
fn j16_a_taken_healthz_address_is_tried_again_and_told() {
    let mut stage = Stage::without_proxies(1, From::Api, &[]);
    let node = stage.cluster.node(0).object();
    stage.control_plane.apply(&node).unwrap();
    let address = stage.healthz();
    let netns = stage.cluster.node(0).netns();
    let taken = netns.run(|| TcpListener::bind(address)).unwrap().unwrap();
    stage.launch();
    let api = stage.api.clone().unwrap();
    eventually("the Event", || {
        let events = api.list("events.events.k8s.io", Some("default")).unwrap();
        events.iter().any(|event| {
            event["reason"] == "FailedToStartProxierHealthcheck"
                && event["regarding"]["kind"] == "Node"
                && event["regarding"]["name"] == "node-1"
        })
    });
    drop(taken);
    let host = stage.cluster.node(0).host();
    answers(&[&host], &[address], "/healthz", 200);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(stage.output().matches("listening at last").count(), 1);
}
