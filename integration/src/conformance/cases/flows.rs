//! Flows that could be taken for each other: many of one client, and some that differ in nothing
//! but the address that was dialled.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::paths::serving;
use crate::{
    agent::socket::{Family, Protocol},
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp, udp, with_port},
    },
    control::SocketId,
};

cases! {
    g3_many_flows_of_one_client_to_a_far_backend_stay_apart: own "five hundred flows of one client to one backend of another node are told apart, TCP and UDP",
        rules [G3 G6], needs [Outside];
    g6_one_client_port_reaches_a_far_backend_at_two_addresses: own "one client port talks to one backend of another node through two addresses at once, TCP and UDP",
        rules [G3 G6], needs [Outside Routes];
    g6_one_client_port_reaches_a_near_backend_at_two_addresses: own "one client port talks to one backend of the node through two addresses at once, TCP and UDP",
        rules [G3 G6], needs [Outside Routes];
}

const FLOWS: usize = 500;
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Asks over a socket, which must answer.
fn ask(client: &mut Client, socket: SocketId, request: &str) -> String {
    let answer = client.control.ask(socket, request).unwrap();
    answer
        .unwrap_or_else(|failure| panic!("{socket:?}, {request}: {failure}"))
        .data
}

fn g3_many_flows_of_one_client_to_a_far_backend_stay_apart(s: &Scenario) {
    let (_service, node_ports, _backend) = serving(s, "server", 1);
    let mut client = s.outside_client();
    for to in node_ports {
        client.reaches(&tcp(to), &["server"]);
        client.reaches(&udp(to), &["server"]);
        for protocol in BOTH {
            let sockets: Vec<SocketId> = (0..FLOWS)
                .map(|_| client.control.connect_new(protocol, to).unwrap().unwrap())
                .collect();
            let seen: BTreeSet<String> = sockets
                .iter()
                .map(|&socket| ask(&mut client, socket, "clientip"))
                .collect();
            assert_eq!(seen.len(), FLOWS, "{protocol:?} {to}");
            // Each by itself, once all are there.
            for (number, &socket) in sockets.iter().enumerate().rev() {
                let answer = ask(&mut client, socket, &format!("echo flow {number}"));
                assert_eq!(answer, format!("flow {number}"), "{protocol:?} {to}");
            }
            for socket in sockets {
                client.control.abort_on_close(socket).unwrap().unwrap();
                client.control.close(socket).unwrap().unwrap();
            }
        }
    }
}

/// Sockets with one local address and port, connected to each of these.
fn from_one_port(client: &mut Client, protocol: Protocol, to: &[SocketAddr]) -> Vec<SocketId> {
    let same_family = |a: &IpAddr| a.is_ipv4() == to[0].is_ipv4();
    let ip = client.addresses().into_iter().find(same_family).unwrap();
    let mut local = SocketAddr::new(ip, 0);
    let control = &mut client.control;
    to.iter()
        .map(|&to| {
            let socket = control.open(protocol, Family::of(ip), Some(local));
            let socket = socket.unwrap().unwrap();
            // The first one has a port chosen for it, which the others take.
            local = control.local(socket).unwrap().unwrap();
            let connected = control.connect(socket, to, Duration::from_secs(2)).unwrap();
            connected.unwrap_or_else(|failure| panic!("{protocol:?} {to}: {failure}"));
            socket
        })
        .collect()
}

fn two_addresses(s: &Scenario, node: usize) {
    let backend = s.backend(node, "server", &[80], &[80]);
    s.publish([s.record(&backend, "one")]);
    let addresses: Vec<Vec<IpAddr>> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let vips = s.vips();
            let service = s
                .service(name)
                .port("tcp", 80, 80, "TCP")
                .port("udp", 80, 80, "UDP")
                .spec("selector", serde_json::json!({"app": "one"}))
                .load_balancer(&vips);
            s.apply(service.object());
            vips
        })
        .collect();
    let mut client = s.outside_client();
    for (first, second) in addresses[0].iter().zip(&addresses[1]) {
        let to = with_port(&[*first, *second], 80);
        for &to in &to {
            client.reaches(&tcp(to), &["server"]);
            client.reaches(&udp(to), &["server"]);
        }
        for protocol in BOTH {
            let sockets = from_one_port(&mut client, protocol, &to);
            let mut seen = BTreeSet::new();
            for round in 0..5 {
                for (number, &socket) in sockets.iter().enumerate() {
                    let request = format!("echo {number} in round {round}");
                    let answer = ask(&mut client, socket, &request);
                    assert_eq!(format!("echo {answer}"), request, "{protocol:?} {to:?}");
                    seen.insert(ask(&mut client, socket, "clientip"));
                }
            }
            assert_eq!(seen.len(), to.len(), "{protocol:?} {to:?}: {seen:?}");
            for socket in sockets {
                client.control.abort_on_close(socket).unwrap().unwrap();
                client.control.close(socket).unwrap().unwrap();
            }
        }
    }
}

fn g6_one_client_port_reaches_a_far_backend_at_two_addresses(s: &Scenario) {
    two_addresses(s, 1);
}

fn g6_one_client_port_reaches_a_near_backend_at_two_addresses(s: &Scenario) {
    two_addresses(s, 0);
}
