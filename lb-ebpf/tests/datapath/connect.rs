//! connect, getpeername and release.

use std::collections::HashMap;

use lb_ebpf::{
    abi::{
        AddressRange, BackendEntry, FrontendFlags, FrontendKind, NodeAddress, Port,
        ServiceRangeFlags, TableRef,
    },
    socket::{self, Verdict},
    tables::{
        BackendCounter::{Closed, Opened as BackendOpened},
        ServiceCounter::{Dropped, Opened, Refused, Untracked},
    },
};

use super::world::{BACKEND_PORT, Sock, World, addr, dialled, tcp};

const VIP: &str = "10.96.0.1";
const TWO: [&str; 2] = ["10.1.0.1", "10.1.0.2"];

#[test]
fn foreign_destination_passes_without_a_hash_lookup() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    let sock = Sock::new();
    let verdict = socket::connect(&world, &sock, &tcp("192.0.2.1"));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(world.lookups.get(), 0);
}

#[test]
fn filter_collision_costs_two_lookups_and_passes() {
    let mut world = World::default();
    let key = tcp("192.0.2.1");
    world.filter.insert(lb_ebpf::hash::filter_bit(&key));
    assert_eq!(socket::connect(&world, &Sock::new(), &key), Verdict::Pass);
    assert_eq!(world.lookups.get(), 2);
}

#[test]
fn another_port_or_protocol_of_a_vip_passes() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    let mut other = tcp(VIP);
    other.port = Port::new(81);
    let sock = Sock::new();
    assert_eq!(socket::connect(&world, &sock, &other), Verdict::Pass);
    let verdict = socket::connect(&world, &sock, &super::world::udp(VIP));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn a_frontend_with_source_ranges_is_left_to_the_packet_path() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    world.program(1, tcp(VIP), &[0, 1], FrontendFlags::SOURCE_RANGES, 0);
    let verdict = socket::connect(&world, &Sock::new(), &tcp(VIP));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(world.count(1, Opened), 0);
}

#[test]
fn g4_pods_leave_a_masquerading_frontend_to_the_packet_path_and_the_host_does_not() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    world.program(1, tcp(VIP), &[0, 1], FrontendFlags::MASQUERADE, 0);
    let verdict = |netns| {
        let sock = Sock::new().of_netns(netns);
        socket::connect(&world, &sock, &tcp(VIP))
    };
    let pod = verdict(super::world::HOST_NETNS + 1);
    assert_eq!(pod, Verdict::Pass);
    assert_eq!(world.count(1, Opened), 0);
    let host = verdict(super::world::HOST_NETNS);
    assert!(matches!(host, Verdict::Translate(..)), "{host:?}");
}

#[test]
fn vip_translates_to_each_backend_equally_often() {
    for count in [2, 3, 7] {
        let hosts: Vec<String> = (1..=count).map(|host| format!("10.1.0.{host}")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let mut world = World::default();
        world.serve(1, tcp(VIP), &hosts);
        let sock = Sock::new();
        let mut hits = HashMap::new();
        let rounds = 7000u32;
        for _ in 0..rounds {
            let (to, port) = sock.connect(&world, &tcp(VIP));
            assert_eq!(port.get(), BACKEND_PORT);
            *hits.entry(to).or_insert(0u32) += 1;
        }
        assert_eq!(hits.len(), hosts.len());
        let fair = f64::from(rounds) / f64::from(count);
        for (to, hits) in hits {
            // Five standard deviations of a binomial distribution.
            let off = (f64::from(hits) - fair).abs();
            assert!(off < 5.0 * fair.sqrt(), "{to:?} has {hits} of {fair}");
        }
        assert_eq!(world.count(1, Opened), u64::from(rounds));
    }
}

#[test]
fn empty_table_refuses_or_drops_as_the_flag_says() {
    let mut world = World::default();
    world.program(1, tcp(VIP), &[], 0, 0);
    world.program(2, tcp("10.96.0.2"), &[], FrontendFlags::DROP, 0);
    let sock = Sock::new();
    let verdict = socket::connect(&world, &sock, &tcp(VIP));
    assert_eq!(verdict, Verdict::Refuse);
    let verdict = socket::connect(&world, &sock, &tcp("10.96.0.2"));
    assert_eq!(verdict, Verdict::Drop);
    assert_eq!((world.count(1, Refused), world.count(1, Opened)), (1, 0));
    assert_eq!((world.count(2, Dropped), world.count(2, Opened)), (1, 0));
}

#[test]
fn drop_flag_does_not_matter_while_there_are_backends() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    world.program(1, tcp(VIP), &[0], FrontendFlags::DROP, 0);
    assert_eq!(Sock::new().connect(&world, &tcp(VIP)).0, addr(TWO[0]));
}

