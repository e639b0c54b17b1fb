//! NodePorts, from pods, hosts and outside. Rows S8, S11, S13, S15, S17, S18, S20, S24, S34c, N1, N4,
//! N13 to N15, N20.

use std::time::Duration;

use serde_json::Value;

use super::affinity::{expires, is_sticky_once_up, switches};
use crate::{
    agent::socket::{Family, Protocol},
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp, tcp_at, tcp_to, udp_at, udp_to},
    },
    workload::Service,
};

cases! {
    s8_creates_a_functioning_node_port_service: rows [S8],
        rules [E6 E13], needs [Outside];
    s11_type_changes_to_node_port_with_one_number_for_two_protocols: rows [S11],
        rules [A6 E6], needs [Outside];
    s13_type_changes_from_external_name_to_node_port: rows [S13],
        rules [A5], needs [Outside];
    s15_type_changes_from_node_port_to_external_name: rows [S15],
        rules [A5 E16], needs [Outside];
    s17_terminating_and_unready_endpoints_serve_if_published: rows [S17],
        rules [C7 E13], needs [Outside];
    s18_terminating_and_unready_endpoints_do_not_serve_otherwise: rows [S18],
        rules [C8 C11], needs [Outside];
    s20_session_affinity_works_for_node_port: rows [S20],
        rules [E13 H1], needs [Outside];
    s20b_session_affinity_timeout_works_for_node_port: rows [S20b],
        rules [H2 H3], needs [Outside];
    s20c_session_affinity_can_be_switched_for_node_port: rows [S20c],
        rules [H5], needs [Outside];
    s24_is_rejected_when_the_only_pod_was_evicted: rows [S24],
        rules [C11], needs [Outside];
    s34c_node_port_is_free_after_its_service: rows [S34c],
        rules [E16];
    n1_pod_to_node_port_http: rows [N1],
        rules [C15 E1 E13], needs [Outside];
    n4_node_to_node_port_http: rows [N4],
        rules [E1 E13];
    n13_deleted_node_port_serves_nobody_http: rows [N13],
        rules [E16], needs [Outside];
    n14_node_port_udp: rows [N14],
        rules [E6], needs [Outside];
    n15_deleted_node_port_serves_nobody_udp: rows [N15],
        rules [E16 I1], needs [Outside];
    n20_host_network_endpoints: rows [N20],
        rules [B14 E13 G2], needs [Outside];
    sc1_cluster_ips_come_from_any_service_cidr: rows [SC1],
        rules [E4], needs [Outside AnyClusterIp];
}

const PODS: [&str; 4] = ["net-0", "net-1", "net-2", "net-3"];

/// From a pod, a host and outside: the ClusterIPs where they are known, and two nodes.
fn everyone(s: &Scenario) -> [Client; 3] {
    [s.client(0), s.host_client(1), s.outside_client()]
}

/// The node port at both nodes that have backends.
fn at_two_nodes(s: &Scenario, port: u16) -> Vec<std::net::SocketAddr> {
    [s.at_node(0, port), s.at_node(1, port)].concat()
}

fn s8_creates_a_functioning_node_port_service(s: &Scenario) {
    let _pods = s.published_backends("np", &["pod-1", "pod-2"]);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.object());
    s.client(1)
        .reaches_all(&tcp_at(&service, 80), &["pod-1", "pod-2"]);
    for mut client in everyone(s) {
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["pod-1", "pod-2"]);
    }
}

fn s11_type_changes_to_node_port_with_one_number_for_two_protocols(s: &Scenario) {
    let _pods = s.published_backends("np", &["pod-1"]);
    let (mut client, mut outside) = (s.client(0), s.outside_client());
    let cluster_ip = s.service("np").port("tcp", 80, 80, "TCP");
    s.apply(cluster_ip.object());
    client.reaches_all(&tcp_at(&cluster_ip, 80), &["pod-1"]);
    let port = s.node_port();
    let tcp_only = cluster_ip.node_port("tcp", port);
    s.apply(tcp_only.object());
    let both = tcp_only.port("udp", 80, 80, "UDP").node_port("udp", port);
    s.apply(both.object());
    client.reaches_all(&udp_at(&both, 80), &["pod-1"]);
    for client in [&mut client, &mut outside] {
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["pod-1"]);
        client.reaches_all(&udp_to(&at_two_nodes(s, port)), &["pod-1"]);
    }
}

fn s13_type_changes_from_external_name_to_node_port(s: &Scenario) {
    let _pods = s.published_backends("np", &["pod-1"]);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.clone().spec("type", "ExternalName").object());
    s.apply(service.object());
    s.client(0).reaches_all(&tcp_at(&service, 80), &["pod-1"]);
    for mut client in everyone(s) {
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["pod-1"]);
    }
}

