//! Direct server return, at the node that receives.

use std::net::SocketAddr;

use lb_ebpf::{
    abi::{FrontendFlags, FrontendKind, PacketEvent, Protocol},
    parse::tcp::{ACK, SYN},
};

use super::{
    super::{
        super::{
            flow::{Flow, Path},
            packet::{Body, Packet},
            script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
            topology::{Family, NODE, Net},
            world::{SERVICE, Service},
        },
        scenes::NODE_PORT,
    },
    NO_SCTP, direct, quote, too_big,
};

/// `packet` as another node sends it to a backend here.
fn arriving(case: Case, packet: &Packet) -> Packet {
    let other = Net::Uplink.host(case.family, NEIGHBOURING);
    packet.inside(other, case.backend(1).ip())
}

/// Host number of another node.
const NEIGHBOURING: u8 = 11;

fn received(case: Case, at: SocketAddr) -> Flow {
    let from = (case.client(), at);
    let to = (case.client(), case.backend(1));
    Flow::new(case.protocol, from, to, Path::DECAPSULATED)
}

/// A packet out of a tunnel opens its flow anew, in place of `old`.
fn taken_up_anew(case: Case, old: &Flow) -> Script {
    let packet = case.proving(case.client(), case.vip());
    Script::new(direct(case, 1).flow(&old.proven(), 0, 0)).step(
        Step::new(case.hook, &arriving(case, &packet))
            .passes_as(&packet.clone().between(case.client(), case.backend(1)))
            .counts(PacketEvent::Opened),
    )
}

/// TCP options with a segment size: at an even offset, or after a NOP.
fn segment_size(size: u16, odd: bool) -> Vec<u8> {
    let [a, b] = size.to_be_bytes();
    if odd {
        vec![1, 2, 4, a, b, 4, 2, 0]
    } else {
        vec![2, 4, a, b, 4, 2, 1, 1]
    }
}

