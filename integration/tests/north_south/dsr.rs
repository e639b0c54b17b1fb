//! Direct server return: a backend's node answers the client itself, from the address that the
//! client dialled.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use lb_integration::{
    agent::{
        dial::Dial,
        socket::{Family, Protocol},
    },
    client::{tcp, udp},
    cluster::{CniRules, PodNetwork},
    workload::Service,
};

use crate::stage::{Frontends, Profile, Stage, Xdp};

const FORWARDING_MODE: &str = "lb/forwarding-mode";

/// Three nodes: the first and the second receive from outside, the third has the backends.
const BACKEND_NODE: usize = 2;

fn stage(xdp: Xdp) -> MutexGuard<'static, Stage> {
    static NATIVE: OnceLock<Mutex<Stage>> = OnceLock::new();
    static OFF: OnceLock<Mutex<Stage>> = OnceLock::new();
    let cell = if xdp == Xdp::Native { &NATIVE } else { &OFF };
    let profile = Profile {
        xdp,
        nodes: 3,
        ..Profile::default()
    };
    let stage = cell.get_or_init(|| Mutex::new(Stage::new(profile, &[])));
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A Service with this mode over one backend on the third node.
fn serving(stage: &mut Stage, name: &str, mode: &str) -> (Service, Frontends) {
    stage.backend(BACKEND_NODE, name);
    let (service, frontends) = stage.service(name, name);
    let service = service.annotation(FORWARDING_MODE, mode);
    stage.apply(&service);
    stage.wait_for(&frontends, name);
    (service, frontends)
}

/// Runs a check with both ways to take packets from the device.
fn in_both_modes(name: &str, mode: &str, check: impl Fn(&mut Stage, &Frontends)) {
    for xdp in [Xdp::Native, Xdp::Off] {
        let mut stage = stage(xdp);
        let (service, frontends) = serving(&mut stage, name, mode);
        check(&mut stage, &frontends);
        stage.clear(name, &[&service]);
    }
}

/// Waits until the server sees the client's own address, by this protocol, everywhere.
fn sees_the_client(stage: &mut Stage, frontends: &Frontends, dial: fn(SocketAddr) -> Dial) {
    let own = stage.outside.addresses();
    for (_, to) in stage.addresses(frontends) {
        stage.user.is_seen_as(&dial(to), &own);
    }
}

#[test]
fn remote_backends_answer_directly() {
    in_both_modes("direct", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        sees_the_client(stage, frontends, udp);
        // What came back came from the dialled address.
        for (kind, to) in stage.addresses(frontends) {
            let dialed = stage.user.dial(&Dial::udp_unconnected(to));
            assert_eq!(dialed.peer, Some(to), "{kind}");
        }
    });
}

#[test]
fn replies_do_not_pass_the_node_that_was_dialled() {
    in_both_modes("bypass", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        // The fabric loses whatever the first node sends to the client.
        let node = stage.cluster.node(0).netns();
        let mac = node
            .tool_output("cat", &["/sys/class/net/eth0/address"])
            .unwrap();
        let rules = format!(
            "table netdev bypass {{
            chain ingress {{
                type filter hook ingress device \"node-1\" priority 0; policy accept;
                ether saddr {} ip daddr 198.51.100.0/24 drop
                ether saddr {} ip6 daddr 2001:db8:100::/48 drop
            }}
            }}",
            mac.trim(),
            mac.trim()
        );
        let fabric = stage.cluster.fabric().clone();
        fabric.tool_with("nft", &["-f", "-"], &rules).unwrap();
        for (_, to) in stage.addresses(frontends) {
            stage.user.reaches(&tcp(to), &["bypass"]);
            stage.user.reaches(&udp(to), &["bypass"]);
        }
        fabric
            .tool("nft", &["delete", "table", "netdev", "bypass"])
            .unwrap();
    });
}

