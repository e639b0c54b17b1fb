//! What upstream never checks: that applications see the address they dialled, and that sockets
//! which live long are served as rules C16, G6, I7 and M5 say.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    agent::{
        dial::Dial,
        socket::{Family, Protocol},
    },
    conformance::{
        case::cases,
        scenario::{Scenario, tcp, tcp_at, udp, udp_at},
    },
};

cases! {
    g6_applications_see_the_address_they_dialled: own "applications see the address they dialled (getpeername, recvmsg)",
        rules [G6];
    m5_v4_mapped_sockets_are_served_as_ipv4: own "v4-mapped IPv6 sockets are served as IPv4",
        rules [M5], needs [V4];
    c16_established_connections_outlive_their_endpoint: own "established connections outlive their endpoint and their Service",
        rules [C16];
    g6_udp_socket_reports_the_service_through_its_life: own "a connected UDP socket reports the Service for as long as it lives",
        rules [G6 M5];
    unconnected_udp_socket_keeps_its_backend_while_others_change: own "a long-lived UDP socket keeps its backend until that leaves",
        rules [I2];
    one_udp_socket_tells_two_services_apart_that_share_backends: own "one UDP socket tells two Services apart that share backends",
        rules [G6];
    one_udp_socket_asks_two_services_by_turns_that_have_one_backend: own "one UDP socket asks two Services by turns that have one backend",
        rules [G6];
    traffic_to_pods_is_left_alone: own "traffic to pods themselves is left alone",
        rules [G5];
}

/// The address as a socket of this family reports it.
fn seen_by(family: Family, address: SocketAddr) -> SocketAddr {
    match (family, address.ip()) {
        (Family::V6, IpAddr::V4(v4)) => {
            SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port())
        }
        _ => address,
    }
}

fn g6_applications_see_the_address_they_dialled(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2"]);
    let service = s
        .service("svc")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    for mut client in [s.client(0), s.client(1), s.host_client(0)] {
        for to in service.addresses(80) {
            // `reaches` compares what getpeername or recvmsg reported with what was dialled.
            client.reaches(&tcp(to), &["pod-1", "pod-2"]);
            client.reaches(&udp(to), &["pod-1", "pod-2"]);
            let unconnected = Dial::udp_unconnected(to).timeout(Duration::from_millis(500));
            client.reaches(&unconnected, &["pod-1", "pod-2"]);
        }
    }
}

fn m5_v4_mapped_sockets_are_served_as_ipv4(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2"]);
    let service = s
        .service("svc")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    for mut client in [s.client(0), s.host_client(1)] {
        let to = service.v4(80);
        client.reaches(&tcp(to).mapped(), &["pod-1", "pod-2"]);
        client.reaches(&udp(to).mapped(), &["pod-1", "pod-2"]);
        let unconnected = Dial::udp_unconnected(to).timeout(Duration::from_millis(500));
        client.reaches(&unconnected.mapped(), &["pod-1", "pod-2"]);
    }
}

fn c16_established_connections_outlive_their_endpoint(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1"]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let mut client = s.client(1);
    client.reaches_all(&tcp_at(&service, 80), &["pod-1"]);
    let addresses = service.addresses(80).into_iter();
    let open = |to| {
        let stream = client
            .control
            .connect_new(Protocol::Tcp, to)
            .unwrap()
            .unwrap();
        assert_eq!(
            client.control.ask(stream, "stream").unwrap().unwrap().data,
            "streaming"
        );
        (stream, to)
    };
    let streams: Vec<_> = addresses.map(open).collect();
    // The endpoint leaves, then the Service itself.
    s.withdraw("pod-1");
    client.is_refused_all(&tcp_at(&service, 80));
    s.delete(service.object());
    client.fails_all(&tcp_at(&service, 80));
    for (stream, to) in streams {
        assert_eq!(
            client
                .control
                .ask(stream, "still here")
                .unwrap()
                .unwrap()
                .data,
            "still here"
        );
        assert_eq!(client.control.peer(stream).unwrap().unwrap(), to);
    }
}

fn g6_udp_socket_reports_the_service_through_its_life(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1"]);
    let service = s.service("svc").port("", 80, 80, "UDP");
    s.apply(service.object());
    let mut client = s.client(1);
    client.reaches_all(&udp_at(&service, 80), &["pod-1"]);
    let control = &mut client.control;
    let mut sockets: Vec<(Family, SocketAddr)> = service
        .addresses(80)
        .into_iter()
        .map(|to| (Family::of(to.ip()), to))
        .collect();
    if s.families().has_v4() {
        sockets.push((Family::V6, service.v4(80)));
    }
    for (family, to) in sockets {
        let socket = control.open(Protocol::Udp, family, None).unwrap().unwrap();
        let limit = Duration::from_secs(1);
        control.connect(socket, to, limit).unwrap().unwrap();
        for _ in 0..3 {
            assert_eq!(control.peer(socket).unwrap().unwrap(), seen_by(family, to));
            let received = control.ask(socket, "hostname").unwrap().unwrap();
            assert_eq!(
                (received.data.as_str(), received.from),
                ("pod-1", seen_by(family, to))
            );
        }
    }
}

