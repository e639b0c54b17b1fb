//! Flows that end, expire, collide, lose a half, or lose their port.

use lb_ebpf::{
    abi::{ConntrackState, FrontendKind, Lifetime, PacketEvent, Protocol},
    parse::tcp::{ACK, FIN, RST},
    tables::FlowState,
};

use super::super::{
    flow::{Flow, Path, tuple},
    packet::Packet,
    script::{BOTH, Case, Hook, Outcome, Row, Script, Step, TRANSPORTS},
    topology::{Net, Port},
    world::{LIFETIMES, SERVICE, Service},
};

/// Whichever way the packet goes: to the local backend.
fn goes_on(case: Case, packet: &Packet) -> Step {
    let becomes = packet.clone().between(case.client(), case.backend(1));
    Step::new(case.hook, packet).passes_as(&becomes)
}

fn comes_back(case: Case, packet: &Packet) -> Step {
    let becomes = packet.clone().between(case.vip(), case.client());
    Step::new(Hook::Egress, packet).passes_as(&becomes)
}

fn leaves(case: Case, packet: &Packet) -> Step {
    let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
    Step::new(case.hook, packet).leaves(Port::Second, 2, &becomes)
}

/// A step later than the lifetime of a class.
fn after(class: Lifetime, step: Step) -> Step {
    step.after(LIFETIMES[class as usize] + 1)
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "both sides' FINs are remembered, and a new SYN opens anew",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().proven();
            let fin = Packet::tcp(case.client(), case.vip(), FIN | ACK, 1001, 5001);
            let answer = Packet::tcp(case.backend(1), case.client(), FIN | ACK, 5001, 1002);
            let syn = case.opening(case.client(), case.vip());
            let one = flow.and(ConntrackState::FIN, 0);
            let both = flow.and(ConntrackState::FIN, ConntrackState::FIN);
            Script::new(case.balanced(1).flow(&flow, 0, 3))
                .step(goes_on(case, &fin).flows(&[one]))
                .step(goes_on(case, &syn).flows(&[one]))
                .step(comes_back(case, &answer).flows(&[both]))
                .step(
                    goes_on(case, &syn)
                        .counts(PacketEvent::Opened)
                        .flows(&[case.to_local()]),
                )
        },
    },
    Row {
        name: "a RST is remembered until its sender goes on",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().proven();
            let reset = Packet::tcp(case.client(), case.vip(), RST | ACK, 1001, 5001);
            let data = Packet::tcp(case.client(), case.vip(), ACK, 1001, 5001).payload(b"no");
            let ended = flow.and(ConntrackState::RST, 0);
            Script::new(case.balanced(1).flow(&flow, 0, 3))
                .step(goes_on(case, &reset).flows(&[ended]))
                .step(goes_on(case, &data).flows(&[flow]))
        },
    },
    Row {
        name: "a SYN after a RST opens anew, also through the same port",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_remote(2).proven();
            let reset = Packet::tcp(case.client(), case.vip(), RST | ACK, 1001, 5001);
            let syn = case.opening(case.client(), case.vip());
            Script::new(case.balanced(2).flow(&flow, 0, 3))
                .step(leaves(case, &reset).flows(&[flow.and(ConntrackState::RST, 0)]))
                .step(
                    leaves(case, &syn)
                        .counts(PacketEvent::Opened)
                        .flows(&[case.to_remote(2)]),
                )
        },
    },
    Row {
        name: "a SYN on a flow that lives goes to its backend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().proven();
            let syn = case.opening(case.client(), case.vip());
            Script::new(case.balanced(1).flow(&flow, 0, 3)).step(goes_on(case, &syn).flows(&[flow]))
        },
    },
    Row {
        name: "an expired flow is a miss",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let class = if case.protocol == Protocol::Udp {
                Lifetime::UdpStream
            } else {
                Lifetime::Established
            };
            let flow = case.to_remote(2).proven();
            let packet = case.opening(case.client(), case.vip());
            let step = leaves(case, &packet)
                .counts(PacketEvent::Opened)
                .flows(&[case.to_remote(2)]);
            Script::new(case.balanced(2).flow(&flow, 0, 0)).step(after(class, step))
        },
    },
    Row {
        name: "a flow lives as long as its lifetime",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let class = if case.protocol == Protocol::Udp {
                Lifetime::UdpStream
            } else {
                Lifetime::Established
            };
            let flow = case.to_local().proven();
            let packet = case.opening(case.client(), case.vip());
            let step = goes_on(case, &packet).flows(&[flow]);
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(step.after(LIFETIMES[class as usize]))
        },
    },
    Row {
        name: "the other direction keeps a flow alive",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let flow = case.to_local().proven();
            let answer = case.answering(case.backend(1), case.client());
            let packet = case.opening(case.client(), case.vip());
            let late = LIFETIMES[Lifetime::UdpStream as usize] / 2 + 10;
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(comes_back(case, &answer).after(late))
                .step(goes_on(case, &packet).after(late).flows(&[flow]))
        },
    },
    Row {
        name: "data brings an expired established TCP flow back",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().proven();
            let data = case
                .proving(case.client(), case.vip())
                .payload(b"still here");
            let step = goes_on(case, &data).flows(&[flow]);
            Script::new(case.balanced(1).flow(&flow, 0, 0)).step(after(Lifetime::Established, step))
        },
    },
    Row {
        name: "an expired half-open flow is not brought back: its packet is nobody's",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local();
            let data = case.proving(case.client(), case.vip());
            let step = Step::new(case.hook, &data)
                .counts(PacketEvent::MidStream)
                .flows(&[]);
            Script::new(case.balanced(1).flow(&flow, 0, 0)).step(after(Lifetime::HalfOpen, step))
        },
    },
    Row {
        name: "TCP and SCTP packets of no flow are left to the kernel",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: &[Protocol::Tcp, Protocol::Sctp],
        script: |case| {
            let data = case.proving(case.client(), case.vip());
            Script::new(case.balanced(1)).step(
                Step::new(case.hook, &data)
                    .counts(PacketEvent::MidStream)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "a missing half is made from the other",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2).proven();
            let mut world = case.balanced(2).flow(&flow, 0, 0);
            world.flows.proven.remove(&flow.becomes.reversed());
            let data = case.proving(case.client(), case.vip());
            Script::new(world).step(
                leaves(case, &data)
                    .after(1)
                    .counts(PacketEvent::HalfRestored)
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a missing initiator half is made when the backend sends",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_local().answered();
            let mut world = case.balanced(1).flow(&flow, 0, 0);
            world.flows.half_open.remove(&flow.initiator);
            let answer = case.answering(case.backend(1), case.client());
            Script::new(world).step(
                comes_back(case, &answer)
                    .counts(PacketEvent::HalfRestored)
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a half whose mate belongs to another flow is stale: its packet opens anew",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let (mine, theirs) = (case.to_remote(2), case.to_remote_of(2, case.stranger()));
            let world = case.balanced(2).flow(&mine, 0, 2).flow(&theirs, 0, 1);
            let left = Flow {
                path: Path(theirs.path.0, None),
                ..theirs
            };
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                leaves(case, &packet)
                    .counts(PacketEvent::Opened)
                    .counts(PacketEvent::PortTaken)
                    .flows(&[mine, left]),
            )
        },
    },
    Row {
        name: "ports of proven flows are never taken: the next flow is dropped",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let theirs = case.to_remote_of(2, case.stranger()).proven();
            let packet = case.opening(case.client(), case.vip());
            Script::new(case.balanced(2).flow(&theirs, 0, 0)).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::PortsExhausted)
                    .flows(&[theirs]),
            )
        },
    },
    Row {
        name: "of half-open flows the quietest gives its port up",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let theirs = case.to_remote_of(2, case.stranger());
            let left = Flow {
                path: Path(theirs.path.0, None),
                ..theirs
            };
            let packet = case.opening(case.client(), case.vip());
            Script::new(case.balanced(2).flow(&theirs, 0, 5)).step(
                leaves(case, &packet)
                    .counts(PacketEvent::Opened)
                    .counts(PacketEvent::PortTaken)
                    .flows(&[case.to_remote(2), left]),
            )
        },
    },
    Row {
        name: "one client port to two frontends of one backend becomes two",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let other = Net::Vips.at(case.family, 9, 80);
            let second = Service::new(SERVICE + 1, case.protocol)
                .frontend(other, FrontendKind::LoadBalancer)
                .backend(case.backend(1));
            let first = case.to_local().proven();
            let world = case.balanced(1).with(&second).flow(&first, 0, 0);
            let packet = case.opening(case.client(), other);
            let flow = tuple(case.protocol, case.client(), other);
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .counts(PacketEvent::Opened)
                    .by_chance(Outcome::Pass, flow),
            )
        },
    },
    Row {
        name: "a record left over from the same flow's earlier life is no obstacle",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2);
            let mut world = case.balanced(2).flow(&flow.proven(), 0, 3);
            world
                .flows
                .table_mut(FlowState::Proven)
                .remove(&flow.initiator);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                leaves(case, &packet)
                    .counts(PacketEvent::Opened)
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a flow whose route is gone is dropped",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(9).proven();
            let data = case.proving(case.client(), case.vip());
            Script::new(case.balanced(9).flow(&flow, 0, 0)).step(
                Step::new(case.hook, &data)
                    .drops()
                    .counts(PacketEvent::NoRoute),
            )
        },
    },
];
