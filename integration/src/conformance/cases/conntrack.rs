//! UDP clients with one source port while backends come and go. Rows CT1 to CT5, CT7, LB10, LB11.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    agent::dial::Dial,
    conformance::{
        case::cases,
        scenario::{Client, Scenario, udp, with_port},
    },
    patience::eventually,
};

cases! {
    ct1_udp_survives_the_servers_cycle_for_node_port: rows [CT1],
        rules [I1 I4], needs [Outside];
    ct2_udp_survives_the_servers_cycle_for_cluster_ip: rows [CT2],
        rules [I1 I4];
    ct3_udp_survives_the_servers_cycle_with_internal_policy_local: rows [CT3],
        rules [C5 I1 I2];
    ct4_udp_survives_the_servers_cycle_for_host_network_clients: rows [CT4],
        rules [I1 I4];
    lb10_udp_survives_the_servers_cycle_for_load_balancer_on_different_nodes: rows [LB10],
        rules [I1], needs [Outside Routes];
    lb11_udp_survives_the_servers_cycle_for_load_balancer_on_the_same_node: rows [LB11],
        rules [I1], needs [Outside Routes];
    ct5_udp_flows_when_endpoints_that_were_not_ready_are: rows [CT5],
        rules [I3 I4], needs [Outside];
    ct7_udp_follows_a_change_of_the_target_port: rows [CT7],
        rules [I1 I5], needs [Outside];
}

/// Sends from one port, a new socket each time, until `name` answers. Upstream's client is a loop
/// of `nc -u -w5 -p 12345`.
fn answers(client: &mut Client, dial: &Dial, name: &str) {
    eventually(&format!("{name} should answer {dial:?}"), || {
        let dialed = client.dial(dial);
        if dialed.reply.as_deref() != Some(name) {
            return Err(format!("{:?}, {:?}", dialed.reply, dialed.error));
        }
        assert_eq!(dialed.peer, Some(dial.expected_peer()));
        Ok(())
    });
}

/// The client with this source port at addresses of a Service, before anything serves, when
/// `server-1` does, and when `server-2` has taken its place; they run on these nodes.
fn udp_survives_the_servers_cycle(
    s: &Scenario,
    client: &mut Client,
    (addresses, source_port): (&[SocketAddr], u16),
    nodes: [usize; 2],
) {
    let dials = from_port(addresses, source_port);
    for dial in &dials {
        for _ in 0..3 {
            assert!(!client.dial(dial).ok);
        }
    }
    let first = s.backend(nodes[0], "server-1", &[], &[80]);
    s.publish([s.record(&first, "udp")]);
    for dial in &dials {
        answers(client, dial, "server-1");
    }

    let second = s.backend(nodes[1], "server-2", &[], &[80]);
    s.publish([s.record(&second, "udp")]);
    s.withdraw("server-1");
    drop(first);
    for dial in &dials {
        answers(client, dial, "server-2");
    }
}

/// Requests to each of these from this port of the client, whatever its address.
fn from_port(addresses: &[SocketAddr], port: u16) -> Vec<Dial> {
    let dial = |&to| dial_from(to, port);
    addresses.iter().map(dial).collect()
}

fn dial_from(to: SocketAddr, port: u16) -> Dial {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    udp(to)
        .from(SocketAddr::new(any, port))
        .timeout(Duration::from_millis(200))
}

fn udp_survives_behind_a_node_port(s: &Scenario, mut client: Client, source_port: u16) {
    let port = s.node_port();
    let service = s.service("udp").port("", 80, 80, "UDP").node_port("", port);
    s.apply(service.object());
    let at = (&s.at_node(0, port)[..], source_port);
    udp_survives_the_servers_cycle(s, &mut client, at, [0, 1]);
}

fn ct1_udp_survives_the_servers_cycle_for_node_port(s: &Scenario) {
    udp_survives_behind_a_node_port(s, s.client(1), 12_347);
    let s = s.sibling("outside");
    udp_survives_behind_a_node_port(&s, s.outside_client(), 12_348);
}

