//! Ports towards a backend: one tuple, one flow.

use lb_ebpf::{
    abi::{FrontendKind, PacketEvent},
    tables::FlowState,
};

use super::super::{
    flow::{Flow, Path, tuple},
    packet::Packet,
    script::{BOTH, Case, Hook, Outcome, Row, Script, Step, TRANSPORTS},
    topology::{Net, Port},
    world::{SERVICE, Service},
};

fn leaves(case: Case, packet: &Packet) -> Step {
    let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
    Step::new(case.hook, packet).leaves(Port::Second, 2, &becomes)
}

pub(super) const ROWS: &[Row] = &[
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
        name: "a client whose half was evicted gets its port back",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2);
            let mut world = case.balanced(2).flow(&flow, 0, 3);
            world.flows.half_open.remove(&flow.initiator);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                leaves(case, &packet)
                    .counts(PacketEvent::Opened)
                    .flows(&[flow]),
            )
        },
    },
];
