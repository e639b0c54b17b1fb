//! Runs over tables in memory, with somebody who changes them at the worst moment.

use std::{cell::RefCell, collections::BTreeSet};

use lb_ebpf::abi::{ConntrackState, FrontendKey, Lifetime, Protocol, Scope};
use proptest::prelude::*;

use super::*;
use crate::{
    conntrack::table::tests::{FakeTable, flow, flow_of},
    plan::Retired,
};

const CLOCK: Clock = Clock {
    now: 1000,
    lifetimes: [60, 86_400, 3600, 10, 30, 180],
};
const PROVEN: u32 = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;

/// Stale are flows of these slots; those of them whose end was counted.
#[derive(Default)]
struct FakeBackends {
    stale: BTreeSet<u32>,
    closed: RefCell<Vec<u32>>,
}

impl Backends for FakeBackends {
    fn is_stale(&self, half: &ConntrackEntry) -> bool {
        self.stale.contains(&half.slot)
    }

    fn closed(&self, half: &ConntrackEntry) {
        self.closed.borrow_mut().push(half.slot);
    }
}

#[derive(Default)]
struct World {
    proven: FakeTable,
    half_open: FakeTable,
    backends: FakeBackends,
}

impl World {
    /// A run without suspects.
    fn sweep(&self) -> Report {
        self.sweep_after(&Parity::new(0)).0
    }

    fn sweep_after(&self, suspects: &Parity) -> (Report, Parity) {
        let tables = Tables {
            proven: &self.proven,
            half_open: &self.half_open,
        };
        let retired = RetiredFrontends::default();
        let sweep = Sweep::new(tables, &self.backends, CLOCK, suspects, retired);
        sweep.run().unwrap()
    }

    /// Two runs: the second knows what the first found odd.
    fn sweep_twice(&self) -> Report {
        let (_, suspects) = self.sweep_after(&Parity::new(0));
        self.sweep_after(&suspects).0
    }
}

/// Both halves of a flow, seen `ages` ticks ago.
fn aged(flow: &[Record; 2], ages: [u32; 2], state: u32) -> [Record; 2] {
    let mut ages = ages.into_iter();
    flow.map(|(key, entry)| {
        let last_seen = CLOCK.now - ages.next().unwrap();
        let entry = ConntrackEntry {
            last_seen,
            state,
            ..entry
        };
        (key, entry)
    })
}

fn proven(flows: impl IntoIterator<Item = [Record; 2]>) -> World {
    World {
        proven: FakeTable::of(flows.into_iter().flatten()),
        ..World::default()
    }
}

fn count(report: &Report, reason: Reason) -> u64 {
    report.deleted[reason.index()]
}

#[test]
fn both_halves_go_together_and_are_counted_once() {
    let over = aged(&flow(1), [700, 700], PROVEN | ConntrackState::FIN);
    let alive = aged(&flow(2), [700, 3], PROVEN | ConntrackState::FIN);
    let world = proven([over, alive]);
    let report = world.sweep();
    assert_eq!(count(&report, Reason::Idle(Lifetime::Closed)), 1);
    assert_eq!(report.deleted_flows(), 1);
    assert_eq!(report.proven.entries, 2);
    assert_eq!(*world.backends.closed.borrow(), [1]);
    let left: Vec<_> = world.proven.records.borrow().keys().copied().collect();
    assert_eq!(left.len(), 2);
    assert!(alive.iter().all(|(key, _)| left.contains(key)));
}

#[test]
fn a_flow_that_is_touched_while_it_is_judged_stays_whole() {
    for touched in 0..2 {
        let over = aged(&flow(1), [200, 200], PROVEN | ConntrackState::RST);
        let world = proven([over]);
        let key = over[touched].0;
        world.proven.before_take(move |records| {
            records.get_mut(&key).unwrap().last_seen = CLOCK.now;
        });
        let report = world.sweep();
        assert_eq!(report.deleted_flows(), 0);
        assert!((1..=2).contains(&report.revived), "{report:?}");
        assert_eq!(world.proven.len(), 2);
        assert_eq!(world.proven.records.borrow()[&key].last_seen, CLOCK.now);
        assert!(world.backends.closed.borrow().is_empty());
    }
}

