//! Fragments: XDP leaves them all; TC gives later ones the ports of the first.

use lb_ebpf::abi::{FrontendKind, PacketEvent, Protocol};

use super::{
    super::{
        packet::Packet,
        script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
        topology::{Family, GATEWAY, NODE, Net, Port},
        world::World,
    },
    scenes::NODE_PORT,
};

const WITHOUT_SCTP: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];

/// A first packet of 1,000 bytes of payload.
fn whole(case: Case) -> Packet {
    case.opening(case.client(), case.vip())
        .payload(&[0x33; 1000])
}

fn first(packet: Packet) -> Packet {
    packet.piece(77, 0, 512, true)
}

fn second(packet: Packet) -> Packet {
    packet.piece(77, 512, 256, true)
}

fn last(packet: Packet) -> Packet {
    packet.piece(77, 768, 1000, false)
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an atomic fragment is a whole packet",
        hooks: &Hook::FROM_OUTSIDE,
        families: &[Family::V6],
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let packet = packet.extension(44, &[0, 0, 0, 0, 0, 9]);
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "XDP leaves fragments alone",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pieces = [first(whole(case)), second(whole(case)), last(whole(case))];
            let script = Script::new(case.balanced(1));
            pieces.iter().fold(script, |script, piece| {
                script.step(Step::new(case.hook, piece).flows(&[]))
            })
        },
    },
    Row {
        name: "later fragments go where the first went, through the stack",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: WITHOUT_SCTP,
        script: |case| {
            let to = |packet: Packet| packet.between(case.client(), case.backend(1));
            Script::new(case.balanced(1))
                .step(
                    Step::new(case.hook, &first(whole(case)))
                        .passes_as(&first(to(whole(case))))
                        .counts(PacketEvent::Opened)
                        .flows(&[case.to_local()]),
                )
                .step(Step::new(case.hook, &last(whole(case))).passes_as(&last(to(whole(case)))))
                .step(
                    Step::new(case.hook, &second(whole(case)))
                        .passes_as(&second(to(whole(case))))
                        .flows(&[case.to_local()]),
                )
        },
    },
    Row {
        name: "later fragments go where the first went, to a remote backend",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: WITHOUT_SCTP,
        script: |case| {
            let to = |packet: Packet| packet.between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2))
                .step(
                    Step::new(case.hook, &first(whole(case)))
                        .leaves(Port::Second, 2, &first(to(whole(case))))
                        .counts(PacketEvent::Opened),
                )
                .step(Step::new(case.hook, &second(whole(case))).leaves(
                    Port::Second,
                    2,
                    &second(to(whole(case))),
                ))
                .step(Step::new(case.hook, &last(whole(case))).leaves(
                    Port::Second,
                    2,
                    &last(to(whole(case))),
                ))
        },
    },
    Row {
        name: "fragments of a reply are changed as they leave",
        hooks: &[Hook::Egress, Hook::PodEgress],
        families: BOTH,
        protocols: WITHOUT_SCTP,
        script: |case| {
            let flow = case.to_local().proven();
            let answer = case
                .answering(case.backend(1), case.client())
                .payload(&[0x44; 1000]);
            let to = |packet: Packet| packet.between(case.vip(), case.client());
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(
                    Step::new(case.hook, &first(answer.clone()))
                        .passes_as(&first(to(answer.clone()))),
                )
                .step(
                    Step::new(case.hook, &last(answer.clone()))
                        .passes_as(&last(to(answer.clone()))),
                )
        },
    },
    Row {
        name: "a later fragment before the first is left alone",
        hooks: &[Hook::Ingress, Hook::PodIngress, Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_local().proven();
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(Step::new(case.hook, &last(whole(case))).flows(&[flow]))
        },
    },
    Row {
        name: "a later fragment before the first is counted where it is for this node",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .frontend(case.any(NODE_PORT), FrontendKind::NodePort)
                .backend(case.backend(1));
            let own = Net::Uplink.at(case.family, NODE, NODE_PORT);
            let packet = whole(case).between(case.client(), own);
            Script::new(World::node().with(&service))
                .step(Step::new(case.hook, &last(packet)).counts(PacketEvent::FragmentBeforeFirst))
        },
    },
    Row {
        name: "another datagram's fragment is not taken for this one's",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: WITHOUT_SCTP,
        script: |case| {
            let to = |packet: Packet| packet.between(case.client(), case.backend(1));
            let stray = whole(case).piece(78, 512, 256, true);
            Script::new(case.balanced(1))
                .step(
                    Step::new(case.hook, &first(whole(case)))
                        .passes_as(&first(to(whole(case))))
                        .counts(PacketEvent::Opened),
                )
                .step(Step::new(case.hook, &stray))
        },
    },
    Row {
        name: "fragments of other traffic go on, and are not remembered",
        hooks: &[
            Hook::Ingress,
            Hook::Egress,
            Hook::PodIngress,
            Hook::PodEgress,
        ],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let other = Net::Vips.at(case.family, 77, 80);
            let packet = whole(case).between(case.client(), other);
            Script::new(case.balanced(1))
                .step(Step::new(case.hook, &first(packet.clone())))
                .step(Step::new(case.hook, &last(packet)))
        },
    },
    Row {
        name: "a fragmented SCTP packet whose ports would change cannot be translated",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Sctp],
        script: |case| {
            Script::new(case.balanced(1)).step(
                Step::new(case.hook, &first(whole(case)))
                    .drops()
                    .counts(PacketEvent::Opened)
                    .counts(PacketEvent::RewriteFailed),
            )
        },
    },
    Row {
        name: "nobody is refused because of a later fragment",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let refusal = super::refusing::refusal(&first(whole(case)));
            Script::new(World::node().with(&case.service()))
                .step(
                    Step::new(case.hook, &first(whole(case)))
                        .leaves(Port::Uplink, GATEWAY, &refusal)
                        .counts(PacketEvent::Refused),
                )
                .step(
                    Step::new(case.hook, &last(whole(case)))
                        .drops()
                        .counts(PacketEvent::Refused),
                )
        },
    },
    Row {
        name: "packets with IPv6 extension headers are refused without a word",
        hooks: &[Hook::Ingress],
        families: &[Family::V6],
        protocols: &[Protocol::Udp],
        script: |case| {
            let extended = whole(case).extension(60, &[1, 4, 0, 0, 0, 0]);
            Script::new(World::node().with(&case.service())).step(
                Step::new(case.hook, &extended)
                    .drops()
                    .counts(PacketEvent::Refused),
            )
        },
    },
];
