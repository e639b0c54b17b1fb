//! Proxies and API servers that restart. Rows S8r and S9r; and proxies that come back with other
//! settings.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    agent::dial::{Dial, Summary},
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp, tcp_at, tcp_to},
        site::ProxySettings,
    },
    workload::Service,
};

cases! {
    s8r_connections_and_services_survive_restarts_of_the_proxies: rows [S8r],
        rules [C16 K2], needs [Outside ProxyRestarts];
    s9r_services_work_while_the_api_server_restarts_and_changes_follow: rows [S9r],
        rules [K3], needs [Outside ApiRestarts];
    e7_node_port_addresses_are_where_node_ports_are_served: own "node ports are served at the networks of nodePortAddresses and nowhere else",
        rules [E7 E9], needs [Outside ProxySettings];
}

const NODES: usize = 3;
const PAUSE: Duration = Duration::from_millis(5);

/// A Service with a near and a far backend, as the first node sees them.
fn serving(s: &Scenario) -> (Service, u16) {
    let port = s.node_port();
    let service = s.service("svc").port("", 80, 80, "TCP").node_port("", port);
    s.apply(service.object());
    (service, port)
}

/// Dials again and again while something is done.
fn dialling(clients: &mut [(Client, Dial)], during: impl FnOnce()) -> Vec<Summary> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|(client, dial)| {
                scope.spawn(move || {
                    let mut all = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        all.push(client.control.dial_for(dial, 50, PAUSE, None).unwrap());
                    }
                    all
                })
            })
            .collect();
        // A failure must not leave them dialling.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        done.store(true, Ordering::Relaxed);
        let summaries = threads.into_iter().map(|thread| thread.join().unwrap());
        let summaries = summaries.flatten().collect();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        summaries
    })
}

/// Every dial was answered by one of these.
fn nobody_failed(summaries: &[Summary], names: &[&str]) {
    for summary in summaries {
        let known = |name: &String| names.contains(&name.as_str());
        assert!(
            summary.failed() == 0 && summary.replies.keys().all(known),
            "{summary:?}"
        );
    }
}

fn s8r_connections_and_services_survive_restarts_of_the_proxies(s: &Scenario) {
    let _pods = s.published_backends("svc", &["near", "far"]);
    let (service, port) = serving(s);
    let names = ["near", "far"];
    let mut clients: Vec<(Client, Dial)> = Vec::new();
    let mut streams = Vec::new();
    for to in service.addresses(80) {
        clients.push((s.client(0), tcp(to)));
    }
    for to in s.at_node(0, port) {
        clients.push((s.outside_client(), tcp(to)));
    }
    for (client, dial) in &mut clients {
        client.reaches(dial, &names);
        streams.push(client.stream(dial.to));
    }
    let summaries = dialling(&mut clients, || {
        for node in 0..NODES {
            s.restart_proxy(node, &ProxySettings::default());
        }
    });
    nobody_failed(&summaries, &names);
    for ((client, dial), &stream) in clients.iter_mut().zip(&streams) {
        client.stream_works(stream, "after the restarts");
        client.reaches(dial, &names);
    }
    // The new processes follow changes, and leave the old connections alone.
    let third = s.backend(2, "third", &[80], &[]);
    s.publish([s.record(&third, "svc")]);
    s.withdraw("near");
    for ((client, dial), stream) in clients.iter_mut().zip(streams) {
        client.reaches(dial, &["far", "third"]);
        client.stream_works(stream, "after the change");
    }
}

fn s9r_services_work_while_the_api_server_restarts_and_changes_follow(s: &Scenario) {
    let _pods = s.published_backends("svc", &["near", "far"]);
    let (service, port) = serving(s);
    let names = ["near", "far"];
    let dials = [tcp_at(&service, 80), tcp_to(&s.at_node(0, port))].concat();
    let (mut pod, mut outside) = (s.client(0), s.outside_client());
    pod.reaches_all(&dials, &names);
    let stream = pod.stream(service.first(80));
    let at_node = &dials[dials.len() / 2..];
    s.restart_api_server(|| {
        // Long enough for watches to end and to be tried again.
        for _ in 0..3 {
            pod.reaches_all(&dials, &names);
            outside.reaches_all(at_node, &names);
            thread::sleep(Duration::from_millis(300));
        }
    });
    pod.stream_works(stream, "after the restart");
    pod.reaches_all(&dials, &names);
    s.withdraw("near");
    let third = s.backend(2, "third", &[80], &[]);
    s.publish([s.record(&third, "svc")]);
    pod.reaches_all(&dials, &["far", "third"]);
    outside.reaches_all(at_node, &["far", "third"]);
    pod.stream_works(stream, "after the change");
    s.delete(service.object());
    outside.fails_all(at_node);
}

fn e7_node_port_addresses_are_where_node_ports_are_served(s: &Scenario) {
    let _pods = s.published_backends("svc", &["server"]);
    let (_service, port) = serving(s);
    let (here, elsewhere) = (tcp_to(&s.at_node(2, port)), tcp_to(&s.at_node(1, port)));
    let loopback = tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let mut clients = [s.client(2), s.host_client(2), s.outside_client()];
    let settings = |addresses: &[String]| ProxySettings {
        node_port_addresses: addresses.to_vec(),
    };
    let own: Vec<String> = s
        .node_addresses(2)
        .iter()
        .map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }))
        .collect();
    let none = ["192.0.2.0/28".to_owned(), "2001:db8:5::/64".to_owned()];
    for (addresses, serves) in [
        (&none[..], false),
        (&own, true),
        (&["primary".to_owned()], true),
    ] {
        s.restart_proxy(2, &settings(addresses));
        for client in &mut clients {
            if serves {
                client.reaches_all(&here, &["server"]);
            } else {
                client.fails_all(&here);
            }
        }
        // No loopback address is among them.
        if s.families().has_v4() {
            clients[1].fails(&loopback);
        }
        clients[2].reaches_all(&elsewhere, &["server"]);
    }
    s.restart_proxy(2, &ProxySettings::default());
    clients[2].reaches_all(&here, &["server"]);
}
