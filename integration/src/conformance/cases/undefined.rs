//! Virtual addresses where nobody serves: ports that a ClusterIP does not have, and addresses of
//! ServiceCIDRs that no Service has.

use std::net::{IpAddr, SocketAddr};

use crate::{
    agent::{ServeOptions, dial::Dial, start_server},
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp_at, tcp_to, udp_at, udp_to},
    },
};

cases! {
    e3_undefined_ports_of_a_cluster_ip_are_refused: own "ports that a ClusterIP does not have are refused, TCP and UDP",
        rules [E3];
    e3_undefined_ports_are_refused_to_clients_outside: own "ports that a ClusterIP does not have are refused to clients outside that are routed there",
        rules [E2 E3], needs [Outside Routes];
    e3_unallocated_cluster_ips_are_dropped: own "ClusterIPs that no Service has are dropped, although somebody would answer there",
        rules [E3], needs [Namespaces Outside Routes];
}

fn e3_undefined_ports_of_a_cluster_ip_are_refused(s: &Scenario) {
    let _pods = s.published_backends("svc", &["server"]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let (mut pod, mut host) = (s.client(0), s.host_client(0));
    for client in [&mut pod, &mut host] {
        client.reaches_all(&tcp_at(&service, 80), &["server"]);
        client.is_refused_all(&tcp_at(&service, 81));
    }
    // Another protocol at a port that is defined is as undefined as another port.
    for port in [80, 81] {
        pod.is_refused_all(&udp_at(&service, port));
        // Netfilter tells a local sender EPERM.
        host.fails_all(&udp_at(&service, port));
    }
}

fn e3_undefined_ports_are_refused_to_clients_outside(s: &Scenario) {
    let _pods = s.published_backends("svc", &["near", "far"]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let ips: Vec<IpAddr> = service.addresses(80).iter().map(SocketAddr::ip).collect();
    s.route(&ips, 0);
    let mut client = s.outside_client();
    client.reaches_all(&tcp_at(&service, 80), &["near", "far"]);
    client.is_refused_all(&tcp_at(&service, 81));
    client.is_refused_all(&udp_at(&service, 80));
}

/// A host process of a node that answers at addresses which no Service has.
fn squatter(host: &Client, at: &[SocketAddr]) -> crate::process::Process {
    for address in at {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let address = format!("{}/{bits}", address.ip());
        let add = ["addr", "add", &address, "dev", "lo", "nodad"];
        let words = if bits == 32 { &add[..5] } else { &add[..] };
        host.placement().netns.tool("ip", words).unwrap();
    }
    let options = ServeOptions {
        name: "squatter".to_owned(),
        tcp: at.to_vec(),
        udp: at.to_vec(),
        ..ServeOptions::default()
    };
    start_server(host.placement(), &options).unwrap()
}

fn e3_unallocated_cluster_ips_are_dropped(s: &Scenario) {
    // Its ClusterIPs are its own: nobody else gets them while it is never made.
    let nobody = s.service("nobody");
    let at = nobody.addresses(80);
    let ips: Vec<IpAddr> = at.iter().map(SocketAddr::ip).collect();
    let holder = s.host_client(1);
    let _squatter = squatter(&holder, &at);
    let dials: Vec<Dial> = [tcp_to(&at), udp_to(&at)].concat();
    // It is there: addresses that its own node holds are left alone.
    let mut outside = s.outside_client();
    s.route(&ips, 1);
    outside.reaches_all(&dials, &["squatter"]);
    for mut client in [s.client(0), s.host_client(0)] {
        client.is_dropped_all(&dials);
    }
    // A node between the client and the holder drops, too.
    s.route(&ips, 0);
    outside.is_dropped_all(&dials);
}
