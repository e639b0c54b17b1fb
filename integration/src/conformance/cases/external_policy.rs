//! `externalTrafficPolicy` and terminating endpoints behind NodePorts. Rows S30 to S33, S36.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    agent::dial::Dial,
    conformance::{
        case::cases,
        scenario::{Backend, Client, Scenario, tcp, tcp_to, with_port},
    },
};

cases! {
    s30_node_port_serves_while_only_terminating_endpoints_are_left: rows [S30],
        rules [C5], needs [Outside Routes];
    s31_external_policy_local_keeps_the_source_of_host_clients: rows [S31],
        rules [E14 F3], needs [Outside];
    s32_falls_back_to_local_terminating_endpoints_with_external_policy_local: rows [S32],
        rules [C5 C12 E14 F1], needs [Outside];
    s33_falls_back_to_terminating_endpoints_with_external_policy_cluster: rows [S33],
        rules [C4], needs [Outside];
    s36_node_port_follows_changes_of_the_external_policy: rows [S36],
        rules [C12 E14 F2 F3];
    f1_a_pod_is_served_at_its_own_node_that_has_no_endpoint: own "externalTrafficPolicy Local: a pod is served at its own node, which has no endpoint",
        rules [F1], needs [Outside Routes];
}

/// A backend on the first node that is told to end, and serves on.
fn leaving(s: &Scenario) -> Backend {
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    backend
}

fn s30_node_port_serves_while_only_terminating_endpoints_are_left(s: &Scenario) {
    let backend = leaving(s);
    let port = s.node_port();
    let vips = s.vips();
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    let dials = [tcp_to(&s.at_node(0, port)), tcp_to(&with_port(&vips, 80))].concat();
    let mut client = s.outside_client();
    client.reaches_all(&dials, &["leaving"]);
    s.terminate(&backend);
    s.settle();
    for _ in 0..5 {
        client.reaches_all(&dials, &["leaving"]);
    }
}

fn s31_external_policy_local_keeps_the_source_of_host_clients(s: &Scenario) {
    let backend = s.backend(0, "local", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let port = s.node_port();
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .external_local();
    s.apply(service.object());
    for dial in tcp_to(&s.at_node(0, port)) {
        let mut host = s.host_client(1);
        host.reaches(&dial, &["local"]);
        host.is_seen_as(&dial, &s.node_addresses(1));
        let mut outside = s.outside_client();
        outside.reaches(&dial, &["local"]);
        let own = outside.addresses();
        outside.is_seen_as(&dial, &own);
    }
}

fn s32_falls_back_to_local_terminating_endpoints_with_external_policy_local(s: &Scenario) {
    let backend = leaving(s);
    let port = s.node_port();
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .external_local();
    s.apply(service.object());
    let mut clients = [s.client(0), s.client(1), s.outside_client()];
    let (near, far) = (tcp_to(&s.at_node(0, port)), tcp_to(&s.at_node(1, port)));
    for client in &mut clients {
        client.reaches_all(&near, &["leaving"]);
    }
    s.terminate(&backend);
    s.settle();
    for _ in 0..5 {
        for client in &mut clients {
            client.reaches_all(&near, &["leaving"]);
        }
    }
    // Upstream leaves out the pod of the second node: by rule F1 it is served.
    clients[0].is_dropped_all(&far);
    clients[2].is_dropped_all(&far);
    clients[1].reaches_all(&far, &["leaving"]);
}

fn s33_falls_back_to_terminating_endpoints_with_external_policy_cluster(s: &Scenario) {
    let backend = leaving(s);
    let port = s.node_port();
    let service = s.service("svc").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.object());
    let mut clients = [s.client(0), s.client(1), s.outside_client()];
    let dials = [s.at_node(0, port), s.at_node(1, port)].concat();
    let dials = tcp_to(&dials);
    for client in &mut clients {
        client.reaches_all(&dials, &["leaving"]);
    }
    s.terminate(&backend);
    s.settle();
    for _ in 0..5 {
        for client in &mut clients {
            client.reaches_all(&dials, &["leaving"]);
        }
    }
}

/// A dial from a node's own address.
fn from_node(s: &Scenario, node: usize, to: SocketAddr) -> Dial {
    let addresses = s.node_addresses(node);
    let same_family = |a: &&IpAddr| a.is_ipv4() == to.is_ipv4();
    let local = addresses.iter().find(same_family).unwrap();
    tcp(to).from(SocketAddr::new(*local, 0))
}

/// The client on the second node, with its node's address: what it sees at each node.
fn policy_local_holds(s: &Scenario, client: &mut Client, port: u16) {
    let own = s.node_addresses(1);
    for (near, (on_own, elsewhere)) in s
        .at_node(0, port)
        .into_iter()
        .zip(s.at_node(1, port).into_iter().zip(s.at_node(2, port)))
    {
        // The endpoint's node, and by rule F2 the client's own, which has no endpoint.
        for to in [near, on_own] {
            let dial = from_node(s, 1, to);
            client.reaches(&dial, &["server"]);
            client.is_seen_as(&dial, &own);
        }
        client.is_dropped_all(&[from_node(s, 1, elsewhere)]);
    }
}

fn s36_node_port_follows_changes_of_the_external_policy(s: &Scenario) {
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let port = s.node_port();
    let service = s.service("svc").port("", 80, 80, "TCP").node_port("", port);
    let local = service.clone().external_local();
    let mut client = s.host_client(1);
    s.apply(local.object());
    policy_local_holds(s, &mut client, port);
    s.apply(service.object());
    for node in 0..3 {
        for to in s.at_node(node, port) {
            client.reaches(&from_node(s, 1, to), &["server"]);
        }
    }
    s.apply(local.object());
    policy_local_holds(s, &mut client, port);
}

fn f1_a_pod_is_served_at_its_own_node_that_has_no_endpoint(s: &Scenario) {
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let (port, vips) = (s.node_port(), s.vips());
    // Packets to the virtual addresses, were any left untranslated, would reach this node.
    s.route(&vips, 1);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    let mut client = s.client(1);
    let own = client.addresses();
    let dials = [tcp_to(&s.at_node(1, port)), tcp_to(&with_port(&vips, 80))].concat();
    for dial in &dials {
        client.reaches(dial, &["server"]);
        client.is_seen_as(dial, &own);
    }
    // From outside, the same node has nothing to offer (rule C14).
    s.outside_client().is_dropped_all(&dials);
}
