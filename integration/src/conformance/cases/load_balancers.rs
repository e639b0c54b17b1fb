//! Addresses of load balancers and external IPs. Rows S10, LB1 to LB7, LB9, LB13 to LB17; the
//! load balancer is the fabric, which routes an address to one node at a time.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::affinity::{is_sticky_once_up, switches};
use crate::{
    agent::{dial::Dial, socket::Protocol},
    conformance::{
        case::cases,
        scenario::{Scenario, tcp, tcp_at, tcp_to, udp_at, udp_to, with_port},
    },
    workload::Service,
};

cases! {
    s10_external_ip_that_no_node_holds: rows [S10],
        rules [A8 E23], needs [Outside Routes];
    lb1_type_and_ports_of_a_tcp_service_change: rows [LB1],
        rules [A16 C11 E18], needs [Outside Routes];
    lb2_type_and_ports_of_a_udp_service_change: rows [LB2],
        rules [E18 I1], needs [Outside Routes];
    lb3_only_source_ranges_have_access: rows [LB3],
        rules [E12 E26 E27 E28], needs [Outside Routes];
    lb4_session_affinity_works_for_load_balancer_with_policy_local: rows [LB4],
        rules [H1], needs [Outside Routes];
    lb5_session_affinity_can_be_switched_for_load_balancer_with_policy_local: rows [LB5],
        rules [H5], needs [Outside Routes];
    lb6_session_affinity_works_for_load_balancer_with_policy_cluster: rows [LB6],
        rules [H1], needs [Outside Routes];
    lb7_session_affinity_can_be_switched_for_load_balancer_with_policy_cluster: rows [LB7],
        rules [H5], needs [Outside Routes];
    lb9_load_balancer_without_node_port_gets_one_later: rows [LB9],
        rules [A10 E18], needs [Outside Routes];
    lb13_policy_local_keeps_the_source: rows [LB13],
        rules [F3], needs [Outside Routes];
    lb14_policy_local_serves_only_at_nodes_with_endpoints: rows [LB14],
        rules [F3], needs [Outside Routes];
    lb15_policy_local_serves_at_all_nodes_with_endpoints: rows [LB15],
        rules [C15], needs [Outside Routes];
    lb17_pods_reach_load_balancers_under_their_own_address: rows [LB17],
        rules [F1], needs [Routes];
    h1_affinity_holds_across_the_addresses_of_a_port: own "session affinity holds across the node port, load balancer and external IP of one port",
        rules [H1], needs [Outside Routes];
    e18_addresses_of_a_load_balancer_that_is_a_proxy_are_not_served: own "addresses of a load balancer with ipMode Proxy are not served",
        rules [E18], needs [Outside Routes];
    e2_cluster_ips_that_are_routed_to_a_node_serve_clients_outside: own "ClusterIPs that are routed to a node serve clients outside",
        rules [E2], needs [Outside Routes];
}

const PODS: [&str; 4] = ["lb-0", "lb-1", "lb-2", "lb-3"];

fn dials(protocol: Protocol, addresses: &[SocketAddr]) -> Vec<Dial> {
    match protocol {
        Protocol::Tcp => tcp_to(addresses),
        Protocol::Udp => udp_to(addresses),
    }
}

fn s10_external_ip_that_no_node_holds(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2"]);
    // The letters of upstream's IPv6 address are capitals (rule A8).
    let external = ["203.0.113.250", "2001:DB8::cb00:71fa"];
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("externalIPs", json!(external));
    s.apply(service.object());
    let addresses = s.in_use(external.map(|ip| ip.parse().unwrap()));
    s.route(&addresses, 0);
    let dials = tcp_to(&with_port(&addresses, 80));
    for mut client in [
        s.client(0),
        s.client(1),
        s.host_client(0),
        s.outside_client(),
    ] {
        client.reaches_all(&dials, &["pod-1", "pod-2"]);
    }
}

/// ClusterIP to NodePort to LoadBalancer, other ports, no pod, a pod again, and back.
fn type_and_ports_change(s: &Scenario, protocol: Protocol) {
    let word = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let _pods = s.published_backends("lb", &["server"]);
    let mut client = s.outside_client();
    let cluster_ip = s.service("lb").port("", 80, 80, word);
    s.apply(cluster_ip.object());
    let (first, second) = (s.node_port(), s.node_port());
    s.apply(cluster_ip.clone().node_port("", first).object());
    client.reaches_all(&dials(protocol, &s.at_node(0, first)), &["server"]);

    let vips = s.vips();
    s.apply(
        cluster_ip
            .clone()
            .node_port("", first)
            .load_balancer(&vips)
            .object(),
    );
    client.reaches_all(&dials(protocol, &with_port(&vips, 80)), &["server"]);
    // Another node port.
    let moved = cluster_ip
        .clone()
        .node_port("", second)
        .load_balancer(&vips);
    s.apply(moved.object());
    client.reaches_all(&dials(protocol, &s.at_node(0, second)), &["server"]);
    client.fails_all(&dials(protocol, &s.at_node(0, first)));
    // Another port.
    let moved = moved.without_port("").port("", 81, 80, word);
    let other = moved.node_port("", second);
    s.apply(other.object());
    client.reaches_all(&dials(protocol, &with_port(&vips, 81)), &["server"]);
    client.reaches_all(&dials(protocol, &s.at_node(0, second)), &["server"]);
    client.fails_all(&dials(protocol, &with_port(&vips, 80)));
    // No pod, and one again.
    let everywhere = [with_port(&vips, 81), s.at_node(0, second)].concat();
    s.change("server", |pod| pod.ready = false);
    client.is_refused_all(&dials(protocol, &everywhere));
    s.change("server", |pod| pod.ready = true);
    client.reaches_all(&dials(protocol, &everywhere), &["server"]);
    // Back to where it began.
    s.apply(cluster_ip.object());
    client.fails_all(&dials(protocol, &everywhere));
}

