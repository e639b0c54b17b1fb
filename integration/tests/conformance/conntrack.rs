//! UDP clients with one source port while backends come and go. Rows CT2, CT4.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use lb_integration::agent::dial::Dial;

use crate::scenario::{Client, Scenario, udp};

/// Sends from one port, a new socket each time, until `name` answers. Upstream's client is a loop
/// of `nc -u -w5 -p 12345`.
fn answers(client: &mut Client, dial: &Dial, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let dialed = client.dial(dial);
        if dialed.reply.as_deref() == Some(name) {
            assert_eq!(dialed.peer, Some(dial.expected_peer()));
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name} did not answer {dial:?}: {dialed:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn udp_survives_the_servers_cycle(s: &Scenario, mut client: Client, source_port: u16) {
    let service = s.service("udp").port("", 80, 80, "UDP");
    s.apply(service.object());
    let dials = service.at(80).map(|to| {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        udp(to)
            .from(SocketAddr::new(any, source_port))
            .timeout(Duration::from_millis(200))
    });
    // The client sends before anything serves.
    for dial in &dials {
        for _ in 0..3 {
            assert!(!client.dial(dial).ok);
        }
    }
    let first = s.backend(0, "server-1", &[], &[80]);
    s.publish([s.record(&first, "udp")]);
    for dial in &dials {
        answers(&mut client, dial, "server-1");
    }

    let second = s.backend(1, "server-2", &[], &[80]);
    s.publish([s.record(&second, "udp")]);
    s.withdraw("server-1");
    drop(first);
    for dial in &dials {
        answers(&mut client, dial, "server-2");
    }
}

#[test]
fn ct2_udp_survives_the_servers_cycle_for_cluster_ip() {
    let s = Scenario::new("ct2");
    let client = s.client(1);
    udp_survives_the_servers_cycle(&s, client, 12_345);
}

#[test]
fn ct4_udp_survives_the_servers_cycle_for_host_network_clients() {
    let s = Scenario::new("ct4");
    let client = s.host_client(1);
    udp_survives_the_servers_cycle(&s, client, 12_346);
}
