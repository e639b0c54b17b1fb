//! What holds for all packets, in the host pipeline.

use std::net::SocketAddr;

use lb_ebpf::{
    abi::{FrontendFlags, FrontendKind, Protocol},
    packet::ETHERNET,
};
use lb_integration::packets::{
    flow::{Flow, Path},
    host,
    packet::{Body, Macs, Packet},
    script::{Hook, Outcome, Seen, Step},
    topology::{Family, NODE, Net},
    verify::sound,
    world::{SERVICE, SNAT_PORT, Service, World},
};
use proptest::{
    prelude::*,
    sample::{Index, select},
};

fn vip(family: Family) -> SocketAddr {
    Net::Vips.at(family, 1, 80)
}

fn backend(family: Family, node: u8) -> SocketAddr {
    Net::Pods(node).at(family, 5, 8080)
}

fn snat(family: Family) -> SocketAddr {
    Net::Uplink.at(family, NODE, SNAT_PORT)
}

fn client(family: Family) -> SocketAddr {
    Net::Clients.at(family, 7, 40_000)
}

/// A frontend at `at` with a backend at `to`.
fn served(protocol: Protocol, at: SocketAddr, to: SocketAddr, flags: u32) -> World {
    let service = Service::new(SERVICE, protocol)
        .frontend(at, FrontendKind::LoadBalancer)
        .flags(flags)
        .backend(to);
    World::node().with(&service)
}

fn family() -> impl Strategy<Value = Family> {
    select(Family::ALL.to_vec())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn hook() -> impl Strategy<Value = Hook> {
    select(Hook::ALL.to_vec())
}

/// A packet between two ends with anything in it.
fn packet(
    protocol: Protocol,
    src: SocketAddr,
    dst: SocketAddr,
) -> impl Strategy<Value = Packet> + use<> {
    let payload = prop::collection::vec(any::<u8>(), 0..1200);
    let numbers = any::<(u8, u32, u32, u16)>();
    (payload, numbers, 2u8.., any::<u16>()).prop_map(move |(payload, numbers, hops, id)| {
        let (flags, seq, ack, window) = numbers;
        let body = match protocol {
            Protocol::Tcp => Body::Tcp {
                flags,
                seq,
                ack,
                window,
                options: vec![1, 1, 8, 10, 0, 0, 0, flags, 0, 0, 0, 1],
            },
            Protocol::Udp => Body::Udp(true),
            Protocol::Sctp => Body::Sctp(flags),
        };
        let mut packet = Packet::new(src, dst, body).payload(&payload).hops(hops);
        packet.id = id;
        packet
    })
}

/// The same with a protocol and a family.
fn packet_to_vip() -> impl Strategy<Value = (Family, Protocol, Packet)> {
    (family(), protocol()).prop_flat_map(|(family, protocol)| {
        let packet = packet(protocol, client(family), vip(family));
        packet.prop_map(move |packet| (family, protocol, packet))
    })
}

fn run(world: &mut World, hook: Hook, frame: Vec<u8>) -> Seen {
    host::run(world, &Step::raw(hook, frame), 0)
}

/// Destination and source MAC of a frame.
fn macs(frame: &[u8]) -> Macs {
    let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
    (mac(0), mac(6))
}

proptest! {
    // Nothing to keep between runs: a case that fails is printed, and becomes a row.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn noise_goes_on_as_it_came(
        hook in hook(),
        family in family(),
        ethertype in select(vec![0x0800_u16, 0x86dd, 0x8100, 0x1234]),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut frame = [vec![2; ETHERNET - 2], ethertype.to_be_bytes().to_vec(), noise].concat();
        if frame.len() > ETHERNET {
            // Versions that fit are worth more attention.
            frame[ETHERNET] = frame[ETHERNET] & 0x0f | family.pick(0x40, 0x60);
        }
        let mut world = served(Protocol::Tcp, vip(family), backend(family, 2), 0);
        let seen = run(&mut world, hook, frame.clone());
        prop_assert_eq!(seen.outcome, Outcome::Pass);
        prop_assert_eq!(seen.frame, frame);
    }

    #[test]
    fn a_damaged_packet_of_a_flow_does_no_damage(
        hook in hook(),
        (family, protocol, packet) in packet_to_vip(),
        node in 1u8..=6,
        direct in any::<bool>(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<Index>()),
        inside in any::<bool>(),
    ) {
        let packet = if inside {
            packet.inside(Net::Uplink.host(family, 11), backend(family, 1).ip())
        } else {
            packet
        };
        let mut frame = packet.bytes();
        let headers = frame.len().min(120);
        for (at, value) in damage {
            let at = at.index(headers);
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()) + 1);
        }
        let flags = if direct { FrontendFlags::DSR } else { 0 };
        let to = backend(family, node);
        let flow = Flow::new(protocol, (client(family), vip(family)), (snat(family), to), Path::SNAT);
        let world = served(protocol, vip(family), to, flags);
        for mut world in [world.clone(), world.flow(&flow.answered(), 0, 1)] {
            let seen = run(&mut world, hook, frame.clone());
            if seen.outcome != Outcome::Drop && sound(&frame).is_ok() {
                let sound = sound(&seen.frame);
                prop_assert!(sound.is_ok(), "{:?}: {:02x?}", sound, seen.frame);
            }
            if hook == Hook::Xdp && seen.outcome == Outcome::Pass && node != 1 && !inside {
                prop_assert_eq!(&seen.frame, &frame, "XDP leaves a packet half done");
            }
        }
    }

    #[test]
    fn there_and_back_is_the_same_packet(
        hook in select(Hook::FROM_OUTSIDE.to_vec()),
        (family, protocol, packet) in packet_to_vip(),
    ) {
        let (client, vip, backend) = (client(family), vip(family), backend(family, 1));
        let there = Flow::new(protocol, (client, vip), (client, backend), Path::STACK).proven();
        let back = Flow::new(protocol, (client, backend), (client, vip), Path::STACK).proven();
        let mut world = served(protocol, vip, backend, 0).flow(&there, 0, 0);
        let seen = run(&mut world, hook, packet.bytes());
        prop_assert_eq!(seen.outcome, Outcome::Pass);
        prop_assert_eq!(&seen.frame, &packet.clone().between(client, backend).bytes());
        let mut world = served(protocol, backend, vip, 0).flow(&back, 0, 0);
        let seen = run(&mut world, hook, seen.frame);
        prop_assert_eq!(seen.frame, packet.bytes());
    }

    #[test]
    fn a_rewritten_packet_is_as_if_built_so(
        hook in select(Hook::FROM_OUTSIDE.to_vec()),
        (family, protocol, packet) in packet_to_vip(),
        port in 1u16..,
    ) {
        let (client, vip, backend) = (client(family), vip(family), backend(family, 2));
        let node = SocketAddr::new(snat(family).ip(), port);
        let flow = Flow::new(protocol, (client, vip), (node, backend), Path::SNAT).proven();
        let mut world = served(protocol, vip, backend, 0).flow(&flow, 0, 1);
        let seen = run(&mut world, hook, packet.bytes());
        let mut expected = packet.between(node, backend).hop();
        expected.macs = macs(&seen.frame);
        prop_assert!(matches!(seen.outcome, Outcome::Leaves(..)), "{:?}", seen.outcome);
        prop_assert_eq!(seen.frame, expected.bytes());
    }
}

