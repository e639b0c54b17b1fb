//! `healthCheckNodePort`: where it listens (rule J7). What it answers is asked of any proxy, by the
//! conformance suite.

use std::net::{SocketAddr, TcpListener};

use super::{
    ask::{answers, eventually, refuses},
    stage::{From, HEALTH, Stage},
};

/// The health-check answers of these nodes, from a pod, a host and outside.
fn health_is(stage: &Stage, codes: &[u16]) {
    let from = stage.everywhere();
    let from: Vec<_> = from.iter().collect();
    for (node, code) in codes.iter().enumerate() {
        answers(&from, &stage.at(node, HEALTH), "/", *code);
    }
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
