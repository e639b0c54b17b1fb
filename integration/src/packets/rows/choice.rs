//! Which backend a flow gets: session affinity, and UDP flows whose backend is gone.

use lb_ebpf::abi::{
    Addr, AffinityEntry, AffinityKey, BackendFlags, ClientKind, FrontendFlags, FrontendKind,
    PacketEvent, Protocol, TICK_NS,
};

use super::{
    super::{
        packet::Packet,
        script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
        topology::{GATEWAY, NODE, Net, Port},
        world::{NOW_NS, SERVICE, Service, World},
    },
    scenes::NODE_PORT,
};

const SECONDS: u32 = 10;

fn other(case: Case) -> std::net::SocketAddr {
    Net::Pods(1).at(case.family, 6, 8080)
}

/// A service with affinity whose table holds the usual backend only, while the client is
/// remembered, since `age` ticks, with another one, whose flags are these.
fn remembered(case: Case, age: u64, flags: u32) -> World {
    // The other backend becomes a backend of the service by way of a table of its own.
    let service = case.service().affinity(SECONDS).backend(case.backend(1));
    let elsewhere = Service::new(SERVICE, case.protocol).backend(other(case));
    let world = World::node().with(&service).with(&elsewhere);
    let slot = world.slot(SERVICE, other(case)).expect("a backend");
    let mut world = world.backend(slot, |backend| backend.flags = flags);
    let key = AffinityKey {
        client: Addr::from(case.client().ip()),
        service_id: SERVICE,
        kind: ClientKind::Address as u32,
    };
    let entry = AffinityEntry {
        last_used_ns: NOW_NS - age * TICK_NS,
        slot,
        generation: world.backends[slot as usize].generation,
    };
    world.affinity.insert(key, entry);
    world
}

const MEMBER: u32 = BackendFlags::USED
    | BackendFlags::READY
    | BackendFlags::SERVING
    | BackendFlags::LOCAL
    | BackendFlags::IN_CLUSTER_SET;

fn goes_to(case: Case, packet: &Packet, backend: std::net::SocketAddr) -> Step {
    let becomes = packet.clone().between(case.client(), backend);
    Step::new(case.hook, packet).passes_as(&becomes)
}

/// The client opens a flow; it gets `backend`, and so does its next flow. Affinity has
/// decided `hits` times then.
fn opens(case: Case, world: World, backend: std::net::SocketAddr, hits: u64) -> Script {
    let packet = case.opening(case.client(), case.vip());
    let again = std::net::SocketAddr::new(case.client().ip(), 40_001);
    let next = case.opening(again, case.vip());
    let becomes = next.clone().between(again, backend);
    Script::new(world)
        .step(goes_to(case, &packet, backend).counts(PacketEvent::Opened))
        .step(
            Step::new(case.hook, &next)
                .passes_as(&becomes)
                .counts(PacketEvent::Opened)
                .service([2, hits, 0, 0]),
        )
}

/// A proven UDP flow to the usual backend, which is at slot 0.
fn streaming(case: Case, world: World) -> World {
    world.flow(&case.to_local().proven(), 0, 0)
}

