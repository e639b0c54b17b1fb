//! Hop limits and path MTUs.

use lb_ebpf::abi::{PacketEvent, Protocol};

use super::super::{
    packet::{Body, Packet},
    script::{BOTH, Hook, Row, Script, Step, TRANSPORTS},
    topology::{Family, GATEWAY, NARROW, NEIGHBOUR, Port},
};

/// The ICMP error of the node about `packet`.
fn error(packet: &Packet, v4: (u8, u8), v6: (u8, u8), second: u32) -> Packet {
    let kind = if packet.src.is_ipv4() { v4 } else { v6 };
    let header = if packet.src.is_ipv4() { 20 } else { 40 };
    let transport = if let Body::Tcp { .. } = packet.body {
        20
    } else {
        8
    };
    let (from, to) = (packet.dst.ip(), packet.src.ip());
    let quoted = &packet.ip()[..header + transport];
    Packet::error(from, kind, second, to, quoted)
}

/// A payload that makes an IP packet of `len` bytes out of `packet`.
fn filled(packet: Packet, len: usize) -> Packet {
    let payload = len - packet.clone().payload(&[]).ip().len();
    packet.payload(&vec![0x5a; payload])
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a packet that has used up its hops is not forwarded",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).hops(1);
            let error = error(&packet, (11, 0), (3, 0), 0);
            Script::new(case.balanced(2))
                .step(
                    Step::new(Hook::Xdp, &packet)
                        .counts(PacketEvent::Opened)
                        .counts(PacketEvent::LeftToTc),
                )
                .step(
                    Step::new(Hook::Ingress, &packet)
                        .leaves(Port::Uplink, GATEWAY, &error)
                        .counts(PacketEvent::HopLimit),
                )
        },
    },
    Row {
        name: "the last hop but one is enough",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).hops(2);
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "hops do not count where the stack forwards",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).hops(1);
            let becomes = packet.clone().between(case.client(), case.backend(1));
            Script::new(case.balanced(1)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a packet as large as the path goes through",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.proving(case.client(), case.vip());
            let packet = filled(packet, NARROW as usize);
            let becomes = packet.clone().between(case.snat(), case.backend(6)).hop();
            let flow = case.to_remote(6).proven();
            Script::new(case.balanced(6).flow(&flow, 0, 1))
                .step(Step::new(case.hook, &packet).leaves(Port::Uplink, NEIGHBOUR, &becomes))
        },
    },
    Row {
        name: "the sender of a larger one is told how large it may be",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.proving(case.client(), case.vip());
            let packet = filled(packet, NARROW as usize + 1);
            let error = error(&packet, (3, 4), (2, 0), NARROW);
            let flow = case.to_remote(6).proven();
            Script::new(case.balanced(6).flow(&flow, 0, 1))
                .step(Step::new(Hook::Xdp, &packet).counts(PacketEvent::LeftToTc))
                .step(
                    Step::new(Hook::Ingress, &packet)
                        .leaves(Port::Uplink, GATEWAY, &error)
                        .counts(PacketEvent::TooBig),
                )
        },
    },
    Row {
        name: "a packet that is cut into segments later is not too large",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let packet = case.proving(case.client(), case.vip());
            let packet = filled(packet, NARROW as usize * 2);
            let becomes = packet.clone().between(case.snat(), case.backend(6)).hop();
            let flow = case.to_remote(6).proven();
            Script::new(case.balanced(6).flow(&flow, 0, 1)).step(
                Step::new(case.hook, &packet)
                    .segments(3)
                    .leaves(Port::Uplink, NEIGHBOUR, &becomes),
            )
        },
    },
    Row {
        name: "merged segments that are too long for the length field go their way",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let packet = case.proving(case.client(), case.vip()).unstated();
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            let answer = case.answering(case.backend(2), case.snat()).unstated();
            let returned = answer.clone().between(case.vip(), case.client()).hop();
            let flow = case.to_remote(2).proven();
            Script::new(case.balanced(2).flow(&flow, 0, 1))
                .step(
                    Step::new(case.hook, &packet)
                        .segments(50)
                        .leaves(Port::Second, 2, &becomes),
                )
                .step(
                    Step::new(Hook::Ingress, &answer)
                        .at(Port::Second)
                        .segments(50)
                        .leaves(Port::Uplink, GATEWAY, &returned),
                )
        },
    },
    Row {
        name: "a packet that states no length and is not merged is nobody's",
        hooks: &Hook::FROM_OUTSIDE,
        families: &[Family::V4],
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).unstated();
            Script::new(case.balanced(2)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "the backend is told how large its replies may be",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let answer = filled(case.answering(case.backend(2), case.snat()), 1501);
            let error = error(&answer, (3, 4), (2, 0), 1500);
            let flow = case.to_remote(2).proven();
            Script::new(case.balanced(2).flow(&flow, 0, 1)).step(
                Step::new(case.hook, &answer)
                    .at(Port::Second)
                    .leaves(Port::Second, 2, &error)
                    .counts(PacketEvent::TooBig),
            )
        },
    },
];
