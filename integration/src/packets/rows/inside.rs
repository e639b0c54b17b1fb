//! Flows that pods and processes of this host open.

use lb_ebpf::abi::{FrontendKind, PacketEvent, Protocol};

use super::super::{
    flow::{Flow, Path},
    script::{BOTH, Hook, Row, Script, Step, TRANSPORTS},
    topology::{NODE, Net, Port},
    world::{SNAT_PORT, World},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a pod's flow goes through the stack to any backend",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            let packet = case.opening(pod, case.vip());
            let becomes = packet.clone().between(pod, case.backend(2));
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a pod that is its own backend sees this node as the client",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let pod = Net::Pods(1).at(case.family, 5, 40_000);
            let node = Net::Pods(1).at(case.family, 1, SNAT_PORT);
            let packet = case.opening(pod, case.vip());
            let flow = Flow::new(
                case.protocol,
                (pod, case.vip()),
                (node, case.backend(1)),
                Path::SNAT,
            );
            let answer = case.answering(case.backend(1), node);
            Script::new(case.balanced(1))
                .step(
                    Step::new(case.hook, &packet)
                        .leaves(
                            Port::Pods,
                            5,
                            &packet.clone().between(node, case.backend(1)).hop(),
                        )
                        .counts(PacketEvent::Opened)
                        .flows(&[flow]),
                )
                .step(
                    Step::new(case.hook, &answer)
                        .leaves(
                            Port::Pods,
                            5,
                            &answer.clone().between(case.vip(), pod).hop(),
                        )
                        .flows(&[flow.answered()]),
                )
        },
    },
    Row {
        name: "what a process of this host sends is translated as it leaves, and what comes back",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let packet = case.opening(own, case.vip());
            let flow = Flow::new(
                case.protocol,
                (own, case.vip()),
                (own, case.backend(2)),
                Path::HOST,
            );
            let answer = case.answering(case.backend(2), own);
            Script::new(case.balanced(2))
                .step(
                    Step::new(Hook::Egress, &packet)
                        .leaves(
                            Port::Second,
                            2,
                            &packet.clone().between(own, case.backend(2)),
                        )
                        .counts(PacketEvent::Opened)
                        .flows(&[flow]),
                )
                .step(
                    Step::new(Hook::Ingress, &answer)
                        .at(Port::Second)
                        .passes_as(&answer.clone().between(case.vip(), own))
                        .flows(&[flow.answered()]),
                )
        },
    },
    Row {
        name: "what only passes through opens nothing as it leaves",
        hooks: &[Hook::Egress, Hook::PodEgress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            Script::new(case.balanced(2)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "a ClusterIP is served to pods",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let address = Net::Services.at(case.family, 1, 443);
            let service = case
                .service()
                .frontend(address, FrontendKind::ClusterIp)
                .backend(case.backend(1));
            let pod = Net::Pods(1).at(case.family, 6, 40_000);
            let packet = case.opening(pod, address);
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(pod, case.backend(1)))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "what a process of this host sends to a backend that is this host has no way",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let backend = Net::Uplink.at(case.family, NODE, 8080);
            let packet = case.opening(own, case.vip());
            Script::new(World::node().with(&case.service().backend(backend))).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::NoRoute)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "what a process of this host sends reaches pods of this host",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let packet = case.opening(own, case.vip());
            let becomes = packet.clone().between(own, case.backend(1));
            let answer = case.answering(case.backend(1), own);
            Script::new(case.balanced(1))
                .step(
                    Step::new(Hook::Egress, &packet)
                        .leaves(Port::Pods, 5, &becomes)
                        .counts(PacketEvent::Opened),
                )
                .step(
                    Step::new(Hook::PodIngress, &answer)
                        .passes_as(&answer.clone().between(case.vip(), own)),
                )
        },
    },
];
