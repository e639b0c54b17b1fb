//! Frontends without a backend that the packet may have, and clients that may have none.

use lb_ebpf::{
    abi::{FrontendFlags, PacketEvent, Protocol},
    parse::tcp::{ACK, RST},
};

use super::super::{
    packet::{ARRIVING, Body, Packet},
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{Family, GATEWAY, NODE, Net, Port},
    world::{SERVICE, World},
};

/// What kube-proxy's REJECT says to the sender of `packet`.
pub(super) fn refusal(packet: &Packet) -> Packet {
    if let Body::Tcp { seq, .. } = packet.body {
        let mut reset = Packet::tcp(packet.dst, packet.src, RST | ACK, 0, seq + 1);
        if let Body::Tcp { window, .. } = &mut reset.body {
            *window = 0;
        }
        reset.id = 0;
        return reset;
    }
    let v4 = packet.src.is_ipv4();
    let kind = if v4 { (3, 3) } else { (1, 4) };
    let header = match (v4, packet.piece.is_some()) {
        (true, _) => 20 + packet.ip_options.len(),
        (false, false) => 40,
        // The fragment header is quoted too.
        (false, true) => 48,
    };
    let quoted = header + 8;
    let (from, to) = (packet.dst.ip(), packet.src.ip());
    Packet::error(from, kind, 0, to, &packet.ip()[..quoted])
}

