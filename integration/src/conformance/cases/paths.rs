//! What a path does to packets on their way through a Service: fragments, and errors of routers
//! before narrow places. Upstream sends large datagrams through a ClusterIP only (row N18).

use std::{net::SocketAddr, time::Duration};

use crate::{
    conformance::{
        case::cases,
        scenario::{Backend, Client, Scenario, tcp, tcp_at, udp_at, udp_to, with_port},
    },
    workload::Service,
};

cases! {
    g9_fragments_pass_through_node_ports: own "datagrams of several fragments pass through node ports and ClusterIPs both ways, to endpoints of the node and of others",
        rules [G9], needs [Outside];
    g8_clients_learn_of_narrow_paths_to_backends: own "clients of node ports, load balancers and ClusterIPs learn of narrow paths to backends",
        rules [G8], needs [Namespaces Outside Routes];
    g8_backends_learn_of_narrow_paths_to_clients: own "backends behind node ports and load balancers learn of narrow paths to clients",
        rules [G8], needs [Namespaces Outside Routes];
    g8_closed_ports_of_backends_are_reported_to_the_client: own "clients of node ports and ClusterIPs learn of closed ports of backends",
        rules [G8], needs [Outside];
}

/// Where backends are, and on which node.
const PLACES: [(&str, usize); 2] = [("near", 0), ("far", 1)];
const LARGE: usize = 200_000;

/// A Service with one backend, and its node port at the first node.
pub(super) fn serving(
    s: &Scenario,
    name: &str,
    node: usize,
) -> (Service, Vec<SocketAddr>, Backend) {
    let backend = s.backend(node, name, &[80], &[80]);
    s.publish([s.record(&backend, name)]);
    let port = s.node_port();
    let service = s
        .service(name)
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP")
        .node_port("tcp", port)
        .node_port("udp", port);
    s.apply(service.object());
    (service, s.at_node(0, port), backend)
}

/// [`serving`], with a load balancer, too.
fn balanced(s: &Scenario, name: &str, node: usize) -> (Service, Vec<SocketAddr>, Backend) {
    let (service, mut addresses, backend) = serving(s, name, node);
    let vips = s.vips();
    let service = service.load_balancer(&vips);
    s.apply(service.object());
    addresses.extend(with_port(&vips, 80));
    (service, addresses, backend)
}

fn g9_fragments_pass_through_node_ports(s: &Scenario) {
    for (name, node) in PLACES {
        let (service, node_ports, _backend) = serving(s, name, node);
        let (mut pod, mut host, mut outside) = (s.client(0), s.host_client(2), s.outside_client());
        let at_node = udp_to(&node_ports);
        let everywhere = [udp_at(&service, 80), at_node.clone()].concat();
        for (client, dials) in [
            (&mut pod, &everywhere),
            (&mut host, &everywhere),
            (&mut outside, &at_node),
        ] {
            client.reaches_all(dials, &[name]);
            for length in [2_000, 6_000] {
                let body = "x".repeat(length);
                for dial in dials {
                    client.reaches(&dial.clone().request(format!("echo {body}")), &[&body]);
                }
            }
        }
    }
}

/// Large bodies there and back.
fn carries(client: &mut Client, to: SocketAddr) {
    let patient = tcp(to).timeout(Duration::from_secs(3));
    let body = "x".repeat(LARGE);
    // Nobody wants to read the bodies in a report.
    let sent = client.dial(&patient.clone().request(format!("length {body}")));
    let length = LARGE.to_string();
    assert_eq!(sent.reply, Some(length), "to {to}: {:?}", sent.error);
    let fetched = client.dial(&patient.request(format!("body {LARGE}")));
    let length = fetched.reply.map(|body| body.len());
    assert_eq!(length, Some(LARGE), "from {to}: {:?}", fetched.error);
}

fn g8_clients_learn_of_narrow_paths_to_backends(s: &Scenario) {
    for (name, node) in PLACES {
        let (service, addresses, backend) = balanced(s, name, node);
        backend.narrow_path(1_400);
        let mut pod = s.client(0);
        pod.reaches_all(&tcp_at(&service, 80), &[name]);
        for to in service.addresses(80) {
            carries(&mut pod, to);
        }
        for (number, to) in addresses.into_iter().enumerate() {
            // Clients remember what they have learned.
            let mut client = s.new_outside_client(&format!("{name}-up-{number}"));
            client.reaches(&tcp(to), &[name]);
            carries(&mut client, to);
        }
    }
}

fn g8_backends_learn_of_narrow_paths_to_clients(s: &Scenario) {
    for (name, node) in PLACES {
        let (_service, addresses, _backend) = balanced(s, name, node);
        for (number, to) in addresses.into_iter().enumerate() {
            let mut client = s.new_outside_client(&format!("{name}-down-{number}"));
            client.reaches(&tcp(to), &[name]);
            s.narrow_path(&client, 1_300);
            carries(&mut client, to);
        }
    }
}

fn g8_closed_ports_of_backends_are_reported_to_the_client(s: &Scenario) {
    for (name, node) in PLACES {
        let backend = s.backend(node, name, &[81], &[]);
        s.publish([s.record(&backend, name)]);
        let port = s.node_port();
        // Nobody listens at the target port.
        let service = s
            .service(name)
            .port("udp", 80, 80, "UDP")
            .port("tcp", 80, 80, "TCP")
            .port("open", 81, 81, "TCP")
            .node_port("udp", port)
            .node_port("tcp", port);
        s.apply(service.object());
        let mut pod = s.client(0);
        pod.reaches_all(&tcp_at(&service, 81), &[name]);
        for to in s.at_node(0, port) {
            let mut outside = s.outside_client();
            outside.is_refused(&tcp(to));
            outside.is_refused(&crate::client::udp(to));
        }
        pod.is_refused_all(&[tcp_at(&service, 80), udp_at(&service, 80)].concat());
    }
}