#[test]
fn value_of_another_key_is_looked_up_again() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO[..1]);
    world.serve(2, tcp("10.96.0.2"), &TWO[1..]);
    let other = world.services[&tcp("10.96.0.2")];
    world.torn.borrow_mut().push_back(other);
    assert_eq!(Sock::new().connect(&world, &tcp(VIP)).0, addr(TWO[0]));
    assert_eq!(world.lookups.get(), 2);
}

#[test]
fn value_that_is_torn_twice_counts_as_absent() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    let mut torn = world.services[&tcp(VIP)];
    torn.table = TableRef::new(0, 1);
    world.torn.borrow_mut().extend([torn, torn]);
    let verdict = socket::connect(&world, &Sock::new(), &tcp(VIP));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(world.lookups.get(), 2);
}

#[test]
fn vip_that_disappears_while_it_is_read_passes() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    let torn = world.services.remove(&tcp(VIP)).unwrap();
    let mut other = torn;
    other.service_id = 9;
    world.torn.borrow_mut().push_back(other);
    let verdict = socket::connect(&world, &Sock::new(), &tcp(VIP));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn peer_is_the_dialled_address() {
    for (vip, backend) in [(VIP, "10.1.0.1"), ("fd00::1", "fd01::1")] {
        let mut world = World::default();
        world.serve(1, tcp(vip), &[backend]);
        let sock = Sock::new();
        let (to, port) = sock.connect(&world, &tcp(vip));
        assert_eq!(to, addr(backend));
        let seen = socket::peer(&sock, to, port);
        assert_eq!(seen, Some(dialled(&tcp(vip))));
        // Not our translation: leave it.
        assert_eq!(socket::peer(&sock, to, Port::new(1)), None);
        assert_eq!(socket::peer(&sock, addr("192.0.2.1"), port), None);
    }
}

#[test]
fn connected_datagrams_come_from_the_dialled_address() {
    for (vip, backend) in [(VIP, "10.1.0.1"), ("fd00::1", "fd01::1")] {
        let mut world = World::default();
        world.serve(1, super::world::udp(vip), &[backend]);
        let sock = Sock::new();
        let to = sock.connect(&world, &super::world::udp(vip));
        assert_eq!(sock.receive(to), dialled(&tcp(vip)));
    }
}

#[test]
fn reconnect_elsewhere_forgets_the_flow_and_counts_it_closed() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO[..1]);
    let sock = Sock::new();
    let (to, port) = sock.connect(&world, &tcp(VIP));
    let verdict = socket::connect(&world, &sock, &tcp("192.0.2.1"));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(socket::peer(&sock, to, port), None);
    assert_eq!(world.backend_count(0, Closed), 1);
    socket::release(&world, &sock);
    assert_eq!(world.backend_count(0, Closed), 1, "counted once");
}

#[test]
fn release_counts_the_connection_closed() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO[..1]);
    let sock = Sock::new();
    sock.connect(&world, &tcp(VIP));
    assert_eq!(world.backend_count(0, BackendOpened), 1);
    assert_eq!(world.backend_count(0, Closed), 0);
    socket::release(&world, &sock);
    assert_eq!(world.backend_count(0, Closed), 1);
}

#[test]
fn slot_that_was_reused_is_not_counted_closed() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO[..1]);
    let sock = Sock::new();
    sock.connect(&world, &tcp(VIP));
    world.backends[0] = BackendEntry {
        generation: 2,
        ..world.backends[0]
    };
    socket::release(&world, &sock);
    assert_eq!(world.backend_count(0, Closed), 0);
}

#[test]
fn socket_that_never_used_a_vip_counts_nothing_when_it_closes() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    let sock = Sock::new();
    socket::connect(&world, &sock, &tcp("192.0.2.1"));
    socket::release(&world, &sock);
    assert_eq!(world.backend_count(0, Closed), 0);
}

#[test]
fn without_memory_the_connection_works_untracked() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO[..1]);
    let sock = Sock::new();
    sock.short_of_memory.set(true);
    let (to, port) = sock.connect(&world, &tcp(VIP));
    assert_eq!(to, addr(TWO[0]));
    assert_eq!(socket::peer(&sock, to, port), None);
    assert_eq!(world.count(1, Untracked), 1);
    assert_eq!(world.count(1, Opened), 1);
}

