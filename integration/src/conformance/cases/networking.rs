//! The granular checks, on the first family. Rows N1, N2, N4, N5, N7 to N11, N16 to N19; the
//! second family is in `second_family.rs`, with the same checks.

use std::net::SocketAddr;

use super::affinity::{becomes_sticky, is_sticky};
use crate::{
    agent::{dial::Dial, socket::Protocol},
    conformance::{
        case::cases,
        scenario::{Backend, Scenario, tcp, tcp_at, udp},
    },
    workload::Service,
};

cases! {
    n1_pod_to_service_http: rows [N1],
        rules [C15 E1];
    n2_pod_to_service_udp: rows [N2],
        rules [C15 E1 G6];
    n4_node_to_service_http: rows [N4],
        rules [E1];
    n5_node_to_service_udp: rows [N5],
        rules [E1 G6];
    n7_endpoint_to_service_http: rows [N7],
        rules [G2];
    n8_endpoint_to_service_udp: rows [N8],
        rules [G2 G6];
    n9_several_services_with_the_same_selector: rows [N9],
        rules [C17];
    n10_updates_endpoints_http: rows [N10],
        rules [B17];
    n11_updates_endpoints_udp: rows [N11],
        rules [B17 I1];
    n16_client_ip_affinity_http: rows [N16],
        rules [H1];
    n17_client_ip_affinity_udp: rows [N17],
        rules [H9];
    n18_large_requests_udp: rows [N18],
        rules [G9];
    n19_large_requests_http: rows [N19],
        rules [E1];
}

/// Two pods on each node, as upstream has one netexec pod per node or more.
const PODS: [&str; 4] = ["net-0", "net-1", "net-2", "net-3"];

/// Which of a Service's addresses a check dials.
pub(crate) type Pick = fn(&Service, u16) -> SocketAddr;

pub(crate) fn first_family(service: &Service, port: u16) -> SocketAddr {
    service.first(port)
}

fn dial(protocol: Protocol, to: SocketAddr) -> Dial {
    match protocol {
        Protocol::Tcp => tcp(to),
        Protocol::Udp => udp(to),
    }
}

/// A Service with TCP port 80 and UDP port 90 over four pods.
fn granular(s: &Scenario) -> (Service, Vec<Backend>) {
    let backends = s.published_backends("net", &PODS);
    let service = s
        .service("net")
        .port("http", 80, 80, "TCP")
        .port("udp", 90, 80, "UDP");
    s.apply(service.object());
    (service, backends)
}

fn port_of(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 80,
        Protocol::Udp => 90,
    }
}

pub(crate) fn pod_to_service(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, _backends) = granular(s);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for node in 0..2 {
        s.client(node).reaches(&dial, &PODS);
    }
}

pub(crate) fn node_to_service(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, _backends) = granular(s);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for node in 0..2 {
        s.host_client(node).reaches(&dial, &PODS);
    }
}

pub(crate) fn endpoint_to_service(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, backends) = granular(s);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    for backend in &backends {
        s.client_in(backend).reaches(&dial, &PODS);
    }
}

pub(crate) fn updates_endpoints(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, mut backends) = granular(s);
    let dial = dial(protocol, pick(&service, port_of(protocol)));
    let mut client = s.client(0);
    client.reaches(&dial, &PODS);
    s.withdraw("net-3");
    drop(backends.pop());
    client.reaches(&dial, &PODS[..3]);
}

pub(crate) fn affinity(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, _backends) = granular(s);
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

pub(crate) fn large_requests(s: &Scenario, protocol: Protocol, pick: Pick) {
    let (service, _backends) = granular(s);
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

fn n1_pod_to_service_http(s: &Scenario) {
    pod_to_service(s, Protocol::Tcp, first_family);
}

fn n2_pod_to_service_udp(s: &Scenario) {
    pod_to_service(s, Protocol::Udp, first_family);
}

fn n4_node_to_service_http(s: &Scenario) {
    node_to_service(s, Protocol::Tcp, first_family);
}

fn n5_node_to_service_udp(s: &Scenario) {
    node_to_service(s, Protocol::Udp, first_family);
}

fn n7_endpoint_to_service_http(s: &Scenario) {
    endpoint_to_service(s, Protocol::Tcp, first_family);
}

fn n8_endpoint_to_service_udp(s: &Scenario) {
    endpoint_to_service(s, Protocol::Udp, first_family);
}

fn n9_several_services_with_the_same_selector(s: &Scenario) {
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
    client.reaches_all(&tcp_at(&one, 80), &PODS);
    client.reaches_all(&tcp_at(&two, 80), &PODS);
    s.delete(two.object());
    client.fails_all(&tcp_at(&two, 80));
    client.reaches_all(&tcp_at(&one, 80), &PODS);
}

fn n10_updates_endpoints_http(s: &Scenario) {
    updates_endpoints(s, Protocol::Tcp, first_family);
}

fn n11_updates_endpoints_udp(s: &Scenario) {
    updates_endpoints(s, Protocol::Udp, first_family);
}

fn n16_client_ip_affinity_http(s: &Scenario) {
    affinity(s, Protocol::Tcp, first_family);
}

fn n17_client_ip_affinity_udp(s: &Scenario) {
    affinity(s, Protocol::Udp, first_family);
}

fn n18_large_requests_udp(s: &Scenario) {
    large_requests(s, Protocol::Udp, first_family);
}

fn n19_large_requests_http(s: &Scenario) {
    large_requests(s, Protocol::Tcp, first_family);
}
