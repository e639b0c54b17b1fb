//! What load balancers, the kubelet and operators learn of a proxy over HTTP. Rows S30, S36, LB13
//! and LB14 as far as they ask the health-check node port; row N22.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent::http::Reply,
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp, tcp_at, tcp_to},
        site::NodeFate,
    },
    workload::Service,
};

cases! {
    s30_health_check_fails_while_only_terminating_endpoints_are_left: rows [S30],
        rules [J1 J2 J3 J4 J5], needs [Outside];
    s36_health_check_follows_changes_of_the_external_policy: rows [S36],
        rules [J1 J7 J8], needs [Outside];
    lb13_health_check_ends_with_the_type_and_moves_with_its_port: rows [LB13],
        rules [J1 J8 E17], needs [Outside];
    lb14_health_check_points_at_the_nodes_with_endpoints: rows [LB14],
        rules [J1 J3], needs [Outside];
    n22_proxy_urls_answer_host_processes: rows [N22],
        rules [J10 J14 J17];
    j11_livez_answers_without_a_word_on_the_node: own "/livez answers the kubelet, without a word on the node",
        rules [J11 J14];
    j12_a_node_about_to_go_tells_load_balancers_while_connections_go_on: own "a node that is to be deleted fails /healthz, not /livez or the health checks of Services, and serves on",
        rules [J6 J11 J12 J15], needs [NodeChanges];
}

const HEALTHZ: u16 = 10_256;
const METRICS: u16 = 10_249;

/// `svc`: a load balancer with policy Local, and its health-check node port.
fn checked(s: &Scenario) -> (Service, u16) {
    let (port, health) = (s.node_port(), s.node_port());
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&[])
        .external_local()
        .spec("healthCheckNodePort", health);
    (service, health)
}

/// A pod of another node, a host process, and a client outside.
fn everywhere(s: &Scenario) -> [Client; 3] {
    [s.client(1), s.host_client(0), s.outside_client()]
}

/// Each node answers health checks with this status, whoever asks at whichever address.
fn health_is(s: &Scenario, clients: &mut [Client], port: u16, statuses: &[u16]) {
    for (node, &status) in statuses.iter().enumerate() {
        for to in s.at_node(node, port) {
            for client in &mut *clients {
                client.gets_status(to, "/", status);
            }
        }
    }
}

/// Nobody listens at the port of any node (rule J8).
fn health_is_closed(s: &Scenario, clients: &mut [Client], port: u16) {
    for node in 0..3 {
        for client in &mut *clients {
            client.is_refused_all(&tcp_to(&s.at_node(node, port)));
        }
    }
}

fn json_of(reply: &Reply) -> Value {
    let body = serde_json::from_str(&reply.body);
    body.unwrap_or_else(|error| panic!("the body is no JSON ({error}): {reply:?}"))
}

/// Rules J4 and J5.
fn tells_of(s: &Scenario, reply: &Reply, endpoints: u32) {
    let expected = json!({
        "service": {"namespace": s.namespace(), "name": "svc"},
        "localEndpoints": endpoints, "serviceProxyHealthy": true,
    });
    assert_eq!(json_of(reply), expected);
    is_plain_json(reply);
    let weight = reply.header("X-Load-Balancing-Endpoint-Weight");
    assert_eq!(weight, Some(endpoints.to_string().as_str()), "{reply:?}");
}

fn is_plain_json(reply: &Reply) {
    let kind = reply.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{reply:?}");
    let options = reply.header("X-Content-Type-Options");
    assert_eq!(options, Some("nosniff"), "{reply:?}");
}

fn s30_health_check_fails_while_only_terminating_endpoints_are_left(s: &Scenario) {
    let (service, health) = checked(s);
    let leaving = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    let second = s.backend(0, "second", &[80], &[]);
    s.publish([s.record(&leaving, "svc"), s.record(&second, "svc")]);
    s.apply(service.object());
    let mut clients = everywhere(s);
    for to in s.at_node(0, health) {
        // Two slices may come one after the other.
        let both = |reply: &Reply| json_of(reply)["localEndpoints"] == 2;
        tells_of(s, &clients[2].gets(to, "/healthz", both), 2);
    }
    s.withdraw("second");
    health_is(s, &mut clients, health, &[200, 503, 503]);
    for (node, endpoints) in [(0, 1), (1, 0)] {
        for to in s.at_node(node, health) {
            let wanted = |reply: &Reply| json_of(reply)["localEndpoints"] == endpoints;
            tells_of(s, &clients[0].gets(to, "/any/path", wanted), endpoints);
        }
    }
    s.terminate(&leaving);
    health_is(s, &mut clients, health, &[503, 503, 503]);
}

