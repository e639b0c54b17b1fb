//! Packets of a server that fit no window. Row CT6: if they reached the client under the server's
//! own address, the client would answer them with a reset that ends the connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Socket, Type};

use crate::{
    agent::socket::Protocol,
    conformance::{
        case::cases,
        scenario::{Backend, Client, Scenario, tcp, with_port},
    },
    netns::Netns,
};

cases! {
    ct6_packets_outside_the_window_do_not_end_connections: rows [CT6],
        rules [G10], needs [Namespaces Outside Routes V4];
}

/// A TCP segment with data, from `server` to `client`, that acknowledges something.
fn segment(server: SocketAddrV4, client: SocketAddrV4, sequence: u32) -> Vec<u8> {
    const PUSH_ACK: u8 = 0x18;
    const HEADER_WORDS: u8 = 5;
    let mut bytes = Vec::new();
    bytes.extend(server.port().to_be_bytes());
    bytes.extend(client.port().to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(1u32.to_be_bytes());
    bytes.extend([HEADER_WORDS << 4, PUSH_ACK, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(b"boom");
    let checksum = checksum(*server.ip(), *client.ip(), &bytes);
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The Internet checksum of a TCP segment and its pseudo-header.
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    const TCP: u8 = 6;
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP], &length].concat();
    let sum: u32 = pseudo
        .chunks(2)
        .chain(segment.chunks(2))
        .map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// How many resets a namespace has sent. It is the thread that is in it, not the process.
fn resets(netns: &Netns) -> u64 {
    let text = netns
        .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .unwrap()
        .unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "OutRsts");
    found.unwrap().1.parse().unwrap()
}

/// The connection lives on, and its client sends no reset, while the server's node sends it
/// segments from all over the sequence space.
fn unmoved(client: &mut Client, to: SocketAddr, backend: &Backend) {
    let netns = client.placement().netns.clone();
    let IpAddr::V4(address) = backend.address() else {
        panic!("{to} is an IPv4 address");
    };
    let control = &mut client.control;
    let stream = control.connect_new(Protocol::Tcp, to).unwrap().unwrap();
    let seen = control.ask(stream, "clientip").unwrap().unwrap().data;
    let SocketAddr::V4(seen) = seen.parse().unwrap() else {
        panic!("{to} is an IPv4 address");
    };
    control.ask(stream, "stream").unwrap().unwrap();
    let before = resets(&netns);
    let server = SocketAddrV4::new(address, 80);
    for round in 0..20u32 {
        let bytes = segment(server, seen, round.wrapping_mul(0x1357_9bdf));
        let send = || {
            let socket = Socket::new(
                Domain::IPV4,
                Type::from(libc::SOCK_RAW),
                Some(socket2::Protocol::TCP),
            )?;
            socket.bind(&SocketAddrV4::new(*server.ip(), 0).into())?;
            socket.send_to(&bytes, &SocketAddrV4::new(*seen.ip(), 0).into())
        };
        backend.placement().netns.run(send).unwrap().unwrap();
        client.stream_works(stream, &format!("round {round}"));
    }
    assert_eq!(resets(&netns), before, "{to}");
}

fn ct6_packets_outside_the_window_do_not_end_connections(s: &Scenario) {
    let mut from_outside = s.new_outside_client("ct6");
    let mut in_pod = s.client(1);
    for (node, name) in ["near", "far"].into_iter().enumerate() {
        let backend = s.backend(node, name, &[80], &[]);
        s.publish([s.record(&backend, name)]);
        let (port, vips) = (s.node_port(), s.vips());
        let service = s
            .service(name)
            .port("", 80, 80, "TCP")
            .node_port("", port)
            .load_balancer(&vips);
        s.apply(service.object());
        in_pod.reaches(&tcp(service.v4(80)), &[name]);
        unmoved(&mut in_pod, service.v4(80), &backend);
        for to in [s.at_node(0, port)[0], with_port(&vips, 80)[0]] {
            from_outside.reaches(&tcp(to), &[name]);
            unmoved(&mut from_outside, to, &backend);
        }
    }
}