fn s15_type_changes_from_node_port_to_external_name(s: &Scenario) {
    let _pods = s.published_backends("np", &["pod-1"]);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.object());
    let mut clients = everyone(s);
    for client in &mut clients {
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["pod-1"]);
    }
    let gone = service
        .clone()
        .spec("type", "ExternalName")
        .spec("clusterIP", Value::Null)
        .spec("clusterIPs", Value::Null)
        .spec("externalName", "elsewhere.test");
    s.apply(gone.object());
    for client in &mut clients {
        client.fails_all(&tcp_to(&at_two_nodes(s, port)));
    }
    clients[0].fails_all(&tcp_at(&service, 80));
}

/// A pod that terminates and is not ready, behind a NodePort Service.
fn unready_and_terminating(s: &Scenario, publish: bool) -> (Service, u16, impl Sized + use<>) {
    let port = s.node_port();
    let service = s
        .service("np")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .spec("publishNotReadyAddresses", publish);
    s.apply(service.object());
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(300));
    s.publish([s.record(&backend, "np")]);
    s.client(1).reaches_all(&tcp_at(&service, 80), &["leaving"]);
    s.terminate(&backend);
    s.change("leaving", |pod| pod.ready = false);
    (service, port, backend)
}

fn s17_terminating_and_unready_endpoints_serve_if_published(s: &Scenario) {
    let (service, port, _backend) = unready_and_terminating(s, true);
    let mut client = s.client(1);
    for _ in 0..5 {
        client.reaches_all(&tcp_at(&service, 80), &["leaving"]);
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["leaving"]);
    }
    s.outside_client()
        .reaches_all(&tcp_to(&at_two_nodes(s, port)), &["leaving"]);
}

fn s18_terminating_and_unready_endpoints_do_not_serve_otherwise(s: &Scenario) {
    let (service, port, _backend) = unready_and_terminating(s, false);
    let mut client = s.client(1);
    client.is_refused_all(&tcp_at(&service, 80));
    client.is_refused_all(&tcp_to(&at_two_nodes(s, port)));
    s.outside_client()
        .is_refused_all(&tcp_to(&at_two_nodes(s, port)));
}

fn s20_session_affinity_works_for_node_port(s: &Scenario) {
    let _pods = s.published_backends("np", &PODS);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.clone().client_ip_affinity(10_800).object());
    for mut client in [s.client(0), s.outside_client()] {
        for dial in tcp_to(&s.at_node(0, port)) {
            is_sticky_once_up(&mut client, &dial);
        }
    }
}

fn s20b_session_affinity_timeout_works_for_node_port(s: &Scenario) {
    let _pods = s.published_backends("np", &PODS);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.client_ip_affinity(2).object());
    expires(&mut s.outside_client(), &tcp(s.at_node(0, port)[0]));
}

fn s20c_session_affinity_can_be_switched_for_node_port(s: &Scenario) {
    let _pods = s.published_backends("np", &PODS);
    let port = s.node_port();
    let service = s.service("np").port("", 80, 80, "TCP").node_port("", port);
    for mut client in [s.client(1), s.outside_client()] {
        switches(s, &mut client, &service, &tcp(s.at_node(0, port)[0]), &PODS);
    }
}

fn s24_is_rejected_when_the_only_pod_was_evicted(s: &Scenario) {
    let _pods = s.published_backends("np", &["evicted"]);
    let port = s.node_port();
    let service = s
        .service("np")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP")
        .node_port("tcp", port)
        .node_port("udp", port)
        .spec("publishNotReadyAddresses", true);
    s.apply(service.object());
    let mut outside = s.outside_client();
    outside.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["evicted"]);
    // A pod that has failed is no endpoint, whatever the Service publishes.
    s.withdraw("evicted");
    s.client(1).is_refused_all(&tcp_at(&service, 80));
    for mut client in [s.client(0), outside] {
        client.is_refused_all(&tcp_to(&at_two_nodes(s, port)));
        client.is_refused_all(&udp_to(&at_two_nodes(s, port)));
    }
}

fn s34c_node_port_is_free_after_its_service(s: &Scenario) {
    let _pods = s.published_backends("np", &["pod-1"]);
    let port = s.node_port();
    let node_port = || s.service("np").port("", 80, 80, "TCP").node_port("", port);
    let (first, addresses) = (node_port(), s.at_node(1, port));
    s.apply(first.object());
    let mut host = s.host_client(1);
    host.reaches_all(&tcp_to(&addresses), &["pod-1"]);
    s.delete(first.object());
    host.fails_all(&tcp_to(&addresses));
    for to in &addresses {
        let bound = host
            .control
            .open(Protocol::Tcp, Family::of(to.ip()), Some(*to));
        let socket = bound
            .unwrap()
            .unwrap_or_else(|failure| panic!("{to} is taken: {failure}"));
        host.control.close(socket).unwrap().unwrap();
    }
    s.apply(node_port().object());
    host.reaches_all(&tcp_to(&addresses), &["pod-1"]);
}

