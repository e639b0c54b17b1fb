//! The granular checks on the Service's second family, IPv6. Rows DS10 to DS14.

use std::net::SocketAddr;

use lb_integration::{agent::socket::Protocol, workload::Service};

use crate::networking::{
    affinity, endpoint_to_service, large_requests, node_to_service, pod_to_service,
    updates_endpoints,
};

fn second_family(service: &Service, port: u16) -> SocketAddr {
    service.v6(port)
}

#[test]
fn ds10_pod_to_service_http() {
    pod_to_service("ds10", Protocol::Tcp, second_family);
}

#[test]
fn ds11_pod_to_service_udp() {
    pod_to_service("ds11a", Protocol::Udp, second_family);
}

#[test]
fn ds11_node_to_service_http() {
    node_to_service("ds11b", Protocol::Tcp, second_family);
}

#[test]
fn ds11_node_to_service_udp() {
    node_to_service("ds11c", Protocol::Udp, second_family);
}

#[test]
fn ds11_endpoint_to_service_http() {
    endpoint_to_service("ds11d", Protocol::Tcp, second_family);
}

#[test]
fn ds11_endpoint_to_service_udp() {
    endpoint_to_service("ds11e", Protocol::Udp, second_family);
}

#[test]
fn ds12_large_requests_http() {
    large_requests("ds12a", Protocol::Tcp, second_family);
}

#[test]
fn ds12_large_requests_udp() {
    large_requests("ds12b", Protocol::Udp, second_family);
}

#[test]
fn ds13_updates_endpoints_http() {
    updates_endpoints("ds13a", Protocol::Tcp, second_family);
}

#[test]
fn ds13_updates_endpoints_udp() {
    updates_endpoints("ds13b", Protocol::Udp, second_family);
}

#[test]
fn ds14_client_ip_affinity_http() {
    affinity("ds14a", Protocol::Tcp, second_family);
}

#[test]
fn ds14_client_ip_affinity_udp() {
    affinity("ds14b", Protocol::Udp, second_family);
}