fn lb1_type_and_ports_of_a_tcp_service_change(s: &Scenario) {
    type_and_ports_change(s, Protocol::Tcp);
}

fn lb2_type_and_ports_of_a_udp_service_change(s: &Scenario) {
    type_and_ports_change(s, Protocol::Udp);
}

fn lb3_only_source_ranges_have_access(s: &Scenario) {
    let _pods = s.published_backends("lb", &["server"]);
    let (port, vips) = (s.node_port(), s.vips());
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips);
    let dials = tcp_to(&with_port(&vips, 80));
    let (mut accepted, mut other, mut outside) = (s.client(0), s.client(1), s.outside_client());
    let ranges = |all: Vec<String>| service.clone().spec("loadBalancerSourceRanges", json!(all));

    let pod = accepted.addresses();
    let pod_and_node = pod
        .iter()
        .chain(&s.node_addresses(0))
        .map(|ip| {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            format!("{ip}/{bits}")
        })
        .collect();
    s.apply(ranges(pod_and_node).object());
    accepted.reaches_all(&dials, &["server"]);
    other.is_dropped_all(&dials);
    outside.is_dropped_all(&dials);
    // Host processes are judged as their node (rule E27).
    s.host_client(0).reaches_all(&dials, &["server"]);
    s.host_client(1).is_dropped_all(&dials);
    // NodePorts know no source ranges (rule E12).
    outside.reaches_all(&tcp_to(&s.at_node(0, port)), &["server"]);

    let everyone = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];
    s.apply(ranges(everyone.map(str::to_owned).to_vec()).object());
    for client in [&mut accepted, &mut other, &mut outside] {
        client.reaches_all(&dials, &["server"]);
    }
    let nobody = ["255.0.0.0/32", "2001:db8:ffff::/128"];
    s.apply(ranges(nobody.map(str::to_owned).to_vec()).object());
    for client in [&mut accepted, &mut other, &mut outside] {
        client.is_dropped_all(&dials);
    }
    s.apply(service.object());
    for client in [&mut accepted, &mut other, &mut outside] {
        client.reaches_all(&dials, &["server"]);
    }
}

/// Four pods behind addresses of a load balancer, with this policy.
fn sticky_service(s: &Scenario, local: bool) -> (Service, Vec<IpAddr>) {
    let vips = s.vips();
    let service = s.service("lb").port("", 80, 80, "TCP").load_balancer(&vips);
    let service = if local {
        service.external_local()
    } else {
        service
    };
    (service, vips)
}

fn affinity_works(s: &Scenario, local: bool) {
    let _pods = s.published_backends("lb", &PODS);
    let (service, vips) = sticky_service(s, local);
    s.apply(service.client_ip_affinity(10_800).object());
    let mut client = s.outside_client();
    for dial in tcp_to(&with_port(&vips, 80)) {
        is_sticky_once_up(&mut client, &dial);
    }
}

fn affinity_switches(s: &Scenario, local: bool) {
    let _pods = s.published_backends("lb", &PODS);
    let (service, vips) = sticky_service(s, local);
    // The node that the addresses are routed to has the first and the third.
    let names = if local { &["lb-0", "lb-2"][..] } else { &PODS };
    let dial = tcp(with_port(&vips, 80)[0]);
    switches(s, &mut s.outside_client(), &service, &dial, names);
}

fn lb4_session_affinity_works_for_load_balancer_with_policy_local(s: &Scenario) {
    affinity_works(s, true);
}

fn lb5_session_affinity_can_be_switched_for_load_balancer_with_policy_local(s: &Scenario) {
    affinity_switches(s, true);
}

fn lb6_session_affinity_works_for_load_balancer_with_policy_cluster(s: &Scenario) {
    affinity_works(s, false);
}

fn lb7_session_affinity_can_be_switched_for_load_balancer_with_policy_cluster(s: &Scenario) {
    affinity_switches(s, false);
}

