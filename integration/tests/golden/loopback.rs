//! Node ports at loopback addresses (rule E11), and sockets that node ports shadow (rule E15).

use std::net::SocketAddr;

use lb_integration::{PodNetwork, agent::ServeOptions, client::udp};

use crate::stage::{Policies, Stage, node_port, quick};

fn loopback(policies: Policies) -> [SocketAddr; 3] {
    let port = node_port(policies);
    ["127.0.0.1", "127.0.0.7", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
}

const BOTH: &[&str] = &["local", "remote"];

#[test]
fn e11_loopback_node_ports_serve_processes_of_the_host_only() {
    let stage = &mut Stage::new(PodNetwork::Routed, &[]);
    for policies in Policies::ALL {
        // The host is inside: no policy restricts it (rule F2).
        for to in loopback(policies) {
            stage.node.reaches(&quick(to), BOTH);
            stage.node.reaches(&udp(to), BOTH);
        }
    }
    // Nobody routes 127.0.0.0/8 to other hosts, which is what made it a risk elsewhere.
    let text = stage
        .cluster
        .node(0)
        .netns()
        .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap());
    assert_eq!(text.unwrap().trim(), "0");
    // A pod's loopback is its own: nothing listens there, and then its own server does.
    let port = node_port(Policies::Cluster);
    let to: [SocketAddr; 2] =
        ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
    stage.pod.is_refused_all(&to.map(quick));
    let options = ServeOptions {
        name: "client".to_owned(),
        tcp: to.to_vec(),
        ..ServeOptions::default()
    };
    let pod = stage.pod.pod.as_ref().unwrap();
    let server = pod.serve_with(&options, &[], &[]).unwrap();
    for to in to {
        stage.pod.reaches(&quick(to), &["client"]);
    }
    drop(server);
}

#[test]
fn e11_loopback_node_ports_can_be_switched_off() {
    let stage = &mut Stage::new(PodNetwork::Routed, &["--localhost-nodeports", "false"]);
    stage
        .node
        .is_refused_all(&loopback(Policies::Cluster).map(quick));
    for to in stage.at(Policies::Cluster, crate::stage::Address::NodePort) {
        stage.node.reaches(&quick(to), BOTH);
    }
}

#[test]
fn e15_a_process_that_listens_at_a_node_port_is_shadowed() {
    let stage = &mut Stage::new(PodNetwork::Routed, &[]);
    let port = node_port(Policies::Cluster);
    let host = stage
        .cluster
        .pod(0, "squatter")
        .host_network()
        .create()
        .unwrap();
    let server = host.serve(&[port], &[port]).unwrap();
    for to in stage.at(Policies::Cluster, crate::stage::Address::NodePort) {
        stage.user.reaches(&quick(to), BOTH);
        stage.node.reaches(&quick(to), BOTH);
        stage.pod.reaches(&quick(to), BOTH);
    }
    drop(server);
}
