//! Virtual addresses where there is no frontend (rule E3), and who counts as a pod (rule F9).

use lb_ebpf::{
    abi::{
        Addr, AddressRange, ConfigFlags, FrontendFlags, FrontendKind, NodeAddress, PacketEvent,
        Protocol, ServiceRangeFlags,
    },
    parse::tcp::{ACK, RST},
};

use super::{
    super::{
        packet::{ARRIVING, Packet},
        script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
        topology::{GATEWAY, NODE, Net, Port},
        world::{SERVICE, Service, World},
    },
    refusing::refusal,
};

/// The ClusterIP of a service; host 9 of the range is no service's.
fn cluster_ip(case: Case, port: u16) -> std::net::SocketAddr {
    Net::Services.at(case.family, 1, port)
}

fn unallocated(case: Case) -> std::net::SocketAddr {
    Net::Services.at(case.family, 9, 80)
}

fn service(case: Case) -> Service {
    Service::new(SERVICE, case.protocol)
        .frontend(cluster_ip(case, 80), FrontendKind::ClusterIp)
        .backend(case.backend(1))
}

/// A service in a range that was set aside for ClusterIPs.
fn world(case: Case) -> World {
    let net = Net::Services.host(case.family, 0);
    let bits = case.family.pick(24, 112);
    World::node()
        .with(&service(case))
        .service_range(net, bits, ServiceRangeFlags::SERVICE_CIDR)
}

fn pod(case: Case) -> std::net::SocketAddr {
    Net::Pods(1).at(case.family, 6, 40_000)
}

/// Pods are those with an address of [`Net::Pods`] of this node.
fn by_source(case: Case, world: World) -> World {
    let net = Net::Pods(1).host(case.family, 0);
    let bits = case.family.pick(96 + 24, 64);
    world.configured(|config| {
        config.flags |= ConfigFlags::LOCAL_BY_SOURCE;
        let range = AddressRange::new(Addr::from(net), bits);
        if net.is_ipv4() {
            config.local_v4 = range;
        } else {
            config.local_v6 = range;
        }
    })
}

/// A service with policy Local: inside a remote backend, outside a local one.
fn split(case: Case) -> World {
    let service = case
        .service()
        .backend(case.backend(2))
        .external(FrontendFlags::LOCAL_SET, &[case.backend(1)]);
    World::node().with(&service)
}