pub(in super::super) const ROWS: &[Row] = &[
    Row {
        name: "a packet in a tunnel to a backend here is for that backend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).hops(61);
            let becomes = packet.clone().between(case.client(), case.backend(1));
            let flow = received(case, case.vip());
            let answer = case.answering(case.backend(1), case.client());
            let proof = case.proving(case.client(), case.vip());
            let goes_on = proof.clone().between(case.client(), case.backend(1));
            Script::new(direct(case, 1))
                .step(
                    Step::new(case.hook, &arriving(case, &packet))
                        .passes_as(&becomes)
                        .counts(PacketEvent::Opened)
                        .flows(&[flow]),
                )
                .step(
                    Step::new(Hook::Egress, &answer)
                        .passes_as(&answer.clone().between(case.vip(), case.client()))
                        .flows(&[flow.answered()]),
                )
                .step(
                    Step::new(case.hook, &arriving(case, &proof))
                        .passes_as(&goes_on)
                        .counts(PacketEvent::Established)
                        .flows(&[flow.proven()]),
                )
        },
    },
    Row {
        name: "a NodePort at the address of the node that forwards is known here",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let there = Net::Uplink.at(case.family, NEIGHBOURING, NODE_PORT);
            let packet = case.opening(case.client(), there);
            let answer = case.answering(case.backend(1), case.client());
            Script::new(direct(case, 1))
                .step(
                    Step::new(case.hook, &arriving(case, &packet))
                        .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                        .counts(PacketEvent::Opened)
                        .flows(&[received(case, there)]),
                )
                .step(
                    Step::new(Hook::Egress, &answer)
                        .passes_as(&answer.clone().between(there, case.client())),
                )
        },
    },
    Row {
        name: "a flow that moves here mid-stream is taken up",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let data = case.proving(case.client(), case.vip()).payload(b"go on");
            Script::new(direct(case, 1)).step(
                Step::new(case.hook, &arriving(case, &data))
                    .passes_as(&data.clone().between(case.client(), case.backend(1)))
                    .counts(PacketEvent::Opened)
                    .flows(&[received(case, case.vip())]),
            )
        },
    },
    Row {
        name: "a tunnel to anything but a backend of a DSR service is foreign",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let plain = Net::Vips.at(case.family, 5, 80);
            let other = Service::new(SERVICE + 1, case.protocol)
                .frontend(plain, FrontendKind::LoadBalancer)
                .backend(Net::Pods(1).at(case.family, 6, 8080));
            let from = Net::Uplink.host(case.family, NEIGHBOURING);
            let packet = case.opening(case.client(), case.vip());
            let unserved = case.opening(case.client(), Net::Vips.at(case.family, 1, 81));
            let not_direct = case.opening(case.client(), plain);
            let mut script = Script::new(direct(case, 1).with(&other));
            for tunnel in [
                // To a pod that is no backend, to a backend of another service, to the node.
                packet.inside(from, Net::Pods(1).host(case.family, 7)),
                packet.inside(from, Net::Pods(1).host(case.family, 6)),
                packet.inside(from, Net::Uplink.host(case.family, NODE)),
                // To a backend, with something that is not for its service.
                unserved.inside(from, case.backend(1).ip()),
                not_direct.inside(from, case.backend(1).ip()),
                not_direct.inside(from, Net::Pods(1).host(case.family, 6)),
            ] {
                script = script.step(
                    Step::new(case.hook, &tunnel)
                        .counts(PacketEvent::ForeignTunnel)
                        .flows(&[]),
                );
            }
            script
        },
    },
    Row {
        name: "a service that is not direct any more takes nothing out of tunnels",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let mut world = direct(case, 1);
            for (key, entry) in &mut world.services {
                entry.flags &= !FrontendFlags::DSR;
                *entry = entry.sealed(key);
            }
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                Step::new(case.hook, &arriving(case, &packet))
                    .counts(PacketEvent::ForeignTunnel)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "the backend that the sender chose replaces another one of the same flow",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let other = Net::Pods(1).at(case.family, 6, 8080);
            let from = (case.client(), case.vip());
            let old = Flow::new(case.protocol, from, (case.client(), other), Path::STACK);
            taken_up_anew(case, &old)
        },
    },
    Row {
        name: "a flow that was sent past the stack is taken up anew out of a tunnel",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let from = (case.client(), case.vip());
            let to = (case.snat(), case.backend(1));
            let old = Flow::new(case.protocol, from, to, Path::SNAT);
            taken_up_anew(case, &old)
        },
    },
    Row {
        name: "a tunnel to a slot that is not that backend any more is foreign",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            Script::new(direct(case, 1).backend(0, |slot| slot.flags = 0)).step(
                Step::new(case.hook, &arriving(case, &packet))
                    .counts(PacketEvent::ForeignTunnel)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "tunnels with what no service has inside are not looked into",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let from = Net::Uplink.host(case.family, NEIGHBOURING);
            let to = case.backend(1).ip();
            let ping = Packet::new(
                case.client(),
                case.vip(),
                Body::Icmp(case.family.pick(8, 128), 0, 1),
            );
            let twice = case
                .opening(case.client(), case.vip())
                .inside(from, to)
                .inside(from, to);
            Script::new(direct(case, 1))
                .step(Step::new(case.hook, &ping.inside(from, to)).flows(&[]))
                .step(Step::new(case.hook, &twice).flows(&[]))
        },
    },
    Row {
        name: "tunnels are received where packets from outside come in, and nowhere else",
        hooks: &[Hook::Egress, Hook::PodIngress, Hook::PodEgress],
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let packet = arriving(case, &case.opening(case.client(), case.vip()));
            Script::new(direct(case, 1)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "the segment size that a backend offers leaves room for the tunnel",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = received(case, case.vip());
            let most = case.family.pick(1500 - 60, 1500 - 100);
            let offer = |size, odd| {
                Packet::tcp(case.backend(1), case.client(), SYN | ACK, 5000, 1001)
                    .tcp_options(&segment_size(size, odd))
            };
            let mut script = Script::new(direct(case, 1).flow(&flow, 0, 0));
            for (size, odd, seen) in [
                (1460, false, most),
                (1460, true, most),
                (8960, true, most),
                (most, false, most),
                (536, true, 536),
            ] {
                let seen = offer(seen, odd).between(case.vip(), case.client());
                script = script.step(Step::new(case.hook, &offer(size, odd)).passes_as(&seen));
            }
            let without = Packet::tcp(case.backend(1), case.client(), SYN | ACK, 5000, 1001);
            let step = Step::new(case.hook, &without);
            script.step(step.passes_as(&without.clone().between(case.vip(), case.client())))
        },
    },
    Row {
        name: "a segment size is found behind other options, and not behind their end",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = received(case, case.vip());
            let [a, b] = case.family.pick(1440_u16, 1400).to_be_bytes();
            let timestamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
            let sack = [4, 2];
            let behind = |size: [u8; 2]| [&sack[..], &timestamps, &[2, 4], &size].concat();
            let mut script = Script::new(direct(case, 1).flow(&flow, 0, 0));
            let large = 1460_u16.to_be_bytes();
            for (flags, offered, seen) in [
                (SYN | ACK, behind(large), behind([a, b])),
                // The end of options; a length that cannot be.
                (SYN | ACK, vec![0, 2, 2, 4, 5, 180, 0, 0], vec![]),
                (SYN | ACK, vec![9, 1, 2, 4, 5, 180, 1, 1], vec![]),
                (SYN | ACK, vec![9, 0, 2, 4, 5, 180, 1, 1], vec![]),
                // Only what opens a connection offers a size.
                (ACK, vec![2, 4, 5, 180], vec![]),
            ] {
                let seen = if seen.is_empty() { &offered } else { &seen };
                let packet = |options: &[u8]| {
                    Packet::tcp(case.backend(1), case.client(), flags, 5000, 1001)
                        .tcp_options(options)
                };
                let becomes = packet(seen).between(case.vip(), case.client());
                let step = Step::new(case.hook, &packet(&offered));
                script = script.step(step.passes_as(&becomes));
            }
            script
        },
    },
    Row {
        name: "other flows keep their segment size",
        hooks: &[Hook::Egress],
        families: &[Family::V4],
        protocols: &[Protocol::Tcp],
        script: |case| {
            let answer = Packet::tcp(case.backend(1), case.client(), SYN | ACK, 5000, 1001)
                .tcp_options(&segment_size(1460, false));
            Script::new(case.balanced(1).flow(&case.to_local(), 0, 0)).step(
                Step::new(case.hook, &answer)
                    .passes_as(&answer.clone().between(case.vip(), case.client())),
            )
        },
    },
    Row {
        name: "a fragment of a tunnel is left to the kernel",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let packet = case.opening(case.client(), case.vip()).payload(&[1; 600]);
            let tunnel = arriving(case, &packet).piece(9, 0, 400, true);
            Script::new(direct(case, 1)).step(Step::new(case.hook, &tunnel).flows(&[]))
        },
    },
    Row {
        name: "an error about a reply that arrives in a tunnel reaches the backend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let reply = case.answering(case.vip(), case.client());
            let error = too_big(case, case.vip(), &quote(&reply));
            let sent = reply.clone().between(case.backend(1), case.client());
            let mut quoted = quote(&sent);
            if case.protocol == Protocol::Udp {
                // The embedded checksum stays as it was.
                let at = quoted.len() - 2;
                quoted[at..].copy_from_slice(&quote(&reply)[at..]);
            }
            let told = too_big(case, case.backend(1), &quoted);
            let flow = received(case, case.vip()).proven();
            Script::new(direct(case, 1).flow(&flow, 0, 0)).step(
                Step::new(case.hook, &arriving(case, &error))
                    .passes_as(&told)
                    .flows(&[flow]),
            )
        },
    },
];
