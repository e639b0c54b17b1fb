//! The granular checks on the Service's second family, IPv6. Rows DS10 to DS15.

use std::net::SocketAddr;

use super::networking::{
    affinity, endpoint_to_service, large_requests, node_to_service, pod_to_service,
    updates_endpoints,
};
use crate::{
    agent::socket::Protocol,
    conformance::{
        case::cases,
        scenario::{Scenario, tcp, udp},
    },
    workload::Service,
};

cases! {
    ds10_pod_to_service_http: rows [DS10],
        rules [A7 M1], needs [V4 V6];
    ds11_pod_to_service_udp: rows [DS11a],
        rules [E1 G2 G6], needs [V4 V6];
    ds11_node_to_service_http: rows [DS11b],
        rules [E1 G2 G6], needs [V4 V6];
    ds11_node_to_service_udp: rows [DS11c],
        rules [E1 G2 G6], needs [V4 V6];
    ds11_endpoint_to_service_http: rows [DS11d],
        rules [E1 G2 G6], needs [V4 V6];
    ds11_endpoint_to_service_udp: rows [DS11e],
        rules [E1 G2 G6], needs [V4 V6];
    ds12_large_requests_http: rows [DS12a],
        rules [G9], needs [V4 V6];
    ds12_large_requests_udp: rows [DS12b],
        rules [G9], needs [V4 V6];
    ds13_updates_endpoints_http: rows [DS13a],
        rules [B17 I1], needs [V4 V6];
    ds13_updates_endpoints_udp: rows [DS13b],
        rules [B17 I1], needs [V4 V6];
    ds14_client_ip_affinity_http: rows [DS14a],
        rules [H1 H9], needs [V4 V6];
    ds14_client_ip_affinity_udp: rows [DS14b],
        rules [H1 H9], needs [V4 V6];
    ds15_host_network_endpoints: rows [DS15],
        rules [A7 B14], needs [V4 V6];
}

fn second_family(service: &Service, port: u16) -> SocketAddr {
    service.v6(port)
}

fn ds10_pod_to_service_http(s: &Scenario) {
    pod_to_service(s, Protocol::Tcp, second_family);
}

fn ds11_pod_to_service_udp(s: &Scenario) {
    pod_to_service(s, Protocol::Udp, second_family);
}

fn ds11_node_to_service_http(s: &Scenario) {
    node_to_service(s, Protocol::Tcp, second_family);
}

fn ds11_node_to_service_udp(s: &Scenario) {
    node_to_service(s, Protocol::Udp, second_family);
}

fn ds11_endpoint_to_service_http(s: &Scenario) {
    endpoint_to_service(s, Protocol::Tcp, second_family);
}

fn ds11_endpoint_to_service_udp(s: &Scenario) {
    endpoint_to_service(s, Protocol::Udp, second_family);
}

fn ds12_large_requests_http(s: &Scenario) {
    large_requests(s, Protocol::Tcp, second_family);
}

fn ds12_large_requests_udp(s: &Scenario) {
    large_requests(s, Protocol::Udp, second_family);
}

fn ds13_updates_endpoints_http(s: &Scenario) {
    updates_endpoints(s, Protocol::Tcp, second_family);
}

fn ds13_updates_endpoints_udp(s: &Scenario) {
    updates_endpoints(s, Protocol::Udp, second_family);
}

fn ds14_client_ip_affinity_http(s: &Scenario) {
    affinity(s, Protocol::Tcp, second_family);
}

fn ds14_client_ip_affinity_udp(s: &Scenario) {
    affinity(s, Protocol::Udp, second_family);
}

fn ds15_host_network_endpoints(s: &Scenario) {
    let port = s.node_port();
    let service = s
        .service("net")
        .port("http", 80, 18_015, "TCP")
        .port("udp", 80, 18_015, "UDP")
        .node_port("http", port)
        .node_port("udp", port);
    s.apply(service.object());
    let names = ["host-0", "host-1"];
    let backends = [0, 1].map(|node| s.host_network_backend(node, names[node], 18_015));
    s.publish(backends.iter().map(|backend| s.record(backend, "net")));
    let at_node = s.at_node(0, port)[1];
    for mut client in [s.client(0), s.client_in(&backends[1]), s.host_client(2)] {
        client.reaches(&tcp(service.v6(80)), &names);
        client.reaches(&udp(service.v6(80)), &names);
        client.reaches(&tcp(at_node), &names);
        client.reaches(&udp(at_node), &names);
    }
}