fn ct2_udp_survives_the_servers_cycle_for_cluster_ip(s: &Scenario) {
    let service = s.service("udp").port("", 80, 80, "UDP");
    s.apply(service.object());
    let at = (&service.addresses(80)[..], 12_345);
    udp_survives_the_servers_cycle(s, &mut s.client(1), at, [0, 1]);
}

fn ct3_udp_survives_the_servers_cycle_with_internal_policy_local(s: &Scenario) {
    let service = s
        .service("udp")
        .port("", 80, 80, "UDP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    let remote = s.backend(0, "remote", &[], &[80]);
    s.publish([s.record(&remote, "udp")]);
    let at = (&service.addresses(80)[..], 12_349);
    udp_survives_the_servers_cycle(s, &mut s.client(1), at, [1, 1]);
}

fn ct4_udp_survives_the_servers_cycle_for_host_network_clients(s: &Scenario) {
    let service = s.service("udp").port("", 80, 80, "UDP");
    s.apply(service.object());
    let at = (&service.addresses(80)[..], 12_346);
    udp_survives_the_servers_cycle(s, &mut s.host_client(1), at, [0, 1]);
}

/// The same through a load balancer, from outside.
fn udp_survives_behind_a_load_balancer(s: &Scenario, source_port: u16, nodes: [usize; 2]) {
    let vips = s.vips();
    let service = s
        .service("udp")
        .port("", 80, 80, "UDP")
        .load_balancer(&vips);
    s.apply(service.object());
    let at = (&with_port(&vips, 80)[..], source_port);
    udp_survives_the_servers_cycle(s, &mut s.outside_client(), at, nodes);
}

fn lb10_udp_survives_the_servers_cycle_for_load_balancer_on_different_nodes(s: &Scenario) {
    udp_survives_behind_a_load_balancer(s, 12_350, [0, 1]);
}

fn lb11_udp_survives_the_servers_cycle_for_load_balancer_on_the_same_node(s: &Scenario) {
    udp_survives_behind_a_load_balancer(s, 12_351, [1, 1]);
}

fn ct5_udp_flows_when_endpoints_that_were_not_ready_are(s: &Scenario) {
    let port = s.node_port();
    let service = s.service("udp").port("", 80, 80, "UDP").node_port("", port);
    s.apply(service.object());
    let backend = s.backend(0, "server", &[], &[80]);
    s.publish([s.record(&backend, "udp").ready(false)]);
    let (mut pod, mut outside) = (s.client(1), s.outside_client());
    let at_cluster_ip = from_port(&service.addresses(80), 12_352);
    let at_node = from_port(&s.at_node(0, port), 12_353);
    for _ in 0..3 {
        assert!(at_cluster_ip.iter().all(|dial| !pod.dial(dial).ok));
        assert!(at_node.iter().all(|dial| !outside.dial(dial).ok));
    }
    s.change("server", |pod| pod.ready = true);
    for dial in &at_cluster_ip {
        answers(&mut pod, dial, "server");
    }
    for dial in &at_node {
        answers(&mut outside, dial, "server");
    }
}

fn ct7_udp_follows_a_change_of_the_target_port(s: &Scenario) {
    let backend = s.backend(0, "server", &[], &[8080, 9090]);
    s.publish([s.record(&backend, "udp")]);
    let port = s.node_port();
    let service = |target: u16| {
        s.service("udp")
            .port("", 80, target, "UDP")
            .node_port("", port)
    };
    let (before, mut after) = (service(8080), service(9090));
    s.apply(before.object());
    let mut clients = [s.client(1), s.outside_client()];
    let dials = from_port(&s.at_node(0, port), 12_354).into_iter();
    let dials: Vec<Dial> = dials.map(|dial| dial.request("serverport")).collect();
    for client in &mut clients {
        for dial in &dials {
            answers(client, dial, "8080");
        }
    }
    // The same Service with another target.
    for field in ["clusterIP", "clusterIPs"] {
        after = after.spec(field, before.object()["spec"][field].clone());
    }
    s.apply(after.object());
    for client in &mut clients {
        for dial in &dials {
            answers(client, dial, "9090");
        }
    }
}