#[test]
fn merged_segments_are_encapsulated_whatever_their_length() {
    // IPv6 does not count its header.
    for (family, uncounted) in [(Family::V4, 0), (Family::V6, 40)] {
        for len in [1000_usize, 65_000, 65_530, 100_000] {
            let (client, vip, to) = (client(family), vip(family), backend(family, 2));
            let mut packet = Packet::proving(Protocol::Tcp, client, vip).payload(&vec![7; len]);
            // What a header cannot state, it does not.
            packet.unstated = packet.ip().len() - uncounted > 0xffff;
            let mut world = served(Protocol::Tcp, vip, to, FrontendFlags::DSR);
            let step = Step::raw(Hook::Ingress, packet.bytes()).segments(80);
            let seen = host::run(&mut world, &step, 0);
            assert!(
                matches!(seen.outcome, Outcome::Leaves(..)),
                "{:?}",
                seen.outcome
            );
            let mut outer = packet.hop().inside(snat(family).ip(), to.ip());
            outer.unstated = outer.ip().len() - uncounted > 0xffff;
            outer.macs = macs(&seen.frame);
            assert!(seen.frame == outer.bytes(), "{family:?}, {len} bytes");
        }
    }
}

/// The port that a flow of UDP gets which `packet` opens.
fn chosen_port(world: &World, packet: &Packet, random: u32) -> u32 {
    let step = Step::raw(Hook::Ingress, packet.bytes());
    let mut world = world.clone();
    host::run(&mut world, &step, random);
    let halves = world.flows.half_open.values();
    let port = halves.map(|half| u32::from(half.src_port.get()));
    port.max().expect("a flow")
}

proptest! {
    // Many packets a case make up for few cases.
    #![proptest_config(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn chosen_ports_are_all_over_the_range_and_nowhere_else(
        family in family(),
        first in 1024_u32..60_000,
        count in 100_u32..2000,
        randoms in prop::collection::vec(any::<u32>(), 200),
    ) {
        let (client, vip, backend) = (client(family), vip(family), backend(family, 2));
        let packet = Packet::opening(Protocol::Udp, client, vip);
        let world = served(Protocol::Udp, vip, backend, 0).configured(|config| {
            (config.snat_first, config.snat_count) = (first, count);
        });
        let mut offsets = Vec::new();
        for random in randoms {
            let port = chosen_port(&world, &packet, random);
            offsets.extend(port.checked_sub(first));
        }
        prop_assert!(offsets.len() == 200 && offsets.iter().all(|offset| *offset < count));
        // Each quarter gets about fifty; none, once in 10^25 cases.
        for quarter in 0..4 {
            let taken = offsets.iter().any(|offset| offset * 4 / count == quarter);
            prop_assert!(taken, "nothing in quarter {}", quarter);
        }
    }

    #[test]
    fn a_client_whose_port_is_taken_gets_any_other_that_needs_no_privilege(
        family in family(),
        randoms in prop::collection::vec(any::<u32>(), 200),
    ) {
        const FIRST: u32 = 1024;
        let (client, vip, backend) = (client(family), vip(family), backend(family, 1));
        let other = Net::Vips.at(family, 2, 80);
        let packet = Packet::opening(Protocol::Udp, client, vip);
        let taken = Flow::new(Protocol::Udp, (client, other), (client, backend), Path::STACK);
        let world = served(Protocol::Udp, vip, backend, 0).flow(&taken.proven(), 0, 0);
        let mut quarters = [false; 4];
        for random in randoms {
            let port = chosen_port(&world, &packet, random);
            prop_assert!(port >= FIRST, "port {}", port);
            quarters[((port - FIRST) * 4 / (65_536 - FIRST)) as usize] = true;
        }
        prop_assert_eq!(quarters, [true; 4]);
    }
}