/// A ClusterIP with one port, in a range that is set aside for ClusterIPs.
fn guarded() -> World {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    world.vips.insert(addr(VIP), FrontendKind::ClusterIp.bit());
    let range = AddressRange::new(addr("10.96.0.0"), 96 + 12);
    world.service_ranges = vec![(range, ServiceRangeFlags::SERVICE_CIDR)];
    world
}

#[test]
fn e3_undefined_port_or_protocol_of_a_cluster_ip_is_refused() {
    let world = guarded();
    let sock = Sock::new();
    let mut other = tcp(VIP);
    other.port = Port::new(81);
    assert_eq!(socket::connect(&world, &sock, &other), Verdict::Refuse);
    let udp = super::world::udp(VIP);
    assert_eq!(socket::connect(&world, &sock, &udp), Verdict::Refuse);
    assert_eq!(socket::sendmsg(&world, &sock, &udp), Verdict::Refuse);
    let defined = socket::connect(&world, &sock, &tcp(VIP));
    assert!(matches!(defined, Verdict::Translate(..)));
}

#[test]
fn e3_address_of_a_service_cidr_that_no_service_has_is_dropped() {
    let mut world = guarded();
    let sock = Sock::new();
    let unallocated = tcp("10.96.0.9");
    assert_eq!(socket::connect(&world, &sock, &unallocated), Verdict::Drop);
    assert_eq!(socket::sendmsg(&world, &sock, &unallocated), Verdict::Drop);
    // Where ClusterIPs merely are, others may be, too.
    world.service_ranges[0].1 = 0;
    assert_eq!(socket::connect(&world, &sock, &unallocated), Verdict::Pass);
}

#[test]
fn e3_addresses_that_are_also_something_else_are_left_alone() {
    let mut world = guarded();
    let sock = Sock::new();
    let mut other = tcp(VIP);
    other.port = Port::new(81);
    for kind in [FrontendKind::LoadBalancer, FrontendKind::ExternalIp] {
        let kinds = FrontendKind::ClusterIp.bit() | kind.bit();
        world.vips.insert(addr(VIP), kinds);
        assert_eq!(socket::connect(&world, &sock, &other), Verdict::Pass);
    }
    let own = tcp("10.96.0.9");
    world.node_addresses.insert(own.addr, NodeAddress::LOCAL);
    assert_eq!(socket::connect(&world, &sock, &own), Verdict::Pass);
}

#[test]
fn f9_by_source_a_pods_socket_leaves_frontends_with_two_scopes_to_packets() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &TWO);
    world.program(
        2,
        tcp("10.96.0.2"),
        &[0],
        FrontendFlags::EXTERNAL_DIFFERS,
        0,
    );
    world.local_by_source = true;
    let split = tcp("10.96.0.2");
    let mut sock = Sock::new();
    sock.netns = super::world::HOST_NETNS + 1;
    assert_eq!(socket::connect(&world, &sock, &split), Verdict::Pass);
    let one = socket::connect(&world, &sock, &tcp(VIP));
    assert!(matches!(one, Verdict::Translate(..)), "one scope: as ever");
    sock.netns = super::world::HOST_NETNS;
    let host = socket::connect(&world, &sock, &split);
    assert!(matches!(host, Verdict::Translate(..)), "the host is no pod");
}

#[test]
fn e11_all_of_127_is_the_loopback_of_the_host() {
    let mut world = World::default();
    let mut node_port = tcp("0.0.0.0");
    node_port.port = Port::new(30_080);
    world.serve(1, node_port, &TWO);
    world
        .node_ports
        .insert((node_port.protocol, node_port.port));
    world.node_addresses.insert(
        addr("127.0.0.1"),
        NodeAddress::LOCAL | NodeAddress::LOOPBACK,
    );
    let mut sock = Sock::new();
    for (netns, served) in [
        (super::world::HOST_NETNS, true),
        (super::world::HOST_NETNS + 1, false),
    ] {
        sock.netns = netns;
        for ip in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
            let mut key = tcp(ip);
            key.port = node_port.port;
            let verdict = socket::connect(&world, &sock, &key);
            assert_eq!(matches!(verdict, Verdict::Translate(..)), served, "{ip}");
        }
        let mut elsewhere = tcp("192.0.2.1");
        elsewhere.port = node_port.port;
        assert_eq!(socket::connect(&world, &sock, &elsewhere), Verdict::Pass);
    }
}
