//! The granular checks, on the first family. Rows N1, N2, N4, N5, N7 to N11, N16 to N19; the
//! second family is in `second_family.rs`, with the same checks.

use std::net::SocketAddr;

use lb_integration::{
    agent::{dial::Dial, socket::Protocol},
    workload::Service,
};

use crate::{
    affinity::{becomes_sticky, is_sticky},
    scenario::{Backend, Scenario, tcp, tcp_both, udp},
};

/// Two pods on each node, as upstream has one netexec pod per node or more.
const PODS: [&str; 4] = ["net-0", "net-1", "net-2", "net-3"];

/// Which of a Service's addresses a check dials.
pub(crate) type Pick = fn(&Service, u16) -> SocketAddr;

pub(crate) fn first_family(service: &Service, port: u16) -> SocketAddr {
    service.v4(port)
}

fn dial(protocol: Protocol, to: SocketAddr) -> Dial {
    match protocol {
        Protocol::Tcp => tcp(to),
        Protocol::Udp => udp(to),
    }
}

/// A Service with TCP port 80 and UDP port 90 over four pods.
pub(crate) fn granular(name: &str) -> (Scenario, Service, Vec<Backend>) {
    let s = Scenario::new(name);
    let backends = s.published_backends("net", &PODS);
    let service = s
        .service("net")
        .port("http", 80, 80, "TCP")
        .port("udp", 90, 80, "UDP");
    s.apply(service.object());
    (s, service, backends)
}

fn port_of(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 80,
        Protocol::Udp => 90,
    }
}

pub(crate) fn pod_to_service(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, _backends) = granular(name);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for node in 0..2 {
        s.client(node).reaches(&dial, &PODS);
    }
}

pub(crate) fn node_to_service(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, _backends) = granular(name);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for node in 0..2 {
        s.host_client(node).reaches(&dial, &PODS);
    }
}

pub(crate) fn endpoint_to_service(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, backends) = granular(name);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for backend in &backends {
        s.client_in(backend).reaches(&dial, &PODS);
    }
}

pub(crate) fn updates_endpoints(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, mut backends) = granular(name);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    let mut client = s.client(0);
    client.reaches(&dial, &PODS);
    s.withdraw("net-3");
    drop(backends.pop());
    client.reaches(&dial, &PODS[..3]);
}

pub(crate) fn affinity(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, _backends) = granular(name);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    let mut client = s.client(1);
    client.reaches(&dial, &PODS);
    s.apply(service.client_ip_affinity(10_800).object());
    becomes_sticky(&mut client, &dial);
    // A UDP socket with the source port of an earlier one continues that one's flow where flows
    // are tracked, so stickiness is asked of a client that has none.
    let mut fresh = s.client(1);
    becomes_sticky(&mut fresh, &dial);
    is_sticky(&mut fresh, &dial);
}

pub(crate) fn large_requests(name: &str, protocol: Protocol, pick: Pick) {
    let (s, service, _backends) = granular(name);
    let message = "0123456789".repeat(200);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    let mut client = s.client(0);
    client.reaches(&dial, &PODS);
    for _ in 0..10 {
        let echoed = client.dial(&dial.clone().request(format!("echo {message}")));
        assert_eq!(
            echoed.reply.as_deref(),
            Some(message.as_str()),
            "{:?}",
            echoed.error
        );
    }
}

#[test]
fn n1_pod_to_service_http() {
    pod_to_service("n1", Protocol::Tcp, first_family);
}

#[test]
fn n2_pod_to_service_udp() {
    pod_to_service("n2", Protocol::Udp, first_family);
}

#[test]
fn n4_node_to_service_http() {
    node_to_service("n4", Protocol::Tcp, first_family);
}

#[test]
fn n5_node_to_service_udp() {
    node_to_service("n5", Protocol::Udp, first_family);
}

#[test]
fn n7_endpoint_to_service_http() {
    endpoint_to_service("n7", Protocol::Tcp, first_family);
}

#[test]
fn n8_endpoint_to_service_udp() {
    endpoint_to_service("n8", Protocol::Udp, first_family);
}

#[test]
fn n9_several_services_with_the_same_selector() {
    let s = Scenario::new("n9");
    let _backends = s.published_backends("shared", &PODS);
    let selector = serde_json::json!({"app": "shared"});
    let [one, two] = ["one", "two"].map(|name| {
        s.service(name)
            .port("", 80, 80, "TCP")
            .spec("selector", selector.clone())
    });
    s.apply(one.object());
    s.apply(two.object());
    let mut client = s.client(0);
    client.reaches_all(&tcp_both(&one, 80), &PODS);
    client.reaches_all(&tcp_both(&two, 80), &PODS);
    s.delete(two.object());
    client.fails_all(&tcp_both(&two, 80));
    client.reaches_all(&tcp_both(&one, 80), &PODS);
}

#[test]
fn n10_updates_endpoints_http() {
    updates_endpoints("n10", Protocol::Tcp, first_family);
}

#[test]
fn n11_updates_endpoints_udp() {
    updates_endpoints("n11", Protocol::Udp, first_family);
}

#[test]
fn n16_client_ip_affinity_http() {
    affinity("n16", Protocol::Tcp, first_family);
}

#[test]
fn n17_client_ip_affinity_udp() {
    affinity("n17", Protocol::Udp, first_family);
}

#[test]
fn n18_large_requests_udp() {
    large_requests("n18", Protocol::Udp, first_family);
}

#[test]
fn n19_large_requests_http() {
    large_requests("n19", Protocol::Tcp, first_family);
}