fn lb9_load_balancer_without_node_port_gets_one_later(s: &Scenario) {
    let _pods = s.published_backends("lb", &["server"]);
    let (port, vips) = (s.node_port(), s.vips());
    let without = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .load_balancer(&vips)
        .spec("allocateLoadBalancerNodePorts", false);
    s.apply(without.object());
    let mut client = s.outside_client();
    let at_vips = tcp_to(&with_port(&vips, 80));
    client.reaches_all(&at_vips, &["server"]);
    let with = without
        .spec("allocateLoadBalancerNodePorts", true)
        .node_port("", port);
    s.apply(with.object());
    client.reaches_all(&at_vips, &["server"]);
    client.reaches_all(&tcp_to(&s.at_node(0, port)), &["server"]);
}

fn lb13_policy_local_keeps_the_source(s: &Scenario) {
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "lb")]);
    let vips = s.vips();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    let mut client = s.outside_client();
    for dial in tcp_to(&with_port(&vips, 80)) {
        client.reaches(&dial, &["server"]);
        let own = client.addresses();
        client.is_seen_as(&dial, &own);
    }
}

fn lb14_policy_local_serves_only_at_nodes_with_endpoints(s: &Scenario) {
    let vips = s.vips();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    let dials = tcp_to(&with_port(&vips, 80));
    let mut client = s.outside_client();
    for (node, name) in ["on-0", "on-1", "on-2"].into_iter().enumerate() {
        let backend = s.backend(node, name, &[80], &[]);
        s.publish([s.record(&backend, "lb")]);
        for at in 0..3 {
            s.route(&vips, at);
            if at == node {
                client.reaches_all(&dials, &[name]);
            } else {
                client.is_dropped_all(&dials);
            }
        }
        s.withdraw(name);
    }
}

fn lb15_policy_local_serves_at_all_nodes_with_endpoints(s: &Scenario) {
    let _pods = s.published_backends("lb", &PODS);
    let vips = s.vips();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    let dials = tcp_to(&with_port(&vips, 80));
    let mut client = s.outside_client();
    for (node, names) in [["lb-0", "lb-2"], ["lb-1", "lb-3"]].iter().enumerate() {
        s.route(&vips, node);
        client.reaches_all(&dials, names);
    }
}

fn lb17_pods_reach_load_balancers_under_their_own_address(s: &Scenario) {
    let backend = s.backend(0, "server", &[80], &[]);
    s.publish([s.record(&backend, "lb")]);
    let vips = s.vips();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .load_balancer(&vips)
        .external_local();
    s.apply(service.object());
    for node in 0..2 {
        let mut client = s.client(node);
        let own = client.addresses();
        for dial in tcp_to(&with_port(&vips, 80)) {
            client.reaches(&dial, &["server"]);
            client.is_seen_as(&dial, &own);
        }
    }
}

fn h1_affinity_holds_across_the_addresses_of_a_port(s: &Scenario) {
    let _pods = s.published_backends("lb", &PODS);
    let (port, vips, external) = (s.node_port(), s.vips(), s.vips());
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips)
        .external_ips(&external)
        .client_ip_affinity(10_800);
    s.apply(service.object());
    let mut client = s.outside_client();
    for family in 0..vips.len() {
        let addresses = [
            s.at_node(0, port)[family],
            with_port(&vips, 80)[family],
            with_port(&external, 80)[family],
        ];
        let [first, others @ ..] = addresses.map(tcp);
        let name = is_sticky_once_up(&mut client, &first);
        for dial in others {
            assert_eq!(is_sticky_once_up(&mut client, &dial), name, "{dial:?}");
        }
    }
}

fn e18_addresses_of_a_load_balancer_that_is_a_proxy_are_not_served(s: &Scenario) {
    let _pods = s.published_backends("lb", &["server"]);
    let (port, vips) = (s.node_port(), s.vips());
    let ingress: Vec<_> = vips
        .iter()
        .map(|vip| json!({"ip": vip.to_string(), "ipMode": "Proxy"}))
        .collect();
    let mut service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips);
    s.apply(service.object());
    let dials = tcp_to(&with_port(&vips, 80));
    let mut clients = [s.client(0), s.outside_client()];
    for client in &mut clients {
        client.reaches_all(&dials, &["server"]);
    }
    service = service.ingress(&ingress);
    s.apply(service.object());
    for client in &mut clients {
        client.fails_all(&dials);
    }
    clients[1].reaches_all(&tcp_to(&s.at_node(0, port)), &["server"]);
}

fn e2_cluster_ips_that_are_routed_to_a_node_serve_clients_outside(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2"]);
    let service = s
        .service("svc")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let ips: Vec<IpAddr> = service.addresses(80).iter().map(SocketAddr::ip).collect();
    s.route(&ips, 0);
    let mut client = s.outside_client();
    client.reaches_all(&tcp_at(&service, 80), &["pod-1", "pod-2"]);
    client.reaches_all(&udp_at(&service, 80), &["pod-1", "pod-2"]);
}
