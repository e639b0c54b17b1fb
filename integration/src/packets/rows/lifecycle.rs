//! Flows that end, expire, or lose a half.

use lb_ebpf::{
    abi::{ConntrackState, Lifetime, NextHop, PacketEvent, Protocol},
    parse::tcp::{ACK, FIN, RST},
    tables::FlowState,
};

use super::super::{
    packet::Packet,
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{NEIGHBOUR, Port},
    world::LIFETIMES,
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
            let fin = Packet::tcp(case.client(), case.vip(), FIN | ACK, 1001, 5001);
            let data = Packet::tcp(case.client(), case.vip(), ACK, 1001, 5001).payload(b"no");
            let ended = flow.and(ConntrackState::RST, 0);
            let closed = ended.and(ConntrackState::FIN, 0);
            Script::new(case.balanced(1).flow(&flow, 0, 3))
                .step(goes_on(case, &reset).flows(&[ended]))
                .step(goes_on(case, &fin).flows(&[closed]))
                .step(goes_on(case, &data).flows(&[flow.and(ConntrackState::FIN, 0)]))
        },
    },
    Row {
        name: "a SYN-ACK after a RST takes nothing back",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let reset = case.to_local().and(0, ConntrackState::RST);
            let answer = case.answering(case.backend(1), case.client());
            let answered = case.to_local().answered().and(0, ConntrackState::RST);
            Script::new(case.balanced(1).flow(&reset, 0, 0))
                .step(comes_back(case, &answer).flows(&[answered]))
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
        name: "a SYN after RSTs of both sides opens anew",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().proven();
            let reset = flow.and(ConntrackState::RST, ConntrackState::RST);
            let syn = case.opening(case.client(), case.vip());
            Script::new(case.balanced(1).flow(&reset, 0, 3)).step(
                goes_on(case, &syn)
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_local()]),
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
        name: "one direction alone keeps a flow alive",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let flow = case.to_local().proven();
            let packet = case.opening(case.client(), case.vip());
            let late = LIFETIMES[Lifetime::UdpStream as usize] / 2 + 10;
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(goes_on(case, &packet).after(late))
                .step(goes_on(case, &packet).after(late).flows(&[flow]))
        },
    },
    Row {
        name: "a flow of which one direction has ended expires earlier",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let one = case.to_remote(2).proven().and(ConntrackState::FIN, 0);
            let syn = case.opening(case.client(), case.vip());
            let step = leaves(case, &syn)
                .counts(PacketEvent::Opened)
                .flows(&[case.to_remote(2)]);
            Script::new(case.balanced(2).flow(&one, 0, 0)).step(after(Lifetime::CloseWait, step))
        },
    },
    Row {
        name: "a half-open flow that either side has reset expires earlier",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let reset = case.to_local().and(0, ConntrackState::RST);
            let data = case.proving(case.client(), case.vip());
            let step = Step::new(case.hook, &data)
                .counts(PacketEvent::MidStream)
                .flows(&[]);
            Script::new(case.balanced(1).flow(&reset, 0, 0)).step(after(Lifetime::Closed, step))
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
    Row {
        name: "a changed route is followed in the next tick",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2).proven();
            let mut world = case.balanced(2).flow(&flow, 0, 0);
            let (dst_mac, src_mac) = Port::Uplink.to(NEIGHBOUR);
            for half in flow.halves() {
                let records = world.flows.table_mut(FlowState::Proven);
                let entry = records.get_mut(&half.key).expect("a half of the flow");
                entry.hop = NextHop {
                    ifindex: Port::Uplink.ifindex(),
                    dst_mac,
                    src_mac,
                };
            }
            let data = case.proving(case.client(), case.vip());
            let becomes = data.clone().between(case.snat(), case.backend(2)).hop();
            let old = Step::new(case.hook, &data).leaves(Port::Uplink, NEIGHBOUR, &becomes);
            Script::new(world)
                .step(old)
                .step(leaves(case, &data).after(1).flows(&[flow]))
                .step(leaves(case, &data).flows(&[flow]))
        },
    },
    Row {
        name: "XDP leaves a flow to TC once it leaves through a device that it cannot send to",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(3).proven();
            let mut world = case.balanced(3).flow(&flow, 0, 0);
            let (dst_mac, src_mac) = Port::Second.to(2);
            let entry = world.flows.proven.get_mut(&flow.initiator);
            entry.expect("a half of the flow").hop = NextHop {
                ifindex: Port::Second.ifindex(),
                dst_mac,
                src_mac,
            };
            let data = case.proving(case.client(), case.vip());
            let step = Step::new(case.hook, &data).after(1);
            Script::new(world).step(step.counts(PacketEvent::LeftToTc).flows(&[flow]))
        },
    },
    Row {
        name: "XDP sends back through a device that it cannot redirect to",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(4).proven();
            let mut world = case.balanced(4).flow(&flow, 0, 0);
            let uplink = world.devices.get_mut(&Port::Uplink.ifindex());
            uplink.expect("the uplink").flags = 0;
            let data = case.proving(case.client(), case.vip());
            let becomes = data.clone().between(case.snat(), case.backend(4)).hop();
            let step = Step::new(case.hook, &data).leaves(Port::Uplink, NEIGHBOUR, &becomes);
            Script::new(world).step(step.clone()).step(step)
        },
    },
    Row {
        name: "XDP leaves a flow's packets to TC before it looks at their meaning",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(3).answered();
            let mut world = case.balanced(3).flow(&flow, 0, 0);
            let (dst_mac, src_mac) = Port::Tunnel.to(3);
            let entry = world.flows.half_open.get_mut(&flow.initiator);
            entry.expect("a half of the flow").hop = NextHop {
                ifindex: Port::Tunnel.ifindex(),
                dst_mac,
                src_mac,
            };
            let proof = case.proving(case.client(), case.vip());
            Script::new(world).step(
                Step::new(case.hook, &proof)
                    .counts(PacketEvent::LeftToTc)
                    .flows(&[flow]),
            )
        },
    },
];
