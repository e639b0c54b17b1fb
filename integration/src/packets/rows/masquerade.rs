//! Flows of a ClusterIP that masquerades all its clients (rule G4).

use std::net::SocketAddr;

use lb_ebpf::abi::{FrontendFlags, FrontendKind, PacketEvent};

use super::super::{
    flow::{Flow, Path},
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{GATEWAY, Net, Port},
    world::{SNAT_PORT, World},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a pod of a masquerading ClusterIP is this node to a pod beside it",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            to_pod_of_this_node(case, pod, (Port::Pods, 6))
        },
    },
    Row {
        name: "a client outside of a masquerading ClusterIP is this node to a pod of this node",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| to_pod_of_this_node(case, case.client(), (Port::Uplink, GATEWAY)),
    },
    Row {
        name: "a pod of a masquerading ClusterIP is this node to a backend of another",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            let (world, address) = masquerading(case, case.backend(2));
            let (packet, sent) = (case.opening(pod, address), (case.snat(), case.backend(2)));
            let flow = Flow::new(case.protocol, (pod, address), sent, Path::SNAT);
            let answer = case.answering(case.backend(2), case.snat());
            let opened = Step::new(case.hook, &packet)
                .leaves(
                    Port::Second,
                    2,
                    &packet.clone().between(sent.0, sent.1).hop(),
                )
                .counts(PacketEvent::Opened)
                .flows(&[flow]);
            let answered = Step::new(Hook::Ingress, &answer)
                .at(Port::Second)
                .leaves(Port::Pods, 6, &answer.clone().between(address, pod).hop())
                .flows(&[flow.answered()]);
            Script::new(world).step(opened).step(answered)
        },
    },
];

fn masquerading(case: Case, backend: SocketAddr) -> (World, SocketAddr) {
    let address = Net::Services.at(case.family, 1, 443);
    let service = case
        .service()
        .frontend(address, FrontendKind::ClusterIp)
        .flags(FrontendFlags::MASQUERADE)
        .backend(backend);
    (World::node().with(&service), address)
}

/// There and back; the client is behind this neighbour of a device.
fn to_pod_of_this_node(case: Case, client: SocketAddr, back: (Port, u8)) -> Script {
    let node = Net::Pods(1).at(case.family, 1, SNAT_PORT);
    let (world, address) = masquerading(case, case.backend(1));
    let packet = case.opening(client, address);
    let sent = (node, case.backend(1));
    let flow = Flow::new(case.protocol, (client, address), sent, Path::SNAT);
    let answer = case.answering(case.backend(1), node);
    let (port, neighbour) = back;
    let opened = Step::new(case.hook, &packet)
        .leaves(Port::Pods, 5, &packet.clone().between(sent.0, sent.1).hop())
        .counts(PacketEvent::Opened)
        .flows(&[flow]);
    let answered = Step::new(Hook::PodIngress, &answer)
        .leaves(
            port,
            neighbour,
            &answer.clone().between(address, client).hop(),
        )
        .flows(&[flow.answered()]);
    Script::new(world).step(opened).step(answered)
}
