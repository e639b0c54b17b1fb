//! Pods that are no ordinary clients: those whose sockets no hook sees, and one that listens on
//! its own loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_integration::{
    PodNetwork,
    agent::{ServeOptions, dial::Dial},
    client::{Client, tcp, udp},
};

use crate::stage::{Profile, Stage, Xdp};

/// Pods without socket hooks reach everything that other pods reach, under their own address.
fn hookless_pods_are_served(pods: PodNetwork, overlay: bool) {
    let profile = Profile {
        xdp: Xdp::Off,
        pods,
        overlay,
        ..Profile::default()
    };
    let mut stage = Stage::new(profile, &[]);
    for (name, node) in [("near", 0), ("far", 1)] {
        let (service, frontends) = stage.serving(node, name);
        let pod = stage.cluster.pod(0, "hookless");
        let pod = pod.without_socket_hooks().create().unwrap();
        let mut client = Client::in_pod(pod).unwrap();
        let own = client.pod.as_ref().unwrap().addresses();
        let mut addresses = stage.addresses(&frontends);
        addresses.extend(service.at(80).map(|to| ("ClusterIP", to)));
        for (kind, to) in addresses {
            for dial in [tcp(to), udp(to), Dial::udp_unconnected(to)] {
                client.reaches(&dial, &[name]);
                // Only for ClusterIPs must the pod's address be kept (rules G1, F5).
                if kind == "ClusterIP" {
                    client.is_seen_as(&dial, &own);
                }
            }
        }
        let large = "x".repeat(3_000);
        for to in service.at(80) {
            // A tunnel is narrower than the pod knows: over IPv6 the first datagram is lost.
            client.reaches(&udp(to).request(format!("echo {large}")), &[&large]);
        }
    }
}

#[test]
fn routed_pods_without_socket_hooks_are_served() {
    hookless_pods_are_served(PodNetwork::Routed, false);
}

#[test]
fn bridged_pods_without_socket_hooks_are_served() {
    hookless_pods_are_served(PodNetwork::Bridged, false);
}

#[test]
fn pods_without_socket_hooks_are_served_over_a_tunnel() {
    hookless_pods_are_served(PodNetwork::Bridged, true);
}

/// A backend that dials its own Service, without socket hooks.
fn hookless_pods_hairpin(pods: PodNetwork) {
    let profile = Profile {
        xdp: Xdp::Off,
        pods,
        ..Profile::default()
    };
    let mut stage = Stage::new(profile, &[]);
    let pod = stage.cluster.pod(0, "self").without_socket_hooks();
    stage.serve_and_publish(pod.create().unwrap(), 80);
    let (service, frontends) = stage.service("self", "self");
    stage.apply(&service);
    stage.wait_for(&frontends, "self");
    let mut client = Client::new(stage.pod("self").control().unwrap());
    let mut addresses = stage.addresses(&frontends);
    addresses.extend(service.at(80).map(|to| ("ClusterIP", to)));
    for (_, to) in addresses {
        for dial in [tcp(to), udp(to), Dial::udp_unconnected(to)] {
            client.reaches(&dial, &["self"]);
        }
    }
}

#[test]
fn routed_pods_without_socket_hooks_reach_themselves() {
    hookless_pods_hairpin(PodNetwork::Routed);
}

#[test]
fn bridged_pods_without_socket_hooks_reach_themselves() {
    hookless_pods_hairpin(PodNetwork::Bridged);
}

#[test]
fn a_pod_keeps_its_own_listener_at_a_node_ports_number() {
    let mut stage = Stage::shared(Xdp::Off);
    let (service, frontends) = stage.serving(0, "loopback");
    let pod = stage.cluster.pod(0, "listener").create().unwrap();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let own = loopback.map(|ip| SocketAddr::new(ip, frontends.node_port));
    let options = ServeOptions {
        name: "its own".to_owned(),
        tcp: own.to_vec(),
        udp: own.to_vec(),
        ..ServeOptions::default()
    };
    let _server = pod.serve_with(&options, &[], &[]).unwrap();
    let mut client = Client::in_pod(pod).unwrap();
    for to in own {
        for dial in [tcp(to), udp(to), Dial::udp_unconnected(to)] {
            assert_eq!(client.ask(&dial), "its own", "{dial:?}");
        }
    }
    stage.clear("loopback", &[&service]);
}