fn unconnected_udp_socket_keeps_its_backend_while_others_change(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2", "pod-3"]);
    let service = s.service("svc").port("", 80, 80, "UDP");
    s.apply(service.object());
    let mut client = s.client(0);
    client.reaches_all(&udp_at(&service, 80), &["pod-1", "pod-2", "pod-3"]);
    let to = service.first(80);
    let socket = client
        .control
        .open(Protocol::Udp, Family::of(to.ip()), None)
        .unwrap()
        .unwrap();
    let mine = client
        .control
        .ask_at(socket, to, "hostname")
        .unwrap()
        .unwrap()
        .data;
    let others: Vec<&str> = ["pod-1", "pod-2", "pod-3"]
        .into_iter()
        .filter(|name| **name != mine)
        .collect();

    let newcomer = s.backend(0, "pod-4", &[80], &[80]);
    s.publish([s.record(&newcomer, "svc")]);
    client.reaches(&udp(to), &["pod-1", "pod-2", "pod-3", "pod-4"]);
    s.withdraw(others[0]);
    client.reaches(&udp(to), &[mine.as_str(), others[1], "pod-4"]);
    for _ in 0..20 {
        let received = client
            .control
            .ask_at(socket, to, "hostname")
            .unwrap()
            .unwrap();
        assert_eq!((received.data.as_str(), received.from), (mine.as_str(), to));
    }
    // Its own backend leaves: the same socket is served by another.
    s.withdraw(&mine);
    client.reaches(&udp(to), &[others[1], "pod-4"]);
    // Flows are cleaned up after the tables are programmed (rule I4), so not within an instant.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let received = client
            .control
            .ask_at(socket, to, "hostname")
            .unwrap()
            .unwrap();
        assert_eq!(received.from, to);
        if received.data != mine {
            break;
        }
        assert!(Instant::now() < deadline, "{mine} still answers");
    }
}

fn one_udp_socket_tells_two_services_apart_that_share_backends(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1", "pod-2"]);
    let selector = serde_json::json!({"app": "svc"});
    let [one, two] = ["one", "two"].map(|name| {
        s.service(name)
            .port("", 80, 80, "UDP")
            .spec("selector", selector.clone())
    });
    s.apply(one.object());
    s.apply(two.object());
    let mut client = s.client(0);
    for service in [&one, &two] {
        client.reaches_all(&udp_at(service, 80), &["pod-1", "pod-2"]);
    }
    let control = &mut client.control;
    for _ in 0..20 {
        let socket = control
            .open(Protocol::Udp, Family::of(one.first(80).ip()), None)
            .unwrap()
            .unwrap();
        let sent = [(one.first(80), "first"), (two.first(80), "second")];
        // Both requests are out before either reply is read.
        for (to, word) in sent {
            control
                .send_to(socket, to, &format!("echo {word}"))
                .unwrap()
                .unwrap();
        }
        let received: BTreeSet<(SocketAddr, String)> = (0..2)
            .map(|_| {
                control
                    .receive(socket, Duration::from_secs(1))
                    .unwrap()
                    .unwrap()
            })
            .map(|received| (received.from, received.data))
            .collect();
        let expected: BTreeSet<(SocketAddr, String)> =
            sent.map(|(to, word)| (to, word.to_owned())).into();
        assert_eq!(received, expected);
        control.close(socket).unwrap().unwrap();
    }
}

fn one_udp_socket_asks_two_services_by_turns_that_have_one_backend(s: &Scenario) {
    let _pods = s.published_backends("svc", &["pod-1"]);
    let selector = serde_json::json!({"app": "svc"});
    let [one, two] = ["one", "two"].map(|name| {
        s.service(name)
            .port("", 80, 80, "UDP")
            .spec("selector", selector.clone())
    });
    s.apply(one.object());
    s.apply(two.object());
    let mut client = s.client(1);
    for service in [&one, &two] {
        client.reaches_all(&udp_at(service, 80), &["pod-1"]);
    }
    let socket = client
        .control
        .open(Protocol::Udp, Family::of(one.first(80).ip()), None)
        .unwrap()
        .unwrap();
    for to in [one.first(80), two.first(80), one.first(80), two.first(80)] {
        let received = client
            .control
            .ask_at(socket, to, "hostname")
            .unwrap()
            .unwrap();
        assert_eq!((received.data.as_str(), received.from), ("pod-1", to));
    }
}

fn traffic_to_pods_is_left_alone(s: &Scenario) {
    let backend = s.backend(1, "pod-1", &[80], &[80]);
    let mut client = s.client(0);
    let mine = client.addresses();
    for address in backend.addresses() {
        let to = SocketAddr::new(address, 80);
        client.reaches(&tcp(to), &["pod-1"]);
        client.reaches(&udp(to), &["pod-1"]);
        let source: SocketAddr = client
            .dial(&tcp(to).request("clientip"))
            .reply
            .unwrap()
            .parse()
            .unwrap();
        assert!(mine.contains(&source.ip()), "{source} is not the client's");
    }
}
