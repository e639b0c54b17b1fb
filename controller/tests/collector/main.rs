//! The collector of flows, on the real kernel's maps.
//!
//! The tests write the records that programs would, so no packet is needed. Most of them
//! run on a clock of their own: what happens does not depend on how busy the machine is.

mod flows;
mod node;

/// Needs root; `cargo xtask test --no-netns` leaves out what has this in its path.
mod netns {
    use std::{
        sync::atomic::{AtomicBool, AtomicU32, Ordering},
        thread,
        time::{Duration, Instant},
    };

    use lb_controller::{
        conntrack::{
            Clock, Collector, FlowTable, Parity, Programmed, Reason, Report, RetiredFrontends,
            Sweep, Tables,
        },
        maps::Maps,
        pins::Pins,
        plan::Retired,
    };
    use lb_ebpf::abi::{ConntrackEntry, ConntrackState, Lifetime, Protocol};
    use tokio::sync::mpsc;

    use crate::{
        flows::{NO_SLOT, Table, flow, frontend, insert, is_there, seen},
        node::Node,
    };

    const PATIENCE: Duration = Duration::from_secs(60);
    const PROVEN: u32 = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;
    const LIFETIMES: [u32; Lifetime::COUNT] = [60, 86_400, 3600, 10, 30, 180];

    fn sweep(
        maps: &Maps,
        now: u32,
        lifetimes: [u32; Lifetime::COUNT],
        suspects: &Parity,
    ) -> (Report, Parity) {
        let tables = Tables {
            proven: &maps.conntrack,
            half_open: &maps.half_open,
        };
        let backends = Programmed::new(maps);
        let clock = Clock { now, lifetimes };
        let sweep = Sweep::new(
            tables,
            &backends,
            clock,
            suspects,
            RetiredFrontends::default(),
        );
        sweep.run().expect("the maps can be read")
    }

    fn sweep_at(maps: &Maps, now: u32) -> Report {
        sweep(maps, now, LIFETIMES, &Parity::new(0)).0
    }

    #[test]
    fn both_halves_of_an_ended_flow_go_and_the_backend_counts_it_once() {
        let mut node = Node::new();
        node.endpoints(&["10.244.0.1"]);
        let maps = node.maps();
        let slot = node.slot("10.244.0.1", Protocol::Tcp);
        let opened = maps.backend_stats.get(slot.index).closed;
        for table in [&maps.conntrack, &maps.half_open] {
            let over = seen(
                &flow(Protocol::Tcp, 1, slot),
                100,
                PROVEN | ConntrackState::FIN,
            );
            let alive = seen(&flow(Protocol::Tcp, 2, slot), 100, PROVEN);
            insert(table, &over);
            insert(table, &alive);
            let report = sweep_at(maps, 111);
            assert_eq!(report.deleted[Reason::Idle(Lifetime::Closed).index()], 1);
            assert_eq!(report.deleted_flows(), 1);
            assert!(over.iter().all(|record| !is_there(table, record)));
            assert!(alive.iter().all(|record| is_there(table, record)));
            for (key, _) in &alive {
                table.take(key).expect("an element of the test");
            }
        }
        assert_eq!(maps.backend_stats.get(slot.index).closed, opened + 2);
    }

    #[test]
    fn a_lost_half_comes_back_and_leads_to_the_other() {
        let node = Node::new();
        let maps = node.maps();
        let whole = seen(&flow(Protocol::Tcp, 1, NO_SLOT), 100, PROVEN);
        for lost in 0..2 {
            insert(&maps.conntrack, &whole);
            maps.conntrack
                .take(&whole[lost].0)
                .expect("an element of the test");
            let (_, suspects) = sweep(maps, 110, LIFETIMES, &Parity::new(0));
            assert_eq!(sweep(maps, 110, LIFETIMES, &suspects).0.restored, 1);
            let (key, entry) = whole[1 - lost];
            let mate = maps.conntrack.get(&whole[lost].0).expect("readable");
            let mate = mate.expect("the half is there again");
            assert!(entry.is_mate_of(&key, &mate));
            assert!(mate.belongs_to(&whole[lost].0));
        }
    }

