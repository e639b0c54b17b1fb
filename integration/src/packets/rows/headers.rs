//! Headers that are rare but right.

use lb_ebpf::abi::{PacketEvent, Protocol};

use super::super::{
    packet::Body,
    script::{BOTH, Hook, Row, Script, Step, TRANSPORTS},
    topology::{Family, Port},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "UDP without a checksum stays without",
        hooks: &Hook::FROM_OUTSIDE,
        families: &[Family::V4],
        protocols: &[Protocol::Udp],
        script: |case| {
            let mut packet = case.opening(case.client(), case.vip());
            packet.body = Body::Udp(false);
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "IPv4 options and IPv6 extension headers are no obstacle",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let mut packet = case.opening(case.client(), case.vip());
            packet = match case.family {
                Family::V4 => packet.ip_options(&[0x94, 4, 0, 0, 1, 1, 1, 0]),
                Family::V6 => packet
                    .extension(0, &[5, 2, 0, 0, 1, 0])
                    .extension(60, &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            };
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a chain of more than four extension headers is left alone",
        hooks: &Hook::ALL,
        families: &[Family::V6],
        protocols: &[Protocol::Tcp],
        script: |case| {
            let mut packet = case.opening(case.client(), case.vip());
            for _ in 0..5 {
                packet = packet.extension(60, &[1, 4, 0, 0, 0, 0]);
            }
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .counts(PacketEvent::ExtensionHeaders)
                    .flows(&[]),
            )
        },
    },
];
