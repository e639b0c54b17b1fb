//! `healthCheckNodePort` (rules J1–J8; rows S30, S36, LB13, LB14).

use std::net::{SocketAddr, TcpListener};

use lb_integration::client::{Client, tcp};

use super::{
    ask::{Answer, answers, eventually, get, refuses},
    stage::{From, HEALTH, NODE_PORT, Stage},
};

/// The health-check answers of these nodes, from a pod, a host and outside.
fn health_is(stage: &Stage, codes: &[u16]) {
    let from = stage.everywhere();
    let from: Vec<_> = from.iter().collect();
    for (node, code) in codes.iter().enumerate() {
        answers(&from, &stage.at(node, HEALTH), "/", *code);
    }
}

fn health_is_closed(stage: &Stage, nodes: usize) {
    let from = stage.everywhere();
    let from: Vec<_> = from.iter().collect();
    for node in 0..nodes {
        refuses(&from, &stage.at(node, HEALTH));
    }
}

#[test]
fn s30_health_check_fails_while_only_terminating_endpoints_are_left() {
    let mut stage = Stage::new(2, From::Files, &[]);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "leaving");
    health_is(&stage, &[200, 503]);
    let to = stage.at(0, HEALTH)[0];
    let Answer::Status(200, text) = get(&stage.outside.placement().clone(), to, "/healthz") else {
        panic!("/healthz is answered as / is");
    };
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 1, "serviceProxyHealthy": true,
    });
    assert_eq!(body, expected);
    let changed = stage.control_plane.change_pod("default", "leaving", |pod| {
        pod.terminating = true;
    });
    changed.unwrap();
    health_is(&stage, &[503, 503]);
    let mut client = Client::new(stage.outside.control().unwrap());
    for to in stage.at(0, NODE_PORT) {
        client.reaches(&tcp(to), &["leaving"]);
    }
}

#[test]
fn s36_health_check_follows_changes_of_the_external_policy() {
    let mut stage = Stage::new(3, From::Api, &[]);
    let local = Stage::checked();
    stage.control_plane.apply(local.object()).unwrap();
    stage.serve(0, "server");
    health_is(&stage, &[200, 503, 503]);
    let cluster = local.clone().spec("externalTrafficPolicy", "Cluster");
    let cluster = cluster.spec("healthCheckNodePort", serde_json::Value::Null);
    stage.control_plane.apply(cluster.object()).unwrap();
    health_is_closed(&stage, 3);
    let mut client = Client::new(stage.outside.control().unwrap());
    for node in 0..3 {
        for to in stage.at(node, NODE_PORT) {
            client.reaches(&tcp(to), &["server"]);
        }
    }
    stage.control_plane.apply(local.object()).unwrap();
    health_is(&stage, &[200, 503, 503]);
}

#[test]
fn lb13_health_check_ends_with_the_type_and_moves_with_its_port() {
    let mut stage = Stage::new(1, From::Files, &[]);
    let service = Stage::checked();
    stage.control_plane.apply(service.object()).unwrap();
    stage.serve(0, "server");
    health_is(&stage, &[200]);
    let moved = service.clone().spec("healthCheckNodePort", HEALTH + 1);
    stage.control_plane.apply(moved.object()).unwrap();
    health_is_closed(&stage, 1);
    let from = stage.everywhere();
    let from: Vec<_> = from.iter().collect();
    answers(&from, &stage.at(0, HEALTH + 1), "/", 200);
    let node_port = service.clone().spec("type", "NodePort");
    stage.control_plane.apply(node_port.object()).unwrap();
    refuses(&from, &stage.at(0, HEALTH + 1));
    stage.control_plane.apply(service.object()).unwrap();
    health_is(&stage, &[200]);
    stage.control_plane.delete(service.object()).unwrap();
    health_is_closed(&stage, 1);
}

#[test]
fn lb14_health_check_points_at_the_nodes_with_endpoints() {
    let mut stage = Stage::new(3, From::Files, &[]);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    for node in 0..3 {
        let name = format!("on-{node}");
        stage.serve(node, &name);
        let codes = [0, 1, 2].map(|at| if at == node { 200 } else { 503 });
        health_is(&stage, &codes);
        stage
            .control_plane
            .remove_pods("default", &[&name])
            .unwrap();
    }
    health_is(&stage, &[503, 503, 503]);
}

#[test]
fn j7_health_checks_keep_to_the_addresses_of_node_ports_and_follow_them() {
    let networks = "172.30.0.0/16,192.0.2.0/24,fd00:30::/64";
    let mut stage = Stage::new(1, From::Files, &["--nodeport-addresses", networks]);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "server");
    health_is(&stage, &[200]);
    let host = stage.cluster.node(0).host();
    let loopback: SocketAddr = ([127, 0, 0, 1], HEALTH).into();
    refuses(&[&host], &[loopback]);
    let later: SocketAddr = ([192, 0, 2, 77], HEALTH).into();
    let ip = |arguments: &[&str]| stage.cluster.node(0).netns().tool("ip", arguments).unwrap();
    ip(&["addr", "add", "192.0.2.77/32", "dev", "lo"]);
    answers(&[&host], &[later], "/", 200);
    ip(&["addr", "del", "192.0.2.77/32", "dev", "lo"]);
    eventually("the server at the address that is gone closes", || {
        stage.output().contains("closed a health-check node port")
    });
    health_is(&stage, &[200]);
}

#[test]
fn j7_taken_health_check_ports_are_told_and_tried_again() {
    let mut stage = Stage::new(1, From::Api, &[]);
    let taken = stage
        .cluster
        .node(0)
        .netns()
        .run(|| TcpListener::bind(("0.0.0.0", HEALTH)));
    let taken = taken.unwrap().unwrap();
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "server");
    let api = stage.api.clone().unwrap();
    eventually("the Event", || {
        let events = api.list("events.events.k8s.io", Some("default")).unwrap();
        events.iter().any(|event| {
            event["reason"] == "FailedToStartServiceHealthcheck"
                && event["type"] == "Warning"
                && event["regarding"]["name"] == "web"
                && event["regarding"]["kind"] == "Service"
                && event["regarding"]["uid"]
                    == api.get("svc", "default", "web").unwrap()["metadata"]["uid"]
        })
    });
    // The other family's server is not held up.
    let host = stage.cluster.node(0).host();
    answers(&[&host], &stage.at(0, HEALTH)[1..], "/", 200);
    drop(taken);
    health_is(&stage, &[200]);
}