#[test]
fn an_established_flow_that_moves_to_another_node_goes_on() {
    in_both_modes("moving", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        for vip in frontends.load_balancer {
            let to = SocketAddr::new(vip, 80);
            let stream = stage.user.stream(to);
            let control = &mut stage.user.control;
            let socket = control
                .open(Protocol::Udp, Family::of(vip), None)
                .unwrap()
                .unwrap();
            control
                .connect(socket, to, Duration::from_secs(1))
                .unwrap()
                .unwrap();
            for round in 0..6 {
                stage.cluster.route_vip(vip, round % 2).unwrap();
                stage.user.stream_works(stream, &format!("round {round}"));
                let large = "x".repeat(100_000);
                stage.user.stream_works(stream, &large);
                let answer = stage.user.control.ask(socket, "hostname").unwrap().unwrap();
                assert_eq!(answer.data, "moving");
            }
            stage.user.control.close(stream).unwrap().unwrap();
            stage.user.control.close(socket).unwrap().unwrap();
        }
    });
}

#[test]
fn large_bodies_pass_although_the_wrapping_takes_room() {
    in_both_modes("wrapped", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        let body = "x".repeat(500_000);
        for (kind, to) in stage.addresses(frontends) {
            let sent = tcp(to).request(format!("length {body}"));
            assert_eq!(stage.user.ask(&sent), "500000", "{kind} {to}");
            let fetched = stage.user.ask(&tcp(to).request("body 500000"));
            assert_eq!(fetched.len(), 500_000, "{kind} {to}");
            let echo = "x".repeat(1_400);
            let dialed = stage.user.dial(&udp(to).request(format!("echo {echo}")));
            assert_eq!(dialed.reply.as_ref(), Some(&echo), "{kind} {to} {dialed:?}");
        }
    });
}

#[test]
fn hybrid_is_direct_for_tcp_alone() {
    in_both_modes("hybrid", "hybrid", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        let node = stage.cluster.node(0).addresses();
        for (_, to) in stage.addresses(frontends) {
            stage.user.is_seen_as(&udp(to), &node);
        }
    });
}

#[test]
fn fragmented_datagrams_pass_although_the_wrapping_takes_room() {
    in_both_modes("fragments", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, udp);
        for (_, to) in stage.addresses(frontends) {
            for length in [1_460, 1_440, 2_000, 6_000] {
                // The first datagram may tell the client's host that the path is narrow.
                let body = "x".repeat(length);
                let dial = udp(to).request(format!("echo {body}"));
                stage.user.reaches(&dial, &[&body]);
            }
        }
    });
}

#[test]
fn host_network_backends_answer_directly() {
    for xdp in [Xdp::Native, Xdp::Off] {
        let mut stage = stage(xdp);
        stage.host_backend(BACKEND_NODE, "host");
        let (service, frontends) = stage.service("host", "host");
        let service = service.annotation(FORWARDING_MODE, "dsr");
        stage.apply(&service);
        stage.wait_for(&frontends, "host");
        sees_the_client(&mut stage, &frontends, tcp);
        sees_the_client(&mut stage, &frontends, udp);
        stage.clear("host", &[&service]);
    }
}

#[test]
fn a_cnis_rules_do_not_stand_in_the_way() {
    in_both_modes("ruled", "dsr", |stage, frontends| {
        sees_the_client(stage, frontends, tcp);
        let nodes = stage.cluster.nodes().iter();
        let rules: Vec<_> = nodes.map(|node| CniRules::install(node).unwrap()).collect();
        sees_the_client(stage, frontends, tcp);
        sees_the_client(stage, frontends, udp);
        let to = SocketAddr::new(frontends.load_balancer[0], 80);
        let stream = stage.user.stream(to);
        for round in 0..4 {
            stage.cluster.route_vip(to.ip(), round % 2).unwrap();
            stage.user.stream_works(stream, &format!("round {round}"));
        }
        for rules in &rules {
            assert_eq!(rules.dropped("invalid").unwrap(), 0);
            assert_eq!(rules.dropped("stranger").unwrap(), 0);
        }
    });
}
#[test]
fn backends_behind_a_tunnel_are_reached_without_direct_return() {
    let profile = Profile {
        xdp: Xdp::Off,
        pods: PodNetwork::Bridged,
        overlay: true,
        nodes: 3,
    };
    let mut stage = Stage::new(profile, &[]);
    let (_service, frontends) = serving(&mut stage, "tunnelled", "dsr");
    let own = stage.outside.addresses();
    for (kind, to) in stage.addresses(&frontends) {
        let seen = stage.user.source_seen(&tcp(to));
        assert!(!own.contains(&seen), "{kind} {to}: {seen}");
    }
}