    #[test]
    fn udp_flows_leave_a_gone_backend_only_if_another_serves() {
        let mut node = Node::new();
        node.endpoints(&["10.244.0.1", "10.244.0.2"]);
        let [one, two] = ["10.244.0.1", "10.244.0.2"].map(|ip| node.slot(ip, Protocol::Udp));
        let flows = [
            seen(&flow(Protocol::Udp, 1, one), 100, PROVEN),
            seen(&flow(Protocol::Udp, 2, two), 100, PROVEN),
            seen(&flow(Protocol::Tcp, 1, one), 100, PROVEN),
        ];
        for flow in &flows {
            insert(&node.maps().conntrack, flow);
        }
        let there = |node: &Node| {
            flows.map(|flow| {
                flow.iter()
                    .filter(|half| is_there(&node.maps().conntrack, half))
                    .count()
            })
        };
        assert_eq!(sweep_at(node.maps(), 101).deleted_flows(), 0);

        assert!(node.endpoints(&["10.244.0.2"]).len() == 1);
        let report = sweep_at(node.maps(), 101);
        assert_eq!(report.deleted[Reason::StaleBackend.index()], 1);
        assert_eq!(report.stale, [1, 0]);
        assert_eq!(there(&node), [0, 2, 2]);

        assert!(node.endpoints(&[]).len() == 1);
        assert_eq!(sweep_at(node.maps(), 101).deleted_flows(), 0);
        assert_eq!(there(&node), [0, 2, 2]);

        node.endpoints(&["10.244.0.3"]);
        assert_eq!(sweep_at(node.maps(), 101).deleted_flows(), 1);
        assert_eq!(there(&node), [0, 0, 2]);
    }

    /// Flows that packets touch in every tick, some that are touched now and then, and
    /// some that are not; swept without a pause with lifetimes of one tick.
    #[test]
    fn no_touched_flow_is_lost_and_none_is_left_in_half_by_sweeps_in_a_tight_loop() {
        const TICKS: u32 = 300;
        let node = Node::new();
        let maps = node.maps();
        let lifetimes = [1; Lifetime::COUNT];
        let made = |from: u32| {
            let flows =
                (from..from + 50).map(|n| seen(&flow(Protocol::Tcp, n, NO_SLOT), 0, PROVEN));
            flows.collect::<Vec<_>>()
        };
        let (alive, flapping, idle) = (made(0), made(1000), made(2000));
        for flow in alive.iter().chain(&flapping).chain(&idle) {
            insert(&maps.conntrack, flow);
        }
        let (now, done) = (AtomicU32::new(0), AtomicBool::new(false));
        let touch = |table: &Table, flows: &[[(_, ConntrackEntry); 2]], tick| {
            for (key, _) in flows.iter().flatten() {
                if let Some(entry) = table.get(key).expect("readable") {
                    let touched = ConntrackEntry {
                        last_seen: tick,
                        ..entry
                    };
                    table.update(&[*key], &[touched]).expect("writable");
                }
            }
        };
        let (mut sweeps, mut revived) = (0, 0);
        let suspects = thread::scope(|scope| {
            scope.spawn(|| {
                for tick in 1..TICKS {
                    touch(&maps.conntrack, &alive, tick);
                    if tick % 3 == 0 {
                        touch(&maps.conntrack, &flapping, tick);
                    }
                    now.store(tick, Ordering::Release);
                }
                done.store(true, Ordering::Release);
            });
            let mut suspects = Parity::new(0);
            while !done.load(Ordering::Acquire) {
                let (report, parity) =
                    sweep(maps, now.load(Ordering::Acquire), lifetimes, &suspects);
                suspects = parity;
                sweeps += 1;
                revived += report.revived;
            }
            suspects
        });
        let (_, suspects) = sweep(maps, TICKS - 1, lifetimes, &suspects);
        sweep(maps, TICKS - 1, lifetimes, &suspects);
        println!("{sweeps} sweeps, {revived} flows revived");
        assert!(sweeps > 10, "only {sweeps} sweeps beside the writer");
        let halves = |flow: &[_; 2]| {
            flow.iter()
                .filter(|half| is_there(&maps.conntrack, half))
                .count()
        };
        assert!(alive.iter().all(|flow| halves(flow) == 2));
        assert!(idle.iter().all(|flow| halves(flow) == 0));
        assert!(flapping.iter().all(|flow| halves(flow) != 1));
    }