fn s36_health_check_follows_changes_of_the_external_policy(s: &Scenario) {
    let (local, health) = checked(s);
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let mut clients = everywhere(s);
    s.apply(local.object());
    health_is(s, &mut clients, health, &[200, 503, 503]);
    let cluster = local.clone().spec("externalTrafficPolicy", "Cluster");
    let cluster = cluster.spec("healthCheckNodePort", Value::Null);
    s.apply(cluster.object());
    health_is_closed(s, &mut clients, health);
    s.apply(local.object());
    health_is(s, &mut clients, health, &[200, 503, 503]);
}

fn lb13_health_check_ends_with_the_type_and_moves_with_its_port(s: &Scenario) {
    let (service, health) = checked(s);
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let mut clients = everywhere(s);
    s.apply(service.object());
    health_is(s, &mut clients, health, &[200]);
    // The API does not allow the port to change: another Service takes its place.
    let moved = s.node_port();
    s.delete(service.object());
    s.apply(service.clone().spec("healthCheckNodePort", moved).object());
    health_is_closed(s, &mut clients, health);
    health_is(s, &mut clients, moved, &[200]);
    let node_port = service.spec("type", "NodePort");
    s.apply(node_port.spec("healthCheckNodePort", Value::Null).object());
    health_is_closed(s, &mut clients, moved);
}

fn lb14_health_check_points_at_the_nodes_with_endpoints(s: &Scenario) {
    let (service, health) = checked(s);
    s.apply(service.object());
    let mut clients = everywhere(s);
    for (node, name) in ["on-0", "on-1", "on-2"].into_iter().enumerate() {
        let backend = s.backend(node, name, &[80], &[]);
        s.publish([s.record(&backend, "svc")]);
        let statuses = [0, 1, 2].map(|at| if at == node { 200 } else { 503 });
        health_is(s, &mut clients, health, &statuses);
        s.withdraw(name);
    }
    health_is(s, &mut clients, health, &[503, 503, 503]);
}

/// Where a node's proxy answers load balancers and the kubelet.
fn healthz(s: &Scenario, node: usize) -> SocketAddr {
    s.at_node(node, HEALTHZ)[0]
}

/// What `/healthz` and `/livez` have in common (rule J14).
fn tells_of_the_proxy(s: &Scenario, reply: &Reply) -> Value {
    is_plain_json(reply);
    let body = json_of(reply);
    let in_families = [
        ("IPv4", s.families().has_v4()),
        ("IPv6", s.families().has_v6()),
    ];
    let families = in_families.iter().filter(|(_, has)| *has);
    let all = families
        .map(|(family, _)| &body["status"][family])
        .chain([&body]);
    for status in all {
        assert!(status["lastUpdated"].is_string(), "{body}");
        assert_eq!(status["healthy"], true, "{body}");
    }
    assert!(body["currentTime"].is_string(), "{body}");
    body
}

fn n22_proxy_urls_answer_host_processes(s: &Scenario) {
    let mut host = s.host_client(0);
    let reply = host.gets_status(healthz(s, 0), "/healthz", 200);
    assert_eq!(tells_of_the_proxy(s, &reply)["nodeEligible"], true);
    let operators = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS);
    let mode = host.gets_status(operators, "/proxyMode", 200);
    assert!(!mode.body.is_empty(), "{mode:?}");
    let well = host.gets_status(operators, "/healthz", 200);
    assert_eq!(well.body.trim(), "ok");
    host.gets_status(operators, "/no/such/path", 404);
}

fn j11_livez_answers_without_a_word_on_the_node(s: &Scenario) {
    let reply = s.host_client(0).gets_status(healthz(s, 0), "/livez", 200);
    let body = tells_of_the_proxy(s, &reply);
    assert!(body.get("nodeEligible").is_none(), "{body}");
}

fn j12_a_node_about_to_go_tells_load_balancers_while_connections_go_on(s: &Scenario) {
    let (service, health) = checked(s);
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    s.apply(service.object());
    let mut client = s.client(0);
    client.reaches_all(&tcp_at(&service, 80), &["server"]);
    let stream = client.stream(service.first(80));
    let mut host = s.host_client(0);
    host.gets_status(s.at_node(0, health)[0], "/", 200);
    for fate in [NodeFate::Doomed, NodeFate::Deleted] {
        s.set_node(0, fate);
        let reply = host.gets_status(healthz(s, 0), "/healthz", 503);
        let body = json_of(&reply);
        assert_eq!(body["nodeEligible"], false, "{fate:?}: {body}");
        host.gets_status(healthz(s, 0), "/livez", 200);
        // Rule J6.
        host.gets_status(s.at_node(0, health)[0], "/", 200);
        client.stream_works(stream, "still here");
        client.reaches(&tcp(service.first(80)), &["server"]);
        s.set_node(0, NodeFate::Stays);
        host.gets_status(healthz(s, 0), "/healthz", 200);
    }
}
