//! Unconnected UDP sockets: sendmsg, recvmsg and release.

use lb_ebpf::{
    abi::{BackendFlags, DATAGRAM_FLOWS},
    socket::{self, Verdict},
    tables::{
        BackendCounter::{Closed, Opened as BackendOpened},
        ServiceCounter::{Opened, Refused, SharedBackend, Untracked},
    },
};

use super::world::{Sock, World, addr, dialled, udp};

const VIP: &str = "10.96.0.10";
const THREE: [&str; 3] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];

fn vip(number: usize) -> String {
    format!("10.96.1.{number}")
}

/// A service with one backend of its own at each of `count` VIPs.
fn many(count: usize) -> World {
    let mut world = World::default();
    for number in 0..count {
        let backend = format!("10.1.1.{number}");
        world.serve(number as u32, udp(&vip(number)), &[&backend]);
    }
    world
}

#[test]
fn foreign_datagram_passes_without_a_hash_lookup() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE);
    let sock = Sock::new();
    let verdict = socket::sendmsg(&world, &sock, &udp("192.0.2.1"));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(world.lookups.get(), 0);
}

#[test]
fn later_datagrams_follow_the_first_without_a_lookup() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE);
    let sock = Sock::new();
    let first = sock.send(&world, &udp(VIP));
    for _ in 0..100 {
        assert_eq!(sock.send(&world, &udp(VIP)), first);
    }
    assert_eq!(world.lookups.get(), 1);
    assert_eq!(world.count(1, Opened), 1, "one flow, one connection");
}

#[test]
fn replies_come_from_the_dialled_address() {
    for (vip, backend) in [(VIP, "10.1.0.1"), ("fd00::a", "fd01::1")] {
        let mut world = World::default();
        world.serve(1, udp(vip), &[backend]);
        let sock = Sock::new();
        let to = sock.send(&world, &udp(vip));
        assert_eq!(to.0, addr(backend));
        assert_eq!(sock.receive(to), dialled(&udp(vip)));
        let stranger = (addr("192.0.2.1"), to.1);
        assert_eq!(sock.receive(stranger), stranger);
    }
}

#[test]
fn flow_stays_while_its_backend_serves_whatever_else_changes() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE);
    let sock = Sock::new();
    let first = sock.send(&world, &udp(VIP));
    let slot = world.slot_at(first);
    // Out of every set and of the table, terminating, but serving.
    world.backends[slot as usize].flags =
        BackendFlags::USED | BackendFlags::SERVING | BackendFlags::TERMINATING;
    let others: Vec<u32> = (0..3).filter(|other| *other != slot).collect();
    world.program(1, udp(VIP), &others, 0, 0);
    assert_eq!(sock.send(&world, &udp(VIP)), first);
    world.program(1, udp(VIP), &[], 0, 0);
    assert_eq!(sock.send(&world, &udp(VIP)), first);
    assert_eq!(world.backend_count(slot, Closed), 0);
}

/// The flow's backend changes so that the flow must move.
fn moves_after(change: impl FnOnce(&mut World, usize)) -> World {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE);
    let sock = Sock::new();
    let first = sock.send(&world, &udp(VIP));
    let slot = world.slot_at(first);
    change(&mut world, slot as usize);
    let others: Vec<u32> = (0..3).filter(|other| *other != slot).collect();
    world.program(1, udp(VIP), &others, 0, 0);
    let second = sock.send(&world, &udp(VIP));
    assert_ne!(second, first);
    assert_eq!(sock.receive(second), dialled(&udp(VIP)));
    assert_eq!(sock.receive(first), first, "that flow is over");
    assert_eq!(world.count(1, Opened), 2);
    world
}

#[test]
fn flow_moves_when_its_backend_stops_serving() {
    let world = moves_after(|world, slot| {
        world.backends[slot].flags &= !(BackendFlags::READY | BackendFlags::SERVING);
    });
    let closed: u64 = (0..3).map(|slot| world.backend_count(slot, Closed)).sum();
    assert_eq!(closed, 1);
}

#[test]
fn flow_moves_when_its_slot_is_free() {
    moves_after(|world, slot| world.backends[slot].flags = 0);
}

#[test]
fn flow_moves_when_its_slot_is_reused_and_counts_nothing_there() {
    let world = moves_after(|world, slot| {
        world.backends[slot].generation += 1;
        world.backends[slot].addr = addr("10.9.9.9");
    });
    let closed: u64 = (0..3).map(|slot| world.backend_count(slot, Closed)).sum();
    assert_eq!(closed, 0);
}

#[test]
fn flow_without_any_backend_left_is_refused() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE[..1]);
    let sock = Sock::new();
    sock.send(&world, &udp(VIP));
    world.backends[0].flags = 0;
    world.program(1, udp(VIP), &[], 0, 0);
    let verdict = socket::sendmsg(&world, &sock, &udp(VIP));
    assert_eq!(verdict, Verdict::Refuse);
    assert_eq!(world.count(1, Refused), 1);
}

#[test]
fn datagrams_to_a_removed_service_pass() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE[..1]);
    let sock = Sock::new();
    sock.send(&world, &udp(VIP));
    world.backends[0].flags = 0;
    world.services.clear();
    // The filter's bit may be shared with another frontend.
    let verdict = socket::sendmsg(&world, &sock, &udp(VIP));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn eight_vips_keep_their_flows_and_the_ninth_displaces_the_oldest() {
    let world = many(DATAGRAM_FLOWS + 1);
    let sock = Sock::new();
    let first: Vec<_> = (0..DATAGRAM_FLOWS)
        .map(|number| sock.send(&world, &udp(&vip(number))))
        .collect();
    for (number, to) in first.iter().enumerate() {
        assert_eq!(sock.receive(*to), dialled(&udp(&vip(number))));
    }
    sock.send(&world, &udp(&vip(DATAGRAM_FLOWS)));
    assert_eq!(sock.receive(first[0]), first[0], "forgotten");
    assert_eq!(world.backend_count(0, Closed), 1);
    for (number, to) in first.iter().enumerate().skip(1) {
        assert_eq!(sock.receive(*to), dialled(&udp(&vip(number))));
    }
}

