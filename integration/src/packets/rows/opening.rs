//! Flows that clients outside open, along each path.

use lb_ebpf::abi::{FrontendFlags, FrontendKind, PacketEvent, Protocol};

use super::{
    super::{
        script::{BOTH, Hook, Row, Script, Step, TRANSPORTS},
        topology::{GATEWAY, NEIGHBOUR, NODE, Net, Port},
        world::{SNAT_PORT, World},
    },
    scenes::NODE_PORT,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a flow to a local backend goes through the stack",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.client(), case.backend(1));
            Script::new(case.balanced(1)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&becomes)
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_local()]),
            )
        },
    },
    Row {
        name: "a flow to a backend that is this host goes through the stack",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let backend = Net::Uplink.at(case.family, NODE, 8080);
            let packet = case.opening(case.client(), case.vip());
            Script::new(World::node().with(&case.service().backend(backend))).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), backend))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a flow to a remote backend leaves through its device as from this node",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            Script::new(case.balanced(2)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Second, 2, &becomes)
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_remote(2)]),
            )
        },
    },
    Row {
        name: "a flow to a remote backend leaves through the device that it came in at",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.snat(), case.backend(4)).hop();
            Script::new(case.balanced(4)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Uplink, NEIGHBOUR, &becomes)
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "XDP leaves a flow through a device that it cannot send to to TC",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet
                .clone()
                .between(Net::Pods(1).at(case.family, 1, SNAT_PORT), case.backend(3))
                .hop();
            Script::new(case.balanced(3))
                .step(
                    Step::new(Hook::Xdp, &packet)
                        .counts(PacketEvent::LeftToTc)
                        .flows(&[]),
                )
                .step(
                    Step::new(Hook::Ingress, &packet)
                        .leaves(Port::Tunnel, 3, &becomes)
                        .counts(PacketEvent::Opened),
                )
        },
    },
    Row {
        name: "XDP leaves a flow whose neighbour is not known to TC, which resolves it",
        hooks: &[Hook::Xdp],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.snat(), case.backend(5)).hop();
            Script::new(case.balanced(5))
                .step(
                    Step::new(Hook::Xdp, &packet)
                        .counts(PacketEvent::LeftToTc)
                        .flows(&[]),
                )
                .step(
                    Step::new(Hook::Ingress, &packet)
                        .leaves_unresolved(Port::Uplink, &becomes)
                        .counts(PacketEvent::Opened)
                        .flows(&[case.to_remote(5)]),
                )
                .step(
                    Step::new(Hook::Xdp, &packet)
                        .counts(PacketEvent::LeftToTc)
                        .flows(&[case.to_remote(5)]),
                )
        },
    },
    Row {
        name: "a backend behind a black hole is unreachable",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            Script::new(case.balanced(9)).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::NoRoute)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "a device without an address of its own cannot hide clients",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let mut world = case.balanced(2);
            let mut second = Port::Second.described();
            second.snat_v4 = second.snat_v4.unspecified();
            second.snat_v6 = second.snat_v6.unspecified();
            world.devices.insert(Port::Second.ifindex(), second);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::NoRoute)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "a NodePort is served at the node's address",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .frontend(case.any(NODE_PORT), FrontendKind::NodePort)
                .backend(case.backend(1));
            let own = Net::Uplink.at(case.family, NODE, NODE_PORT);
            let packet = case.opening(case.client(), own);
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a NodePort is not served at other addresses",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .frontend(case.any(NODE_PORT), FrontendKind::NodePort)
                .backend(case.backend(1));
            let loopback = case
                .family
                .pick("127.0.0.1".parse(), "::1".parse())
                .expect("an address");
            let mut script = Script::new(World::node().with(&service));
            for at in [
                Net::Uplink.at(case.family, NODE + 1, NODE_PORT),
                Net::Pods(1).at(case.family, 1, NODE_PORT),
                Net::Vips.at(case.family, 1, NODE_PORT),
                std::net::SocketAddr::new(loopback, NODE_PORT),
            ] {
                let packet = case.opening(case.client(), at);
                script = script.step(Step::new(case.hook, &packet).flows(&[]));
            }
            script
        },
    },
    Row {
        name: "without a SNAT range remote backends are unreachable",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let world = case.balanced(2).configured(|config| config.snat_count = 0);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::NoRoute)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "the reply of a remote backend goes to the client as from the frontend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.snat(), case.backend(2)).hop();
            let answer = case.answering(case.backend(2), case.snat());
            let reply = answer.clone().between(case.vip(), case.client()).hop();
            Script::new(case.balanced(2))
                .step(
                    Step::new(case.hook, &packet)
                        .leaves(Port::Second, 2, &becomes)
                        .counts(PacketEvent::Opened),
                )
                .step(
                    Step::new(case.hook, &answer)
                        .at(Port::Second)
                        .leaves(Port::Uplink, GATEWAY, &reply)
                        .flows(&[case.to_remote(2).answered()]),
                )
        },
    },
    Row {
        name: "a ClusterIP that is not served outside is nobody's there",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let address = Net::Services.at(case.family, 1, 443);
            let service = case
                .service()
                .frontend(address, FrontendKind::ClusterIp)
                .flags(FrontendFlags::EXTERNAL_DIFFERS)
                .backend(case.backend(1));
            let packet = case.opening(case.client(), address);
            Script::new(World::node().with(&service)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
];