#[test]
fn a_new_flow_of_the_same_tuple_is_not_overwritten_by_what_is_put_back() {
    let over = aged(&flow(1), [200, 200], PROVEN | ConntrackState::RST);
    let world = proven([over]);
    let key = over[0].0;
    let fresh = ConntrackEntry {
        created: CLOCK.now,
        last_seen: CLOCK.now,
        generation: 9,
        ..over[0].1
    };
    world.proven.before_take(move |records| {
        records.get_mut(&key).unwrap().last_seen += 1;
    });
    world.proven.after_take(move |records| {
        records.insert(key, fresh);
    });
    world.sweep();
    assert_eq!(world.proven.records.borrow()[&key], fresh);
}

#[test]
fn a_half_without_mate_is_mended_by_the_second_run() {
    for lost in 0..2 {
        let whole = aged(&flow(1), [20, 20], PROVEN);
        let world = proven([whole, aged(&flow(2), [20, 20], PROVEN)]);
        world.proven.records.borrow_mut().remove(&whole[lost].0);
        assert_eq!(world.sweep_twice().restored, 1);
        let records = world.proven.records.borrow();
        let (key, entry) = whole[1 - lost];
        assert_eq!(records[&whole[lost].0], entry.mirror(&key).1);
        assert!(entry.is_mate_of(&key, &records[&whole[lost].0]));
    }
}

#[test]
fn a_half_of_a_flow_that_is_over_is_not_mended_but_removed() {
    let over = aged(&flow(1), [200, 200], PROVEN | ConntrackState::RST);
    let world = proven([over]);
    world.proven.records.borrow_mut().remove(&over[0].0);
    let report = world.sweep();
    assert_eq!((report.deleted_flows(), report.restored), (1, 0));
    assert_eq!(world.proven.len(), 0);
}

#[test]
fn unanswered_halves_of_a_flood_are_left_to_eviction_and_expiry() {
    let [(key, entry), _] = flow(1);
    let unused = ConntrackEntry {
        created: CLOCK.now - 20,
        last_seen: CLOCK.now - 20,
        ..entry
    };
    let world = World {
        half_open: FakeTable::of([(key, unused)]),
        ..World::default()
    };
    assert_eq!(world.sweep_twice().restored, 0);
    let used = ConntrackEntry {
        last_seen: CLOCK.now - 10,
        ..unused
    };
    world.half_open.records.borrow_mut().insert(key, used);
    assert_eq!(world.sweep_twice().restored, 1);
}

#[test]
fn one_way_flows_have_no_mate_to_miss() {
    let [(key, entry), _] = flow(1);
    let one_way = |age| ConntrackEntry {
        flags: entry.flags | ConntrackFlags::ONE_WAY | ConntrackFlags::ENCAPSULATE,
        last_seen: CLOCK.now - age,
        ..entry
    };
    let world = World {
        half_open: FakeTable::of([(key, one_way(20))]),
        ..World::default()
    };
    let report = world.sweep_twice();
    assert_eq!((report.deleted_flows(), report.restored), (0, 0));
    world
        .half_open
        .records
        .borrow_mut()
        .insert(key, one_way(61));
    let report = world.sweep();
    assert_eq!(count(&report, Reason::Idle(Lifetime::HalfOpen)), 1);
}

#[test]
fn leftovers_of_a_promotion_go_and_the_flow_stays() {
    let alive = aged(&flow(1), [5, 5], PROVEN);
    let leftover = aged(&flow(1), [100, 100], 0);
    let world = World {
        half_open: FakeTable::of(leftover),
        ..proven([alive])
    };
    let report = world.sweep();
    assert_eq!(count(&report, Reason::Superseded), 2);
    assert_eq!((world.half_open.len(), world.proven.len()), (0, 2));
    assert!(world.backends.closed.borrow().is_empty());
}

