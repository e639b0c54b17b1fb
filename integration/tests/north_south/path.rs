//! What a path does to packets: bodies of many segments, fragments, ICMP errors, narrow places.

use std::net::{IpAddr, SocketAddr};

use lb_integration::{
    agent::dial::Dial,
    client::{Client, tcp, udp},
    cluster::Outside,
    netns::Netns,
};

use crate::stage::{Frontends, Stage, Xdp};

const MODES: [Xdp; 3] = [Xdp::Native, Xdp::Generic, Xdp::Off];
/// Where backends are, and on which node.
const PLACES: [(&str, usize); 2] = [("near", 0), ("far", 1)];

/// Runs a check against a Service with one backend, in every mode and place.
fn everywhere(name: &str, check: impl Fn(&mut Stage, &str, &Frontends)) {
    for mode in MODES {
        for (place, node) in PLACES {
            let mut stage = Stage::shared(mode);
            let backend = format!("{name}-{place}");
            let (service, frontends) = stage.serving(node, &backend);
            check(&mut stage, &backend, &frontends);
            stage.clear(&backend, &[&service]);
        }
    }
}

/// The mtu that a namespace has learned for its way to an address.
fn learned(netns: &Netns, to: IpAddr) -> Option<u32> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    let arguments = [family, "route", "get", &to.to_string()];
    let route = netns.tool_output("ip", &arguments).unwrap();
    let mut words = route.split_whitespace().skip_while(|&word| word != "mtu");
    words.nth(1).and_then(|mtu| mtu.parse().ok())
}

#[test]
fn large_bodies_pass_in_both_directions() {
    const LENGTH: usize = 1_000_000;
    everywhere("large", |stage, _, frontends| {
        let body = "x".repeat(LENGTH);
        for (kind, to) in stage.addresses(frontends) {
            let sent = tcp(to).request(format!("length {body}"));
            assert_eq!(stage.user.ask(&sent), LENGTH.to_string(), "{kind} {to}");
            let fetched = stage.user.ask(&tcp(to).request(format!("body {LENGTH}")));
            assert_eq!(fetched, body, "{kind} {to}");
        }
    });
}

#[test]
fn fragments_pass_in_both_directions() {
    everywhere("fragments", |stage, _, frontends| {
        for (kind, to) in stage.addresses(frontends) {
            for length in [2_000, 6_000] {
                let body = "x".repeat(length);
                for dial in [udp(to), Dial::udp_unconnected(to)] {
                    let dialed = stage.user.dial(&dial.request(format!("echo {body}")));
                    assert_eq!(dialed.reply.as_ref(), Some(&body), "{kind} {to} {dialed:?}");
                    assert_eq!(dialed.peer, Some(to), "{kind}");
                }
            }
        }
    });
}

#[test]
fn unreachable_ports_of_backends_are_reported_to_the_client() {
    everywhere("closed", |stage, backend, frontends| {
        stage.stop(backend);
        for (_, to) in stage.addresses(frontends) {
            stage.user.is_refused(&tcp(to));
            stage.user.is_refused(&udp(to));
        }
    });
}

/// A client that has not yet learned anything about its paths.
fn new_client(stage: &Stage, name: &str) -> (Outside, Client) {
    let outside = stage.cluster.outside(name).unwrap();
    let client = Client::new(outside.control().unwrap());
    (outside, client)
}

/// The address that a frontend's packets to the client come from, and go to.
fn addresses_of(stage: &Stage, frontends: &Frontends) -> Vec<SocketAddr> {
    let all = stage.addresses(frontends).into_iter();
    all.filter(|(kind, _)| *kind != "external IP")
        .map(|(_, to)| to)
        .collect()
}

#[test]
fn clients_learn_of_narrow_paths_to_backends() {
    everywhere("narrow-pod", |stage, backend, frontends| {
        stage.pod(backend).limit_path_mtu(1_400).unwrap();
        let (outside, mut client) = new_client(stage, &format!("{backend}-up"));
        let body = "x".repeat(200_000);
        for to in addresses_of(stage, frontends) {
            let dial = tcp(to).request(format!("length {body}"));
            assert_eq!(client.ask(&dial), "200000", "{to}");
            let there = &outside.placement().netns;
            assert_eq!(learned(there, to.ip()), Some(1_400), "{to}");
        }
    });
}

#[test]
fn backends_learn_of_narrow_paths_to_clients() {
    everywhere("narrow-client", |stage, backend, frontends| {
        for (number, to) in addresses_of(stage, frontends).into_iter().enumerate() {
            // A backend remembers what it has learned of a client.
            let (outside, mut client) = new_client(stage, &format!("{backend}-{number}"));
            outside.limit_path_mtu(1_300).unwrap();
            let seen = client.source_seen(&tcp(to));
            let pod = stage.pod(backend).placement().netns.clone();
            let fetched = client.ask(&tcp(to).request("body 200000"));
            assert_eq!(fetched.len(), 200_000, "{to}");
            assert_eq!(learned(&pod, seen), Some(1_300), "{to} seen as {seen}");
            // Where all clients have the node's address, the next one must start afresh.
            pod.tool("ip", &["-4", "route", "flush", "cache"]).unwrap();
            pod.tool("ip", &["-6", "route", "flush", "cache"]).unwrap();
        }
    });
}
