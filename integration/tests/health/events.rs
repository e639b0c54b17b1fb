//! Events in the API server (rule K6).

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use super::{
    ask::{answers, eventually},
    stage::{From, Stage},
};

#[test]
fn k6_the_start_is_an_event_of_the_node_and_nothing_else_is_written() {
    let mut stage = Stage::new(1, From::Api, &[]);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "server");
    let api = stage.api.clone().unwrap();
    let of_start = || {
        let events = api.list("events.events.k8s.io", Some("default")).unwrap();
        let starting = events.into_iter().filter(|e| e["reason"] == "Starting");
        starting.collect::<Vec<_>>()
    };
    eventually("the Event", || !of_start().is_empty());
    let events = of_start();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["action"], "StartKubeProxy");
    assert_eq!(event["reportingController"], "lb-controller");
    assert_eq!(event["reportingInstance"], "node-1");
    assert_eq!(event["regarding"]["kind"], "Node");
    assert_eq!(event["regarding"]["name"], "node-1");
    assert_eq!(event["regarding"]["uid"], "node-1");
    let writes = api.requests().into_iter().filter(|r| r.method != "GET");
    let paths: Vec<_> = writes.map(|request| request.path).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    assert!(paths[0].starts_with("/apis/events.k8s.io/v1/namespaces/default/events"));
}

#[test]
fn k6_a_server_that_refuses_events_is_told_of_once_and_disturbs_nothing() {
    let mut stage = Stage::without_proxies(1, From::Api, &[]);
    let node = stage.cluster.node(0).object();
    stage.control_plane.apply(&node).unwrap();
    let api = stage.api.clone().unwrap();
    api.faults().fail_next_matching(1000, 403, "/events");
    stage.launch();
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "server");
    let host = stage.cluster.node(0).host();
    answers(&[&host], &[stage.healthz()], "/healthz", 200);
    eventually("the warning", || {
        stage.output().contains("cannot write Events")
    });
    assert_eq!(stage.output().matches("cannot write Events").count(), 1);
    assert!(api.list("events.events.k8s.io", None).unwrap().is_empty());
}

#[test]
fn k6_a_service_that_does_not_fit_is_told_on_the_service() {
    let mut stage = Stage::new(1, From::Api, &[]);
    // More than the map of source ranges can ever take.
    let ranges = (0..70_000_u32).map(|n| format!("{}/32", Ipv4Addr::from(0xcb00_0000 + n * 2)));
    let ranges: Vec<_> = ranges.collect();
    let service = Stage::checked().spec("loadBalancerSourceRanges", ranges);
    stage.control_plane.apply(service.object()).unwrap();
    stage.serve(0, "server");
    let api = stage.api.clone().unwrap();
    let uid = || api.get("svc", "default", "web").unwrap()["metadata"]["uid"].clone();
    let mut found = Vec::new();
    eventually("the Event", || {
        found = api.list("events.events.k8s.io", Some("default")).unwrap();
        found.retain(|event| event["reason"] == "FailedToProgram");
        !found.is_empty()
    });
    let event = &found[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["name"], "web");
    assert_eq!(event["regarding"]["uid"], uid());
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("SOURCE_RANGES"), "{note}");
    assert!(stage.output().contains("the map is full"));
}

#[test]
fn j16_a_hard_failure_to_listen_is_told_before_the_end() {
    let mut stage = Stage::without_proxies(1, From::Api, &["--bind-address-hard-fail"]);
    let address = stage.healthz();
    let netns = stage.cluster.node(0).netns();
    let _taken = netns.run(|| TcpListener::bind(address)).unwrap().unwrap();
    stage.launch();
    let status = stage.proxies[0]
        .process()
        .wait(Duration::from_secs(60))
        .unwrap();
    assert_eq!(status.code(), Some(11), "{}", stage.output());
    let api = stage.api.clone().unwrap();
    let events = api.list("events.events.k8s.io", Some("default")).unwrap();
    let failed: Vec<_> = events
        .iter()
        .filter(|event| event["reason"] == "FailedToStartProxierHealthcheck")
        .collect();
    assert_eq!(failed.len(), 1, "{events:?}");
    assert_eq!(failed[0]["regarding"]["name"], "node-1");
}
