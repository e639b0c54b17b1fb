//! Headers that are cut off, lie, or are not what they seem: such frames go on as they came.

use lb_ebpf::{
    abi::{PacketEvent, Protocol},
    packet::ETHERNET,
};

use super::super::{
    script::{BOTH, Hook, Row, Script, Step, TRANSPORTS},
    topology::Family,
};

/// Bytes of a transport header.
const fn transport(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 20,
        Protocol::Udp => 8,
        Protocol::Sctp => 12,
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a frame cut off within its headers goes on as it came",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let frame = case.opening(case.client(), case.vip()).bytes();
            let headers = ETHERNET + case.family.pick(20, 40) + transport(case.protocol);
            let mut script = Script::new(case.balanced(2));
            // At TC the kernel does not test frames without a whole IP header.
            let header = case.family.pick(20, 40);
            let least = if case.hook == Hook::Xdp { 0 } else { header };
            for len in ETHERNET + least..headers {
                let cut = frame[..len].to_vec();
                script = script.step(Step::raw(case.hook, cut).flows(&[]));
            }
            script
        },
    },
    Row {
        name: "IPv4 headers that lie go on as they came",
        hooks: &Hook::ALL,
        families: &[Family::V4],
        protocols: TRANSPORTS,
        script: |case| {
            let frame = case.opening(case.client(), case.vip()).bytes();
            let mut script = Script::new(case.balanced(2));
            let lies: [(usize, &[u8]); 7] = [
                // Versions 0, 5, 6 and 15; header lengths 0 and 16.
                (0, &[0x05]),
                (0, &[0x55]),
                (0, &[0x65]),
                (0, &[0xf5]),
                (0, &[0x40]),
                (0, &[0x44]),
                // A total length below the header's.
                (2, &[0, 19]),
            ];
            for (at, bytes) in lies {
                let mut frame = frame.clone();
                let at = ETHERNET + at;
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                script = script.step(Step::raw(case.hook, frame).flows(&[]));
            }
            script
        },
    },
    Row {
        name: "IPv4 options beyond the end of the frame go on as they came",
        hooks: &Hook::ALL,
        families: &[Family::V4],
        protocols: TRANSPORTS,
        script: |case| {
            let mut frame = case.opening(case.client(), case.vip()).bytes();
            frame[ETHERNET] = 0x4f;
            frame.truncate(ETHERNET + 20 + transport(case.protocol));
            Script::new(case.balanced(2)).step(Step::raw(case.hook, frame).flows(&[]))
        },
    },
    Row {
        name: "IPv6 headers of another version go on as they came",
        hooks: &Hook::ALL,
        families: &[Family::V6],
        protocols: TRANSPORTS,
        script: |case| {
            let frame = case.opening(case.client(), case.vip()).bytes();
            let mut script = Script::new(case.balanced(2));
            for version in [0x00, 0x40, 0x50, 0xf0] {
                let mut frame = frame.clone();
                frame[ETHERNET] = version;
                script = script.step(Step::raw(case.hook, frame).flows(&[]));
            }
            script
        },
    },
    Row {
        name: "extension headers beyond the end of the frame go on as they came",
        hooks: &Hook::ALL,
        families: &[Family::V6],
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let mut frame = packet.extension(60, &[1, 4, 0, 0, 0, 0]).bytes();
            let mut script = Script::new(case.balanced(2));
            let cut = frame[..ETHERNET + 42].to_vec();
            script = script.step(Step::raw(case.hook, cut).flows(&[]));
            frame[ETHERNET + 41] = 0xff;
            script.step(Step::raw(case.hook, frame).flows(&[]))
        },
    },
    Row {
        name: "v4-mapped addresses on the wire do not pass for IPv4",
        hooks: &Hook::ALL,
        families: &[Family::V6],
        protocols: TRANSPORTS,
        script: |case| {
            let mapped = |case: super::super::script::Case, at: std::net::SocketAddr| {
                let std::net::IpAddr::V4(v4) = at.ip() else {
                    panic!("{case:?} has no IPv4 address");
                };
                std::net::SocketAddr::new(v4.to_ipv6_mapped().into(), at.port())
            };
            let v4 = super::super::script::Case {
                family: Family::V4,
                ..case
            };
            let (client, vip) = (mapped(v4, v4.client()), mapped(v4, v4.vip()));
            Script::new(v4.balanced(2))
                .step(Step::new(case.hook, &case.opening(client, vip)).flows(&[]))
                .step(Step::new(case.hook, &case.opening(case.client(), vip)).flows(&[]))
        },
    },
    Row {
        name: "other EtherTypes go on as they came, tagged frames too",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let frame = case.opening(case.client(), case.vip()).bytes();
            let mut script = Script::new(case.balanced(2));
            // ARP, MPLS, LLDP, and the other family's.
            for ethertype in [0x0806, 0x8847, 0x88cc, case.family.pick(0x86dd_u16, 0x0800)] {
                let mut frame = frame.clone();
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                script = script.step(Step::raw(case.hook, frame).flows(&[]));
            }
            for tag in [0x8100_u16, 0x88a8] {
                let tag = [tag.to_be_bytes(), [0, 5]].concat();
                let frame = [&frame[..12], &tag, &frame[12..]].concat();
                script = script.step(Step::raw(case.hook, frame).flows(&[]));
            }
            script
        },
    },
    Row {
        name: "padding behind a short packet stays where it is",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.client(), case.backend(1));
            let padded = |mut frame: Vec<u8>| {
                frame.extend([0xee; 9]);
                frame
            };
            let mut step = Step::raw(case.hook, padded(packet.bytes()));
            step.becomes = Some(padded(becomes.bytes()));
            Script::new(case.balanced(1)).step(step.counts(PacketEvent::Opened))
        },
    },
    Row {
        name: "errors that embed nothing of ours, or too little, go on as they came",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let sent = case.answering(case.vip(), case.client());
            let flow = case.to_local().proven();
            let kind = case.family.pick((3, 3), (1, 4));
            let quoted = sent.ip();
            let header = case.family.pick(20, 40);
            let mut script = Script::new(case.balanced(1).flow(&flow, 0, 0));
            for len in (0..header + 4).step_by(3) {
                let error = super::super::packet::Packet::error(
                    case.router(),
                    kind,
                    0,
                    case.vip().ip(),
                    &quoted[..len],
                );
                script = script.step(Step::new(case.hook, &error).flows(&[flow]));
            }
            script
        },
    },
];
