//! Session affinity.

use lb_ebpf::{
    abi::{Addr, BackendFlags, FrontendFlags, FrontendKey},
    tables::ServiceCounter::AffinityHit,
};

use super::world::{MEMBER, Sock, World, addr, tcp};

const VIP: &str = "10.96.0.1";
const TIMEOUT: u32 = 100;

/// Enough backends that a fresh choice meets the old one rarely.
fn world(flags: u32) -> World {
    let hosts: Vec<String> = (0..200).map(|host| format!("10.1.0.{host}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut world = World::default();
    world.serve(1, tcp(VIP), &hosts);
    let all: Vec<u32> = (0..200).collect();
    world.program(1, tcp(VIP), &all, flags, TIMEOUT);
    world
}

fn backend(sock: &Sock, world: &World, key: &FrontendKey) -> Addr {
    sock.connect(world, key).0
}

#[test]
fn client_stays_with_its_backend_and_other_clients_do_not_join_it() {
    let world = world(0);
    let first = backend(&Sock::seeded(1), &world, &tcp(VIP));
    for seed in 2..50 {
        assert_eq!(backend(&Sock::seeded(seed), &world, &tcp(VIP)), first);
    }
    assert_eq!(world.count(1, AffinityHit), 48);
    let elsewhere = (0..10).filter(|netns| {
        let other = Sock::seeded(*netns).of_netns(100 + netns);
        backend(&other, &world, &tcp(VIP)) != first
    });
    assert!(elsewhere.count() >= 9);
}

#[test]
fn cookie_is_compared_in_full() {
    let world = world(0);
    let sock = Sock::seeded(1).of_netns(1);
    let high = Sock::seeded(2).of_netns(1 | 1 << 32);
    assert_ne!(
        backend(&sock, &world, &tcp(VIP)),
        backend(&high, &world, &tcp(VIP))
    );
}

#[test]
fn every_new_connection_restarts_the_timeout() {
    let world = world(0);
    let sock = Sock::new();
    let first = backend(&sock, &world, &tcp(VIP));
    for _ in 0..20 {
        sock.wait(u64::from(TIMEOUT) - 1);
        assert_eq!(backend(&sock, &world, &tcp(VIP)), first);
    }
}

#[test]
fn affinity_ends_with_the_timeout() {
    let world = world(0);
    let sock = Sock::new();
    let first = backend(&sock, &world, &tcp(VIP));
    sock.wait(u64::from(TIMEOUT));
    assert_ne!(backend(&sock, &world, &tcp(VIP)), first);
    assert_eq!(world.count(1, AffinityHit), 0);
}

/// Makes a first connection, changes its backend's slot, and connects again.
fn after(change: impl FnOnce(&mut World, usize)) -> (bool, u64) {
    let mut world = world(0);
    let sock = Sock::new();
    let to = sock.connect(&world, &tcp(VIP));
    let slot = world.slot_at(to) as usize;
    change(&mut world, slot);
    let again = backend(&sock, &world, &tcp(VIP));
    (again == to.0, world.count(1, AffinityHit))
}

#[test]
fn backend_outside_the_set_is_chosen_anew() {
    let left = |world: &mut World, slot: usize| {
        world.backends[slot].flags &= !BackendFlags::IN_CLUSTER_SET;
    };
    assert_eq!(after(left), (false, 0));
}

#[test]
fn freed_slot_is_chosen_anew() {
    assert_eq!(
        after(|world, slot| world.backends[slot].flags = 0),
        (false, 0)
    );
}

#[test]
fn reused_slot_is_chosen_anew() {
    let reused = |world: &mut World, slot: usize| {
        world.backends[slot].generation += 1;
        world.backends[slot].addr = addr("10.9.9.9");
    };
    assert_eq!(after(reused), (false, 0));
}

#[test]
fn slot_of_another_service_is_chosen_anew() {
    let moved = |world: &mut World, slot: usize| world.backends[slot].service_id = 2;
    assert_eq!(after(moved).1, 0);
}

#[test]
fn backend_that_only_stops_being_ready_is_kept() {
    let unready = |world: &mut World, slot: usize| {
        world.backends[slot].flags &= !BackendFlags::READY;
    };
    assert_eq!(after(unready), (true, 1));
}

#[test]
fn local_frontend_asks_for_the_local_set() {
    let mut world = world(FrontendFlags::LOCAL_SET);
    let sock = Sock::new();
    let to = sock.connect(&world, &tcp(VIP));
    let slot = world.slot_at(to) as usize;
    // The first choice came from the table; the slot carries the cluster flag only.
    sock.connect(&world, &tcp(VIP));
    assert_eq!(world.count(1, AffinityHit), 0);
    world.affinity.borrow_mut().clear();
    for backend in &mut world.backends {
        backend.flags = MEMBER & !BackendFlags::IN_CLUSTER_SET | BackendFlags::IN_LOCAL_SET;
    }
    let first = backend(&sock, &world, &tcp(VIP));
    assert_eq!(backend(&sock, &world, &tcp(VIP)), first);
    assert_eq!(world.count(1, AffinityHit), 1);
    assert!(slot < 200);
}

#[test]
fn services_do_not_share_affinity() {
    let mut world = world(0);
    let all: Vec<u32> = (0..200).collect();
    world.program(2, tcp("10.96.0.2"), &all, 0, TIMEOUT);
    let sock = Sock::new();
    let first = backend(&sock, &world, &tcp(VIP));
    assert_ne!(backend(&sock, &world, &tcp("10.96.0.2")), first);
}

#[test]
fn frontends_of_one_service_share_affinity() {
    let mut world = world(0);
    let all: Vec<u32> = (0..200).collect();
    world.program(1, tcp("192.0.2.7"), &all, 0, TIMEOUT);
    let sock = Sock::new();
    let first = backend(&sock, &world, &tcp(VIP));
    assert_eq!(backend(&sock, &world, &tcp("192.0.2.7")), first);
}

#[test]
fn without_affinity_nothing_is_remembered() {
    let mut world = World::default();
    world.serve(1, tcp(VIP), &["10.1.0.1"]);
    Sock::new().connect(&world, &tcp(VIP));
    assert!(world.affinity.borrow().is_empty());
}

#[test]
fn empty_table_with_affinity_refuses_and_remembers_nothing() {
    let mut world = World::default();
    world.program(1, tcp(VIP), &[], 0, TIMEOUT);
    let verdict = lb_ebpf::socket::connect(&world, &Sock::new(), &tcp(VIP));
    assert_eq!(verdict, lb_ebpf::socket::Verdict::Refuse);
    assert!(world.affinity.borrow().is_empty());
}
