//! This node: `/healthz`, `/livez`, and what load balancers learn from the Node object (rules
//! J10–J18; row N22).

use std::{net::TcpListener, thread, time::Duration};

use lb_integration::client::Client;
use serde_json::json;

use super::{
    ask::{Answer, answers, eventually, get},
    stage::{From, HEALTH, METRICS, Stage},
};

#[test]
fn n22_proxy_urls_answer_host_processes() {
    let stage = Stage::new(1, From::Files, &[]);
    let host = stage.cluster.node(0).host();
    let Answer::Status(200, text) = get(&host, stage.healthz(), "/healthz") else {
        panic!("the proxy is healthy");
    };
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("200 OK") && body.contains("lastUpdated"),
        "{text}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["nodeEligible"], true);
    for family in ["IPv4", "IPv6"] {
        assert_eq!(body["status"][family]["healthy"], true);
    }
    let metrics = ([127, 0, 0, 1], METRICS).into();
    let Answer::Status(200, text) = get(&host, metrics, "/proxyMode") else {
        panic!("/proxyMode is there");
    };
    assert!(text.ends_with("\r\n\r\nebpf"), "{text}");
    answers(&[&host], &[metrics], "/healthz", 200);
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
fn j12_j15_a_node_about_to_be_deleted_tells_load_balancers_while_connections_go_on() {
    let mut stage = Stage::new(1, From::Api, &[]);
    let service = Stage::checked();
    stage.control_plane.apply(service.object()).unwrap();
    stage.serve(0, "server");
    let host = stage.cluster.node(0).host();
    let healthz = [stage.healthz()];
    let checks = stage.at(0, HEALTH);
    answers(&[&host], &checks, "/", 200);
    let mut client = Client::new(stage.client.control().unwrap());
    let stream = client.stream(service.v4(80));
    let api = stage.api.clone().unwrap();
    let taint = |taints: serde_json::Value| {
        let edit = |node: &mut serde_json::Value| node["spec"]["taints"] = taints;
        api.edit("nodes", "", "node-1", edit).unwrap();
    };
    let key = "ToBeDeletedByClusterAutoscaler";
    for round in 0..2 {
        taint(json!([{"key": key, "value": "1700000000", "effect": "NoSchedule"}]));
        answers(&[&host], &healthz, "/healthz", 503);
        answers(&[&host], &healthz, "/livez", 200);
        // Rule J6.
        answers(&[&host], &checks, "/", 200);
        client.stream_works(stream, &format!("round {round}"));
        client.stream(service.v6(80));
        taint(json!([{"key": "other", "effect": "NoSchedule"}]));
        answers(&[&host], &healthz, "/healthz", 200);
    }
    let node = stage.cluster.node(0).object();
    stage.control_plane.delete(&node).unwrap();
    answers(&[&host], &healthz, "/healthz", 503);
    client.stream_works(stream, "without a node");
    stage.control_plane.apply(&node).unwrap();
    answers(&[&host], &healthz, "/healthz", 200);
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