/// A service without any endpoint.
fn empty(case: Case) -> World {
    World::node().with(&case.service())
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "without any endpoint a client from outside is refused, by TC",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            Script::new(empty(case))
                .step(
                    Step::new(Hook::Xdp, &packet)
                        .counts(PacketEvent::LeftToTc)
                        .service([0, 0, 0, 0])
                        .flows(&[]),
                )
                .step(
                    Step::new(Hook::Ingress, &packet)
                        .leaves(Port::Uplink, GATEWAY, &refusal(&packet))
                        .counts(PacketEvent::Refused)
                        .service([0, 0, 1, 0])
                        .flows(&[]),
                )
        },
    },
    Row {
        name: "a refused pod hears of it",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 5, 40_000);
            let packet = case.opening(pod, case.vip());
            Script::new(empty(case)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Pods, 5, &refusal(&packet))
                    .counts(PacketEvent::Refused),
            )
        },
    },
    Row {
        name: "a refused process of this host hears of it",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let packet = case.opening(own, case.vip());
            let swapped = (ARRIVING.1, ARRIVING.0);
            Script::new(empty(case)).step(
                Step::new(case.hook, &packet)
                    .bounces_as(&refusal(&packet).macs(swapped))
                    .counts(PacketEvent::Refused),
            )
        },
    },
    Row {
        name: "a refusal embeds IPv4 options",
        hooks: &[Hook::Ingress],
        families: &[Family::V4],
        protocols: &[Protocol::Udp, Protocol::Sctp],
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let packet = packet.ip_options(&[0x94, 4, 0, 0]);
            Script::new(empty(case)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Uplink, GATEWAY, &refusal(&packet))
                    .counts(PacketEvent::Refused),
            )
        },
    },
    Row {
        name: "a SYN with options and data is refused for all that it sent",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let packet = case
                .opening(case.client(), case.vip())
                .tcp_options(&[2, 4, 5, 0xb4, 1, 1, 4, 2])
                .payload(b"fast open");
            let mut reset = refusal(&packet);
            if let Body::Tcp { ack, .. } = &mut reset.body {
                *ack += 9;
            }
            Script::new(empty(case)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Uplink, GATEWAY, &reset)
                    .counts(PacketEvent::Refused),
            )
        },
    },
    Row {
        name: "refusals beyond the budget of a tick are drops",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let refused = Step::new(case.hook, &packet)
                .leaves(Port::Uplink, GATEWAY, &refusal(&packet))
                .counts(PacketEvent::Refused);
            let limited = Step::new(case.hook, &packet)
                .drops()
                .counts(PacketEvent::Refused)
                .counts(PacketEvent::RefusalLimited);
            Script::new(empty(case).configured(|config| config.rejects_per_tick = 2))
                .step(refused.clone())
                .step(refused.clone())
                .step(limited.clone())
                .step(limited)
                .step(refused.after(1))
        },
    },
    Row {
        name: "a policy that leaves no endpoint drops, without a word",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case.service().flags(FrontendFlags::DROP);
            let packet = case.opening(case.client(), case.vip());
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::NoLocalEndpoint)
                    .service([0, 0, 0, 1])
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "with policy Local and no local endpoint only clients outside are dropped",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .backend(case.backend(2))
                .external(FrontendFlags::LOCAL_SET | FrontendFlags::DROP, &[]);
            let packet = case.opening(case.client(), case.vip());
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            let from_pod = case.opening(pod, case.vip());
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let from_host = case.opening(own, case.vip());
            Script::new(World::node().with(&service))
                .step(
                    Step::new(case.hook, &packet)
                        .drops()
                        .counts(PacketEvent::NoLocalEndpoint)
                        .flows(&[]),
                )
                .step(
                    Step::new(Hook::PodIngress, &from_pod)
                        .passes_as(&from_pod.clone().between(pod, case.backend(2)))
                        .counts(PacketEvent::Opened),
                )
                .step(
                    Step::new(Hook::Egress, &from_host)
                        .leaves(
                            Port::Second,
                            2,
                            &from_host.clone().between(own, case.backend(2)),
                        )
                        .counts(PacketEvent::Opened),
                )
        },
    },
    Row {
        name: "with policy Local clients outside get a local endpoint, and keep their address",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .backend(case.backend(2))
                .external(FrontendFlags::LOCAL_SET, &[case.backend(1)]);
            let packet = case.opening(case.client(), case.vip());
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_local()]),
            )
        },
    },
    Row {
        name: "source ranges admit who is in them, and nobody else",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .flags(FrontendFlags::SOURCE_RANGES)
                .backend(case.backend(1));
            let bits = case.family.pick(32, 128);
            let world = World::node()
                .with(&service)
                .admit(SERVICE, case.client().ip(), bits)
                // Another service's range is no help.
                .admit(SERVICE + 1, case.stranger().ip(), bits);
            let inside = case.opening(case.client(), case.vip());
            let outside = case.opening(case.stranger(), case.vip());
            Script::new(world)
                .step(
                    Step::new(case.hook, &outside)
                        .drops()
                        .counts(PacketEvent::SourceRange)
                        .flows(&[]),
                )
                .step(
                    Step::new(case.hook, &inside)
                        .passes_as(&inside.clone().between(case.client(), case.backend(1)))
                        .counts(PacketEvent::Opened),
                )
        },
    },
    Row {
        name: "a range is a prefix",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let service = case
                .service()
                .flags(FrontendFlags::SOURCE_RANGES)
                .backend(case.backend(1));
            // The client is host 7, the stranger host 8.
            let bits = case.family.pick(29, 125);
            let net = Net::Clients.host(case.family, 0);
            let world = World::node().with(&service).admit(SERVICE, net, bits);
            let inside = case.opening(case.client(), case.vip());
            let outside = case.opening(case.stranger(), case.vip());
            Script::new(world)
                .step(
                    Step::new(case.hook, &outside)
                        .drops()
                        .counts(PacketEvent::SourceRange),
                )
                .step(
                    Step::new(case.hook, &inside)
                        .passes_as(&inside.clone().between(case.client(), case.backend(1)))
                        .counts(PacketEvent::Opened),
                )
        },
    },
    Row {
        name: "who is not admitted is not even refused",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case.service().flags(FrontendFlags::SOURCE_RANGES);
            let packet = case.opening(case.client(), case.vip());
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::SourceRange),
            )
        },
    },
];