/// The granular checks' Service, with one node port for TCP and UDP: API servers accept that only
/// of ports with one number.
fn granular(s: &Scenario) -> (Service, u16) {
    let port = s.node_port();
    let service = s
        .service("net")
        .port("http", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP")
        .node_port("http", port)
        .node_port("udp", port);
    s.apply(service.object());
    (service, port)
}

fn n1_pod_to_node_port_http(s: &Scenario) {
    let _pods = s.published_backends("net", &PODS);
    let (_, port) = granular(s);
    for node in 0..2 {
        s.client(node)
            .reaches_all(&tcp_to(&at_two_nodes(s, port)), &PODS);
    }
    s.outside_client()
        .reaches_all(&tcp_to(&at_two_nodes(s, port)), &PODS);
}

fn n4_node_to_node_port_http(s: &Scenario) {
    let _pods = s.published_backends("net", &PODS);
    let (_, port) = granular(s);
    for node in 0..3 {
        s.host_client(node)
            .reaches_all(&tcp_to(&at_two_nodes(s, port)), &PODS);
    }
}

fn n13_deleted_node_port_serves_nobody_http(s: &Scenario) {
    let _pods = s.published_backends("net", &PODS);
    let (service, port) = granular(s);
    let dials = tcp_to(&at_two_nodes(s, port));
    let mut clients = [s.host_client(0), s.outside_client()];
    for client in &mut clients {
        client.reaches_all(&dials, &PODS);
    }
    s.delete(service.object());
    for client in &mut clients {
        client.fails_all(&dials);
    }
}

fn n14_node_port_udp(s: &Scenario) {
    let _pods = s.published_backends("net", &PODS);
    let (_, port) = granular(s);
    for mut client in everyone(s) {
        client.reaches_all(&udp_to(&at_two_nodes(s, port)), &PODS);
    }
}

fn n15_deleted_node_port_serves_nobody_udp(s: &Scenario) {
    let _pods = s.published_backends("net", &PODS);
    let (service, port) = granular(s);
    let dials = udp_to(&at_two_nodes(s, port));
    let mut clients = [s.host_client(0), s.outside_client()];
    for client in &mut clients {
        client.reaches_all(&dials, &PODS);
    }
    s.delete(service.object());
    for client in &mut clients {
        client.fails_all(&dials);
    }
}

fn n20_host_network_endpoints(s: &Scenario) {
    let port = s.node_port();
    let service = s
        .service("net")
        .port("http", 80, 18_020, "TCP")
        .port("udp", 80, 18_020, "UDP")
        .node_port("http", port)
        .node_port("udp", port);
    s.apply(service.object());
    let names = ["host-0", "host-1"];
    let backends = [0, 1].map(|node| s.host_network_backend(node, names[node], 18_020));
    s.publish(backends.iter().map(|b| s.record(b, "net")));
    let nodes = at_two_nodes(s, port);
    for mut client in [s.client(0), s.client_in(&backends[1]), s.host_client(2)] {
        client.reaches_all(&tcp_at(&service, 80), &names);
        client.reaches_all(&udp_at(&service, 80), &names);
        client.reaches_all(&tcp_to(&nodes), &names);
        client.reaches_all(&udp_to(&nodes), &names);
    }
    let mut outside = s.outside_client();
    outside.reaches_all(&tcp_to(&nodes), &names);
    outside.reaches_all(&udp_to(&nodes), &names);
}

fn sc1_cluster_ips_come_from_any_service_cidr(s: &Scenario) {
    let _pods = s.published_backends("net", &["pod-1", "pod-2"]);
    let port = s.node_port();
    let (v4, v6) = ("203.0.113.10", "2001:db8:cb00::10");
    let (v4, v6) = (v4.parse().unwrap(), v6.parse().unwrap());
    let service = Service::of_families(s.namespace(), "net", s.families(), v4, v6)
        .port("", 80, 80, "TCP")
        .node_port("", port);
    s.apply(service.object());
    for mut client in [s.client(0), s.host_client(1)] {
        client.reaches_all(&tcp_at(&service, 80), &["pod-1", "pod-2"]);
    }
    for mut client in everyone(s) {
        client.reaches_all(&tcp_to(&at_two_nodes(s, port)), &["pod-1", "pod-2"]);
    }
}