#[test]
fn halves_in_different_tables_are_one_flow() {
    let [initiator, responder] = aged(&flow(1), [100, 20], 0);
    let world = World {
        half_open: FakeTable::of([initiator]),
        ..World::default()
    };
    world
        .proven
        .records
        .borrow_mut()
        .insert(responder.0, responder.1);
    let report = world.sweep_twice();
    assert_eq!((report.deleted_flows(), report.restored), (0, 0));
}

#[test]
fn udp_flows_of_stale_backends_go_and_tcp_and_sctp_flows_never() {
    for (protocol, flows) in [(Protocol::Tcp, 0), (Protocol::Udp, 1), (Protocol::Sctp, 0)] {
        let mut world = proven([aged(&flow_of(protocol, 1), [0, 0], PROVEN)]);
        world.backends.stale.insert(1);
        let report = world.sweep();
        assert_eq!(count(&report, Reason::StaleBackend), flows);
        assert_eq!(report.stale, [flows, 0]);
        assert_eq!(world.proven.len() as u64, 2 - 2 * flows);
    }
}

#[test]
fn traffic_does_not_save_a_stale_flow_but_a_new_backend_does() {
    let flow = aged(&flow_of(Protocol::Udp, 1), [0, 0], ConntrackState::REPLIED);
    let key = flow[0].0;
    for (new_slot, deleted) in [(1, 1), (2, 0)] {
        let mut world = proven([flow]);
        world.backends.stale.insert(1);
        world.proven.before_take(move |records| {
            for entry in records.values_mut() {
                entry.last_seen += 1;
                entry.slot = new_slot;
            }
        });
        assert_eq!(world.sweep().deleted_flows(), deleted);
        assert_eq!(
            world.proven.records.borrow().contains_key(&key),
            deleted == 0
        );
    }
}

#[test]
fn retired_frontends_are_reported_once_no_flow_uses_them() {
    let flow = aged(&flow(1), [5, 5], PROVEN);
    let used = FrontendKey {
        addr: flow[0].0.dst,
        port: flow[0].0.dst_port,
        protocol: Protocol::Tcp as u8,
        scope: Scope::External as u8,
    };
    let unused = FrontendKey {
        protocol: Protocol::Udp as u8,
        ..used
    };
    let world = proven([flow]);
    // The responder half alone tells it, too.
    world.proven.records.borrow_mut().remove(&flow[0].0);
    let tables = Tables {
        proven: &world.proven,
        half_open: &world.half_open,
    };
    let retired = |key| Retired { key, since: 1 };
    let frontends = RetiredFrontends::new([used, unused].map(retired));
    let suspects = Parity::new(0);
    let sweep = Sweep::new(tables, &world.backends, CLOCK, &suspects, frontends);
    assert_eq!(sweep.run().unwrap().0.unused, [retired(unused)]);
}

proptest! {
    /// What a run leaves is what a naive look at all pairs leaves.
    #[test]
    fn a_run_deletes_exactly_the_flows_that_have_ended(
        flows in prop::collection::vec(
            (prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
             prop::array::uniform2((0u32..400, 0u32..16))),
            0..40,
        ),
    ) {
        let mut wanted = BTreeSet::new();
        let mut records = Vec::new();
        for (number, (protocol, halves)) in (0..).zip(flows) {
            let [one, other] = flow_of(protocol, number);
            let set = |(key, entry): Record, (age, state): (u32, u32)| {
                (key, ConntrackEntry { last_seen: CLOCK.now - age, state, ..entry })
            };
            let (one, other) = (set(one, halves[0]), set(other, halves[1]));
            if CLOCK.ended(protocol as u8, &one.1, Some(&other.1)).is_none() {
                wanted.extend([one.0, other.0]);
            }
            records.extend([one, other]);
        }
        let world = World { proven: FakeTable::of(records), ..World::default() };
        let report = world.sweep();
        let left: BTreeSet<_> = world.proven.records.borrow().keys().copied().collect();
        prop_assert!(report.proven.entries as usize >= left.len());
        prop_assert!(report.proven.entries <= report.proven.found);
        prop_assert_eq!(left, wanted);
        prop_assert_eq!(report.restored, 0);
    }
}
