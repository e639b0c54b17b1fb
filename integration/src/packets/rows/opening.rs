//! Flows that are opened, along each path.

use lb_ebpf::abi::{FrontendKind, PacketEvent};

use super::super::{
    flow::{Flow, Path},
    packet::Packet,
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{NEIGHBOUR, NODE, Net, Port},
    world::{SNAT_PORT, Service, World},
};

/// A load balancer's address in front of a backend of `node`.
fn balanced(case: Case, node: u8) -> World {
    let service = Service::new(1, case.protocol)
        .frontend(case.vip(), FrontendKind::LoadBalancer)
        .backend(Net::Pods(node).at(case.family, 5, 8080));
    World::node().with(&service)
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a flow to a local backend goes through the stack",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let backend = Net::Pods(1).at(case.family, 5, 8080);
            let packet = Packet::opening(case.protocol, case.client(), case.vip());
            let flow = Flow::new(
                case.protocol,
                (case.client(), case.vip()),
                (case.client(), backend),
                Path::STACK,
            );
            Script::new(balanced(case, 1)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), backend))
                    .counts(PacketEvent::Opened)
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a flow to a remote backend leaves through its device as from this node",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let backend = Net::Pods(2).at(case.family, 5, 8080);
            let node = Net::Uplink.at(case.family, NODE, SNAT_PORT);
            let packet = Packet::opening(case.protocol, case.client(), case.vip());
            let flow = Flow::new(
                case.protocol,
                (case.client(), case.vip()),
                (node, backend),
                Path::SNAT,
            );
            Script::new(balanced(case, 2)).step(
                Step::new(case.hook, &packet)
                    .leaves(
                        Port::Second,
                        2,
                        &packet.clone().between(node, backend).hop(),
                    )
                    .counts(PacketEvent::Opened)
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "a flow to a remote backend leaves through the device that it came in at",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let backend = Net::Pods(4).at(case.family, 5, 8080);
            let node = Net::Uplink.at(case.family, NODE, SNAT_PORT);
            let packet = Packet::opening(case.protocol, case.client(), case.vip());
            Script::new(balanced(case, 4)).step(
                Step::new(case.hook, &packet)
                    .leaves(
                        Port::Uplink,
                        NEIGHBOUR,
                        &packet.clone().between(node, backend).hop(),
                    )
                    .counts(PacketEvent::Opened),
            )
        },
    },
];