const UDP: &[Protocol] = &[Protocol::Udp];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a UDP flow that ends leaves alone what another flow has in its place",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let next = Net::Pods(2).at(case.family, 6, 8080);
            let gone = Service::new(SERVICE, case.protocol).backend(case.backend(2));
            let service = case.service().backend(next);
            let old = case.to_remote(2).proven();
            // Its responder half is under the same key, and replaces that of the old one.
            let another = case.to_remote_of(2, case.stranger()).proven();
            let world = World::node().with(&gone).with(&service);
            let world = world.flow(&old, 0, 0).flow(&another, 0, 0);
            let world = world.backend(0, |backend| backend.flags = 0);
            let packet = case.opening(case.client(), case.vip());
            let becomes = packet.clone().between(case.snat(), next).hop();
            let reply = case.answering(case.backend(2), case.snat());
            let answer = reply.clone().between(case.vip(), case.stranger()).hop();
            Script::new(world)
                .step(
                    Step::new(case.hook, &packet)
                        .leaves(Port::Second, 2, &becomes)
                        .counts(PacketEvent::Opened),
                )
                .step(Step::new(case.hook, &reply).at(Port::Second).leaves(
                    Port::Uplink,
                    GATEWAY,
                    &answer,
                ))
        },
    },
    Row {
        name: "a NodePort has an external policy of its own",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let service = Service::new(SERVICE, case.protocol)
                .frontend(case.any(NODE_PORT), FrontendKind::NodePort)
                .backend(case.backend(2))
                .external(FrontendFlags::LOCAL_SET, &[case.backend(1)]);
            let at = Net::Uplink.at(case.family, NODE, NODE_PORT);
            let packet = case.opening(case.client(), at);
            Script::new(World::node().with(&service)).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "a backend that routing finds on this host goes through the stack",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            // Its address has just come to this node: its record does not say so yet.
            let at = Net::Uplink.at(case.family, NODE, 8080);
            let world = World::node().with(&case.service().backend(at));
            let world = world.backend(0, |backend| backend.flags &= !BackendFlags::LOCAL);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                Step::new(case.hook, &packet)
                    .passes_as(&packet.clone().between(case.client(), at))
                    .counts(PacketEvent::Opened),
            )
        },
    },
    Row {
        name: "affinity brings a client to the backend that it had",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| opens(case, remembered(case, 5, MEMBER), other(case), 2),
    },
    Row {
        name: "affinity ends with its timeout",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| opens(case, remembered(case, 11, MEMBER), case.backend(1), 1),
    },
    Row {
        name: "affinity to a backend that is no member of the set any more does not count",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flags = MEMBER & !BackendFlags::IN_CLUSTER_SET | BackendFlags::IN_LOCAL_SET;
            opens(case, remembered(case, 1, flags), case.backend(1), 1)
        },
    },
    Row {
        name: "affinity to a slot that was given to another backend does not count",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let world = remembered(case, 1, MEMBER);
            let slot = world.slot(SERVICE, other(case)).expect("a backend");
            let world = world.backend(slot, |backend| backend.generation += 1);
            opens(case, world, case.backend(1), 1)
        },
    },
    Row {
        name: "a UDP flow stays while its backend serves, member of the set or not",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let world = streaming(case, case.balanced(1)).backend(0, |backend| {
                backend.flags = BackendFlags::USED
                    | BackendFlags::SERVING
                    | BackendFlags::TERMINATING
                    | BackendFlags::LOCAL;
            });
            let packet = case.opening(case.client(), case.vip());
            Script::new(world)
                .step(goes_to(case, &packet, case.backend(1)).flows(&[case.to_local().proven()]))
        },
    },
    Row {
        name: "a UDP flow whose backend is gone opens anew while there are others",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let gone = Service::new(SERVICE, case.protocol).backend(case.backend(1));
            let world = World::node()
                .with(&gone)
                .with(&case.service().backend(other(case)));
            let world = streaming(case, world).backend(0, |backend| backend.flags = 0);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world)
                .step(goes_to(case, &packet, other(case)).counts(PacketEvent::Opened))
                .step(goes_to(case, &packet, other(case)))
        },
    },
    Row {
        name: "a UDP flow whose slot was given to another backend opens anew",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let world = streaming(case, case.balanced(1));
            let world = world.backend(0, |backend| backend.generation += 1);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(
                goes_to(case, &packet, case.backend(1))
                    .counts(PacketEvent::Opened)
                    .flows(&[case.to_local()]),
            )
        },
    },
    Row {
        name: "a UDP flow whose backend is gone stays when there is no other",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let gone = Service::new(SERVICE, case.protocol).backend(case.backend(1));
            let world = World::node().with(&gone).with(&case.service());
            let world = streaming(case, world).backend(0, |backend| backend.flags = 0);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world)
                .step(goes_to(case, &packet, case.backend(1)).flows(&[case.to_local().proven()]))
        },
    },
    Row {
        name: "TCP and SCTP flows stay with their backend whatever becomes of it",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp, Protocol::Sctp],
        script: |case| {
            let flow = case.to_local().proven();
            let world = case.balanced(1).flow(&flow, 0, 0);
            let world = world.backend(0, |backend| backend.flags = 0);
            let packet = case.proving(case.client(), case.vip());
            Script::new(world).step(goes_to(case, &packet, case.backend(1)).flows(&[flow]))
        },
    },
    Row {
        name: "packets to a frontend that was removed are nobody's",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let world = streaming(case, case.balanced(1)).without(case.vip(), case.protocol);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(Step::new(case.hook, &packet))
        },
    },
    Row {
        name: "a flow of a removed frontend ends where another frontend shares its filter bit",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: UDP,
        script: |case| {
            let mut world = streaming(case, case.balanced(1)).without(case.vip(), case.protocol);
            // A NodePort of the same number lets the packet past the filters.
            world
                .node_ports
                .insert((case.protocol as u8, case.vip().port()));
            let world = world.backend(0, |backend| backend.flags = 0);
            let packet = case.opening(case.client(), case.vip());
            Script::new(world).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
];