#[test]
fn flow_that_moves_displaces_no_other() {
    let mut world = many(DATAGRAM_FLOWS);
    let sock = Sock::new();
    for number in 0..DATAGRAM_FLOWS {
        sock.send(&world, &udp(&vip(number)));
    }
    world.backends[5].flags = 0;
    world.serve(5, udp(&vip(5)), &["10.1.2.5"]);
    let moved = sock.send(&world, &udp(&vip(5)));
    assert_eq!(moved.0, addr("10.1.2.5"));
    for number in (0..DATAGRAM_FLOWS).filter(|number| *number != 5) {
        let backend = &world.backends[number];
        let seen = sock.receive((backend.addr, backend.port));
        assert_eq!(seen, dialled(&udp(&vip(number))));
    }
}

#[test]
fn two_vips_with_a_common_backend_use_different_ones() {
    for seed in 1..200 {
        let mut world = World::default();
        world.serve(1, udp(&vip(1)), &THREE);
        world.serve(2, udp(&vip(2)), &THREE[..2]);
        let sock = Sock::seeded(seed);
        let (one, two) = (
            sock.send(&world, &udp(&vip(1))),
            sock.send(&world, &udp(&vip(2))),
        );
        assert_ne!(one, two);
        assert_eq!(sock.receive(one), dialled(&udp(&vip(1))));
        assert_eq!(sock.receive(two), dialled(&udp(&vip(2))));
        assert_eq!(world.count(2, SharedBackend), 0);
    }
}

#[test]
fn unavoidably_shared_backend_shows_the_vip_used_last() {
    let mut world = World::default();
    world.serve(1, udp(&vip(1)), &THREE[..1]);
    world.serve(2, udp(&vip(2)), &THREE[..1]);
    let sock = Sock::new();
    let shared = sock.send(&world, &udp(&vip(1)));
    assert_eq!(sock.send(&world, &udp(&vip(2))), shared);
    assert_eq!(world.count(2, SharedBackend), 1);
    assert_eq!(sock.receive(shared), dialled(&udp(&vip(2))));
    for number in [1, 2, 2, 1] {
        assert_eq!(sock.send(&world, &udp(&vip(number))), shared);
        assert_eq!(sock.receive(shared), dialled(&udp(&vip(number))));
    }
}

#[test]
fn affinity_outranks_different_backends() {
    let mut world = World::default();
    world.serve(1, udp(&vip(1)), &THREE[..1]);
    world.serve(2, udp(&vip(2)), &THREE);
    world.program(2, udp(&vip(2)), &[1], 0, 100);
    let sticky = Sock::new();
    assert_eq!(sticky.send(&world, &udp(&vip(2))).0, addr(THREE[0]));
    world.program(2, udp(&vip(2)), &[1, 2, 3], 0, 100);
    let sock = Sock::new();
    let shared = sock.send(&world, &udp(&vip(1)));
    assert_eq!(sock.send(&world, &udp(&vip(2))), shared);
    assert_eq!(sock.receive(shared), dialled(&udp(&vip(2))));
}

#[test]
fn release_counts_every_flow_closed() {
    let world = many(5);
    let sock = Sock::new();
    for number in 0..5 {
        sock.send(&world, &udp(&vip(number)));
        sock.send(&world, &udp(&vip(number)));
    }
    socket::release(&world, &sock);
    for slot in 0..5 {
        assert_eq!(world.backend_count(slot, BackendOpened), 1);
        assert_eq!(world.backend_count(slot, Closed), 1);
    }
}

#[test]
fn without_memory_datagrams_are_translated_untracked() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &THREE[..1]);
    let sock = Sock::new();
    sock.short_of_memory.set(true);
    let to = sock.send(&world, &udp(VIP));
    assert_eq!(to.0, addr(THREE[0]));
    assert_eq!(world.count(1, Untracked), 1);
    assert_eq!(sock.receive(to), to);
}

#[test]
fn a_flow_that_has_ended_shows_no_vip() {
    let mut world = World::default();
    world.serve(1, udp(VIP), &["10.1.0.1"]);
    let sock = Sock::new();
    let to = sock.send(&world, &udp(VIP));
    world.backends[0].flags = BackendFlags::USED;
    world.program(1, udp(VIP), &[], 0, 0);
    assert_eq!(socket::sendmsg(&world, &sock, &udp(VIP)), Verdict::Refuse);
    assert_eq!(sock.receive(to), to);
}

#[test]
fn of_two_vips_with_one_backend_the_last_dialled_is_shown_whatever_else_is_sent() {
    let mut world = many(1);
    world.serve(10, udp("10.96.2.1"), &["10.1.2.1"]);
    world.serve(11, udp("10.96.2.2"), &["10.1.2.1"]);
    let sock = Sock::new();
    sock.send(&world, &udp(&vip(0)));
    sock.send(&world, &udp("10.96.2.1"));
    let backend = sock.send(&world, &udp("10.96.2.2"));
    sock.send(&world, &udp(&vip(0)));
    assert_eq!(sock.receive(backend), dialled(&udp("10.96.2.2")));
}
