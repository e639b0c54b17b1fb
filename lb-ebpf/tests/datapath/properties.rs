//! Any sequence of operations on one socket, with the world changing under it.

use std::collections::HashSet;

use lb_ebpf::{
    abi::{Addr, BackendEntry, BackendFlags, FrontendKey, Port},
    socket::{self, Verdict},
    tables::{BackendCounter, ServiceCounter},
};
use proptest::{collection::vec, prelude::*};

use super::world::{BACKEND_PORT, MEMBER, Sock, World, dialled, udp};

const VIPS: usize = 10;
const BACKENDS: usize = 12;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Connect(usize),
    ConnectElsewhere,
    /// A backend gets these flags.
    Flags(usize, u32),
    /// A slot is given to another endpoint.
    Reuse(usize),
    /// A service's table becomes these slots.
    Table(usize, Vec<u32>),
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop::sample::select(vec![0, MEMBER, BackendFlags::USED]);
    prop_oneof![
        6 => (0..VIPS).prop_map(Op::Send),
        1 => (0..VIPS).prop_map(Op::Connect),
        1 => Just(Op::ConnectElsewhere),
        2 => (0..BACKENDS, flags).prop_map(|(slot, flags)| Op::Flags(slot, flags)),
        1 => (0..BACKENDS).prop_map(Op::Reuse),
        2 => (0..VIPS, vec(0..BACKENDS as u32, 0..4)).prop_map(|(vip, slots)| Op::Table(vip, slots)),
    ]
}

fn vip(number: usize) -> FrontendKey {
    udp(&format!("10.96.0.{number}"))
}

fn host(number: usize) -> Addr {
    super::world::addr(&format!("10.1.0.{number}"))
}

fn everyone(reused: usize) -> Vec<(Addr, Port)> {
    let port = Port::new(BACKEND_PORT);
    let old = (0..BACKENDS + reused).map(|number| (host(number), port));
    old.chain([(super::world::addr("192.0.2.1"), port)])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever address a datagram comes from, the application sees that address or a
    /// VIP that it dialled on this socket; the reply to the datagram just sent shows
    /// its VIP; a datagram only ever goes to the present table's members or to the
    /// flow's serving backend; and in the end as much is closed as was opened.
    #[test]
    fn only_dialled_vips_are_shown(ops in vec(op(), 1..80)) {
        let mut world = World::default();
        for number in 0..BACKENDS {
            world.backends.push(BackendEntry {
                addr: host(number),
                port: Port::new(BACKEND_PORT),
                flags: MEMBER,
                service_id: 0,
                generation: 1,
                ..BackendEntry::FREE
            });
        }
        for number in 0..VIPS {
            let slots = [number as u32, number as u32 + 1, number as u32 + 2];
            world.program(number as u32, vip(number), &slots, 0, 0);
        }
        let sock = Sock::new();
        let mut shown: HashSet<(Addr, Port)> = HashSet::new();
        let mut reused = 0;
        for op in ops {
            match op {
                Op::Send(number) => {
                    let key = vip(number);
                    match socket::sendmsg(&world, &sock, &key) {
                        Verdict::Translate(addr, port) => {
                            shown.insert(dialled(&key));
                            prop_assert_eq!(sock.receive((addr, port)), dialled(&key));
                        }
                        Verdict::Refuse => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Op::Connect(number) => {
                    let key = vip(number);
                    if let Verdict::Translate(addr, port) = socket::connect(&world, &sock, &key) {
                        shown.insert(dialled(&key));
                        prop_assert_eq!(socket::peer(&sock, addr, port), Some(dialled(&key)));
                    } else {
                        prop_assert_eq!(socket::peer(&sock, host(0), key.port), None);
                    }
                }
                Op::ConnectElsewhere => {
                    let verdict = socket::connect(&world, &sock, &udp("192.0.2.1"));
                    prop_assert_eq!(verdict, Verdict::Pass);
                }
                Op::Flags(slot, flags) => world.backends[slot].flags = flags,
                Op::Reuse(slot) => {
                    world.backends[slot].generation += 1;
                    world.backends[slot].addr = host(BACKENDS + reused);
                    reused += 1;
                }
                Op::Table(number, slots) => {
                    world.program(number as u32, vip(number), &slots, 0, 0);
                }
            }
            for from in everyone(reused) {
                let seen = sock.receive(from);
                prop_assert!(seen == from || shown.contains(&seen), "{:?} as {:?}", from, seen);
            }
        }
        let opened: u64 = (0..VIPS as u32)
            .map(|id| world.count(id, ServiceCounter::Opened))
            .sum();
        socket::release(&world, &sock);
        let closed: u64 = (0..BACKENDS as u32)
            .map(|slot| world.backend_count(slot, BackendCounter::Closed))
            .sum();
        if reused == 0 {
            prop_assert_eq!(closed, opened);
        } else {
            prop_assert!(closed <= opened);
        }
    }
}
