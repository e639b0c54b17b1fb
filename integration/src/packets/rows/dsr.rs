//! Direct server return, at the node that forwards.

pub(super) mod receiving;

use lb_ebpf::abi::{FrontendFlags, FrontendKind, PacketEvent, Protocol};

use super::{
    super::{
        flow::{Flow, Path},
        packet::Packet,
        script::{BOTH, Case, Hook, Row, Script, Step},
        topology::{GATEWAY, Net, Port},
        world::{NOW, SERVICE, Service, World},
    },
    scenes::NODE_PORT,
};

const NO_SCTP: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];

/// A DSR service with a backend at `node`.
fn direct(case: Case, node: u8) -> World {
    let service = case
        .service()
        .frontend(case.any(NODE_PORT), FrontendKind::NodePort)
        .flags(FrontendFlags::DSR)
        .backend(case.backend(node));
    World::node().with(&service)
}

/// `packet` as the node sends it to the backend at node 2.
fn encapsulated(case: Case, packet: &Packet) -> Packet {
    let hop = packet.clone().hop();
    hop.inside(case.snat().ip(), case.backend(2).ip())
}

fn forwarded(case: Case) -> Flow {
    let from = (case.client(), case.vip());
    // What the outer header says; ports are those of the client and the backend.
    let outer = std::net::SocketAddr::new(case.snat().ip(), case.client().port());
    Flow::new(
        case.protocol,
        from,
        (outer, case.backend(2)),
        Path::ENCAPSULATED,
    )
}

/// A payload that makes an IP packet of `len` bytes out of `packet`.
fn filled(packet: Packet, len: usize) -> Packet {
    let payload = len - packet.clone().payload(&[]).ip().len();
    packet.payload(&vec![0x5a; payload])
}

/// A router's error about what `quoted` is the start of.
fn too_big(case: Case, to: std::net::SocketAddr, quoted: &[u8]) -> Packet {
    let kind = case.family.pick((3, 4), (2, 0));
    Packet::error(case.router(), kind, 1300, to.ip(), quoted)
}

/// The start of a packet as an error quotes it: header and eight bytes.
fn quote(packet: &Packet) -> Vec<u8> {
    let header = if packet.src.is_ipv4() { 20 } else { 40 };
    packet.ip()[..header + 8].to_vec()
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a packet for a remote backend leaves inside another",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let flow = forwarded(case);
            let leaves = |packet: &Packet| {
                Step::new(case.hook, packet)
                    .leaves(Port::Second, 2, &encapsulated(case, packet))
                    .flows(&[flow])
            };
            let data = case.proving(case.client(), case.vip());
            Script::new(direct(case, 2))
                .step(leaves(&packet).counts(PacketEvent::Opened))
                .step(leaves(&data))
                .step(leaves(&data).after(1))
        },
    },
    Row {
        name: "mid-stream packets are forwarded without state",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let data = case.proving(case.client(), case.vip());
            Script::new(direct(case, 2)).step(
                Step::new(case.hook, &data)
                    .leaves(Port::Second, 2, &encapsulated(case, &data))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "mid-stream packets are the kernel's during take-over",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let data = case.proving(case.client(), case.vip());
            let world = direct(case, 2).configured(|config| config.takeover_until = NOW + 10);
            Script::new(world).step(
                Step::new(case.hook, &data)
                    .counts(PacketEvent::MidStream)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "mid-stream packets for a local backend are the kernel's",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let data = case.proving(case.client(), case.vip());
            Script::new(direct(case, 1)).step(
                Step::new(case.hook, &data)
                    .counts(PacketEvent::MidStream)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "a local backend needs no tunnel",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            Script::new(direct(case, 1)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_local()]),
            )
        },
    },
    Row {
        name: "pods need no tunnel",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            let packet = case.opening(pod, case.vip());
            Script::new(direct(case, 2)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(pod, case.backend(2)))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "the tunnel needs room: the client is told of less",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let room = 1500 - case.family.pick(20, 40);
            let (kind, header) = case.family.pick(((3, 4), 20), ((2, 0), 40));
            let fits = filled(case.proving(case.client(), case.vip()), room as usize);
            let large = filled(case.proving(case.client(), case.vip()), room as usize + 1);
            let quoted = &large.ip()[..header + 8];
            let error = Packet::error(case.vip().ip(), kind, room, case.client().ip(), quoted);
            let flow = forwarded(case);
            Script::new(direct(case, 2).flow(&flow, 0, 1))
                .step(Step::new(case.hook, &fits).leaves(
                    Port::Second,
                    2,
                    &encapsulated(case, &fits),
                ))
                .step(
                    Step::new(case.hook, &large)
                        .leaves(Port::Uplink, GATEWAY, &error)
                        .counts(PacketEvent::TooBig),
                )
        },
    },
    Row {
        name: "an error about a reply takes the way of the client's packets",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: NO_SCTP,
        script: |case| {
            let reply = case.answering(case.vip(), case.client());
            let error = too_big(case, case.vip(), &quote(&reply));
            let step = Step::new(case.hook, &error);
            let flow = forwarded(case);
            Script::new(direct(case, 2).flow(&flow, 0, 1)).step(
                step.leaves(Port::Second, 2, &encapsulated(case, &error))
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a UDP flow through a tunnel goes elsewhere when its backend is gone",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let flow = forwarded(case);
            let gone = Service::new(SERVICE, case.protocol).backend(case.backend(2));
            let other = Net::Pods(2).at(case.family, 6, 8080);
            let service = case.service().flags(FrontendFlags::DSR).backend(other);
            let world = World::node().with(&gone).with(&service).flow(&flow, 0, 0);
            let world = world.backend(0, |backend| backend.flags = 0);
            let packet = case.opening(case.client(), case.vip());
            let tunnel = packet.clone().hop().inside(case.snat().ip(), other.ip());
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &tunnel)
                    .counts(PacketEvent::Opened),
            )
        },
    },
];