/// At the pod's hook, from `src` to a service with two scopes: to the backend at `node`.
fn scoped(case: Case, world: World, src: std::net::SocketAddr, node: u8) -> Script {
    let packet = case.opening(src, case.vip());
    Script::new(world).step(
        Step::new(case.hook, &packet)
            .passes_as(&packet.clone().between(src, case.backend(node)))
            .counts(PacketEvent::Opened),
    )
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a port that a ClusterIP does not have is refused to pods",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(pod(case), cluster_ip(case, 81));
            Script::new(world(case)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Pods, 6, &refusal(&packet))
                    .counts(PacketEvent::UndefinedPort)
                    .service([0, 0, 0, 0])
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "a protocol that a ClusterIP does not have is refused",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let other = match case.protocol {
                Protocol::Tcp => Protocol::Udp,
                Protocol::Udp | Protocol::Sctp => Protocol::Tcp,
            };
            let packet = Packet::opening(other, pod(case), cluster_ip(case, 80));
            Script::new(world(case)).step(
                Step::new(case.hook, &packet)
                    .leaves(Port::Pods, 6, &refusal(&packet))
                    .counts(PacketEvent::UndefinedPort),
            )
        },
    },
    Row {
        name: "an undefined port is refused to clients outside, by TC",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(case.client(), cluster_ip(case, 81));
            Script::new(world(case))
                .step(Step::new(Hook::Xdp, &packet).counts(PacketEvent::LeftToTc))
                .step(
                    Step::new(case.hook, &packet)
                        .leaves(Port::Uplink, GATEWAY, &refusal(&packet))
                        .counts(PacketEvent::UndefinedPort),
                )
        },
    },
    Row {
        name: "an undefined port is refused to processes of this host",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let packet = case.opening(own, cluster_ip(case, 81));
            let swapped = (ARRIVING.1, ARRIVING.0);
            Script::new(world(case)).step(
                Step::new(case.hook, &packet)
                    .bounces_as(&refusal(&packet).macs(swapped))
                    .counts(PacketEvent::UndefinedPort),
            )
        },
    },
    Row {
        name: "an address of the range that no service has is dropped",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let packet = case.opening(pod(case), unallocated(case));
            Script::new(world(case)).step(
                Step::new(case.hook, &packet)
                    .drops()
                    .counts(PacketEvent::UnallocatedClusterIp)
                    .flows(&[]),
            )
        },
    },
    Row {
        name: "clients outside are left alone where ClusterIPs do not serve them",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let world = world(case).configured(|config| config.flags = 0);
            let to = |at| Step::new(case.hook, &case.opening(case.client(), at));
            Script::new(world)
                .step(to(cluster_ip(case, 80)).flows(&[]))
                .step(to(cluster_ip(case, 81)))
                .step(to(unallocated(case)))
        },
    },
    Row {
        name: "pods reach ClusterIPs that do not serve clients outside",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let world = world(case).configured(|config| config.flags = 0);
            let packet = case.opening(pod(case), cluster_ip(case, 80));
            let undefined = case.opening(pod(case), cluster_ip(case, 81));
            Script::new(world)
                .step(
                    Step::new(case.hook, &packet)
                        .passes_as(&packet.clone().between(pod(case), case.backend(1)))
                        .counts(PacketEvent::Opened),
                )
                .step(
                    Step::new(case.hook, &undefined)
                        .leaves(Port::Pods, 6, &refusal(&undefined))
                        .counts(PacketEvent::UndefinedPort),
                )
        },
    },
    Row {
        name: "without a range set aside only the ports of known ClusterIPs are refused",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let net = Net::Services.host(case.family, 0);
            let world =
                World::node()
                    .with(&service(case))
                    .service_range(net, case.family.pick(24, 112), 0);
            let refused = case.opening(pod(case), cluster_ip(case, 81));
            Script::new(world)
                .step(Step::new(
                    case.hook,
                    &case.opening(pod(case), unallocated(case)),
                ))
                .step(
                    Step::new(case.hook, &refused)
                        .leaves(Port::Pods, 6, &refusal(&refused))
                        .counts(PacketEvent::UndefinedPort),
                )
        },
    },
    Row {
        name: "without any range nothing is refused or dropped",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let to = |at| Step::new(case.hook, &case.opening(pod(case), at));
            Script::new(World::node().with(&service(case)))
                .step(to(cluster_ip(case, 81)))
                .step(to(unallocated(case)))
        },
    },
    Row {
        name: "an address that is also something else is left alone",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let mut world = world(case);
            let balancer = Service::new(SERVICE + 1, case.protocol)
                .frontend(cluster_ip(case, 443), FrontendKind::LoadBalancer)
                .frontend(
                    Net::Services.at(case.family, 8, 80),
                    FrontendKind::ExternalIp,
                );
            world = world.with(&balancer);
            let own = Net::Services.host(case.family, 7);
            world
                .node_addresses
                .insert(Addr::from(own), NodeAddress::LOCAL);
            let to = |host| {
                let at = Net::Services.at(case.family, host, 81);
                Step::new(case.hook, &case.opening(pod(case), at))
            };
            Script::new(world).step(to(1)).step(to(8)).step(to(7))
        },
    },
    Row {
        name: "what opens no connection is left to the kernel, which may know it",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let to = |at, flags| Step::new(case.hook, &Packet::tcp(pod(case), at, flags, 1, 1));
            Script::new(world(case))
                .step(to(cluster_ip(case, 81), ACK))
                .step(to(unallocated(case), ACK))
                .step(to(unallocated(case), RST))
        },
    },
    Row {
        name: "what only passes a device is not judged there",
        hooks: &[Hook::Egress, Hook::PodEgress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let to = |at| Step::new(case.hook, &case.opening(case.client(), at));
            Script::new(world(case))
                .step(to(cluster_ip(case, 81)))
                .step(to(unallocated(case)))
        },
    },
    Row {
        name: "by source, a pod of the range meets the cluster set",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| scoped(case, by_source(case, split(case)), pod(case), 2),
    },
    Row {
        name: "by source, a pod outside of the range meets the local set",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let stray = Net::Pods(3).at(case.family, 6, 40_000);
            scoped(case, by_source(case, split(case)), stray, 1)
        },
    },
    Row {
        name: "without a range for pods none is local",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let world =
                split(case).configured(|config| config.flags |= ConfigFlags::LOCAL_BY_SOURCE);
            scoped(case, world, pod(case), 1)
        },
    },
    Row {
        name: "by source, a pod that comes in at the uplink is a pod",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = case
                .service()
                .backend(case.backend(1))
                .external(FrontendFlags::LOCAL_SET | FrontendFlags::DROP, &[]);
            let world = by_source(case, World::node().with(&service));
            scoped(case, world, pod(case), 1)
        },
    },
    Row {
        name: "by source, processes of this host meet the cluster set",
        hooks: &[Hook::Egress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let own = Net::Uplink.at(case.family, NODE, 45_000);
            let packet = case.opening(own, case.vip());
            Script::new(by_source(case, split(case))).step(
                Step::new(case.hook, &packet)
                    .leaves(
                        Port::Second,
                        2,
                        &packet.clone().between(own, case.backend(2)),
                    )
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "by source, pods reach ClusterIPs whatever their address",
        hooks: &[Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let world = World::node()
                .with(&service(case))
                .configured(|config| config.flags = ConfigFlags::LOCAL_BY_SOURCE);
            let packet = case.opening(pod(case), cluster_ip(case, 80));
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(pod(case), case.backend(1)))
                    .counts(PacketEvent::Opened),
            )
        },
    },
];