    /// The next report that `wanted` accepts.
    fn wait(reports: &mut mpsc::Receiver<Report>, wanted: impl Fn(&Report) -> bool) -> Report {
        let started = Instant::now();
        loop {
            match reports.try_recv() {
                Ok(report) if wanted(&report) => return report,
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("the collector has ended: {error}"),
            }
            assert!(started.elapsed() < PATIENCE, "no such report");
        }
    }

    #[test]
    fn the_thread_collects_regularly_and_at_once_when_asked() {
        let mut node = Node::new();
        node.endpoints(&["10.244.0.1", "10.244.0.2"]);
        let now = Clock::new(LIFETIMES).now;
        let slot = node.slot("10.244.0.1", Protocol::Udp);
        for table in [&node.maps().conntrack, &node.maps().half_open] {
            for number in 0..100 {
                insert(
                    table,
                    &seen(&flow(Protocol::Tcp, number, slot), now, PROVEN),
                );
            }
        }
        let (sender, mut reports) = mpsc::channel(1);
        let pins: Pins = node.pins();
        let collector = Collector::start(pins.clone(), Some(Duration::from_millis(50)), sender);
        let collector = collector.expect("a thread");
        let last = wait(&mut reports, |report| {
            report.proven.entries == 0 && report.half_open.entries == 0
        });
        assert!(!last.triggered);
        assert!(node.maps().conntrack.dump().expect("readable").is_empty());
        drop(collector);

        let (sender, mut reports) = mpsc::channel(1);
        let collector = Collector::start(pins, Some(Duration::from_secs(3600)), sender);
        let collector = collector.expect("a thread");
        let udp = seen(&flow(Protocol::Udp, 1, slot), now + 1000, PROVEN);
        insert(&node.maps().conntrack, &udp);
        let used = frontend(udp[0].0.dst, Protocol::Udp);
        let unused = frontend(udp[0].0.src, Protocol::Udp);
        let [used, unused] = [used, unused].map(|key| Retired { key, since: 1 });
        collector.retire(vec![used, unused]);
        collector.purge();
        let first = wait(&mut reports, |report| report.triggered);
        assert_eq!((first.deleted_flows(), first.scanned), (0, 2));
        assert_eq!(first.unused, [unused]);
        node.endpoints(&["10.244.0.2"]);
        collector.purge();
        let second = wait(&mut reports, |report| report.triggered);
        assert_eq!(second.deleted[Reason::StaleBackend.index()], 1);
    }

    #[test]
    fn a_large_table_is_swept_in_pieces() {
        const FLOWS: u32 = 100_000;
        let node = Node::with_room_for(FLOWS * 2 + 1000);
        let maps = node.maps();
        for start in (0..FLOWS).step_by(1000) {
            let halves = (start..start + 1000)
                .flat_map(|n| seen(&flow(Protocol::Tcp, n, NO_SLOT), 100, PROVEN));
            let (keys, entries): (Vec<_>, Vec<_>) = halves.unzip();
            maps.conntrack.update(&keys, &entries).expect("writable");
        }
        let idle = sweep_at(maps, 101);
        assert_eq!(idle.proven.found, u64::from(FLOWS) * 2);
        assert_eq!(maps.conntrack.capacity(), u64::from(FLOWS) * 2 + 1000);
        let busy = sweep_at(maps, 1_000_000);
        println!(
            "{} flows: {:?} to look, {:?} to delete",
            FLOWS, idle.took, busy.took
        );
        assert_eq!(busy.deleted_flows(), u64::from(FLOWS));
        assert!(maps.conntrack.dump().expect("readable").is_empty());
    }
}
