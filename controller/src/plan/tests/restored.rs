//! After a restart: what no description accounts for, and what others have written.

use lb_ebpf::abi::{Addr, FrontendFlags, Name, Scope, SourceRange, SourceRangeKey, TableRef};

use super::{
    THREE,
    build::{frontend, ip, local_vip, name, one, service},
    driver::{Desired, Driver, ROOMY, from_scratch},
    key,
    memory::{Memory, Write, writes},
    outside::{direct, restricted},
};
use crate::{
    desired::DesiredService,
    plan::{Batch, Capacity, Orphans, Planner, Snapshot, Usage},
};

/// A controller that finds `memory`.
fn restart(capacity: Capacity, memory: Memory) -> (Driver, Orphans) {
    let (planner, orphans) = Planner::restore(capacity, memory.snapshot());
    (Driver::with(planner, memory), orphans)
}

fn sweep(driver: &mut Driver, orphans: Orphans) -> Batch {
    let mut batch = Batch::default();
    driver.planner.sweep(orphans, &mut batch);
    driver.memory.apply(&batch);
    driver.memory.check_settled();
    batch
}

/// Makes the writes of `batch` up to the first that is `last`.
fn write_until(memory: &mut Memory, batch: &Batch, last: fn(&Write) -> bool) {
    let stores = writes(batch);
    let end = stores.iter().position(last).expect("such a write");
    for write in &stores[..=end] {
        memory.write(write);
    }
    memory.check();
}

/// A Service with source ranges, two VIPs and two ports.
fn kept() -> Desired {
    let mut web = restricted("kept", 1, &["10.0.0.0/8"]);
    web.frontends.push(frontend("10.96.0.1", 81));
    one(web)
}

/// A Service with backends of this node under DSR.
fn gone() -> Desired {
    let mut direct = direct();
    direct.key.service = name("gone");
    direct.frontends = vec![frontend("10.96.0.2", 80)];
    one(direct)
}

#[test]
fn what_is_not_described_serves_until_it_is_programmed_anew_or_swept() {
    let mut kept = kept();
    let mut before = Driver::new(ROOMY);
    before.change(kept.clone().into_iter().chain(gone()).collect());
    let mut memory = before.memory;
    let described = std::mem::take(&mut memory.infos);
    let serving = memory.clone();

    // By now, clients outside meet the same entry of the VIP as others.
    let service = &mut kept.get_mut(&name("kept")).expect("a Service")[0];
    service.frontends.remove(1);
    service.frontends[1].flags &= !FrontendFlags::EXTERNAL_DIFFERS;
    let (mut driver, orphans) = restart(ROOMY, memory);
    assert_eq!(driver.planner.programmed().count(), 0);
    // Descriptions aside, everything is a new one's: the old serves on unchanged.
    let batch = driver.plan(kept.clone());
    driver.memory.apply(&batch);
    for (id, _) in &batch.infos {
        assert!(!described.contains_key(id), "{id} is still looked up");
    }
    for (key, entry) in &serving.services {
        let before = serving.table(entry.table);
        assert_eq!(driver.memory.table(entry.table), before, "{key:?}");
        for slot in before {
            let slot = *slot as usize;
            assert_eq!(driver.memory.backends[slot], serving.backends[slot]);
        }
    }

    sweep(&mut driver, orphans);
    let mut scratch = from_scratch(&kept);
    assert_eq!(driver.memory.plain(), scratch.memory.plain());
    assert_eq!(driver.used(), scratch.used());
}

#[test]
fn frontends_take_room_until_they_are_swept() {
    let mut before = Driver::new(ROOMY);
    before.change(one(restricted("old", 1, &[])));
    let mut memory = before.memory;
    memory.infos.clear();
    let full = Capacity {
        frontends: memory.services.len() as u32,
        ..ROOMY
    };
    let (mut driver, orphans) = restart(full, memory);
    let new = [service("new", "10.96.0.9", &THREE)];
    let mut batch = Batch::default();
    let planned = driver.planner.plan(&name("new"), &new, &mut batch);
    let no_room = planned.expect_err("the map is full");
    // Who grows the maps makes them as large as this.
    let mut larger = driver.planner.usage();
    larger += no_room.needed;
    assert_eq!(larger.frontends, full.frontends + 1);

    sweep(&mut driver, orphans);
    driver.change(one(new[0].clone()));
    assert_eq!(driver.planner.usage().frontends, 1);
}

/// Sources that service `id` admits.
fn source_range(id: u32) -> SourceRangeKey {
    SourceRangeKey {
        prefix_len: SourceRangeKey::FULL,
        range: SourceRange {
            service_id: id,
            addr: Addr::from(ip("192.0.2.1")),
        },
    }
}

#[test]
fn source_ranges_of_nobody_keep_their_id_from_others_until_they_are_swept() {
    let two = Capacity {
        services: 2,
        ..ROOMY
    };
    // The map has no room for the second id.
    let snapshot = Snapshot {
        source_ranges: vec![source_range(0), source_range(2)],
        ..Snapshot::default()
    };
    let (mut planner, orphans) = Planner::restore(two, snapshot);
    let id = Usage {
        services: 1,
        ..Usage::default()
    };
    assert_eq!(planner.usage(), id);
    let plan = |planner: &mut Planner, owner: &str, host: u8| {
        let mut batch = Batch::default();
        let wanted = [service(owner, &format!("10.96.0.{host}"), &[])];
        let result = planner.plan(&name(owner), &wanted, &mut batch);
        result.ok().map(|()| batch.infos[0].0)
    };
    assert_eq!(plan(&mut planner, "a", 1), Some(1));

    let mut swept = Batch::default();
    planner.sweep(orphans, &mut swept);
    swept
        .removed_source_ranges
        .sort_by_key(|key| key.range.service_id);
    let ranges = [source_range(0), source_range(2)];
    assert_eq!(swept.removed_source_ranges, ranges);
    planner.release();
    assert_eq!(plan(&mut planner, "b", 2), Some(0));
    assert_eq!(plan(&mut planner, "c", 3), None, "there are two");
}

#[test]
fn zones_keep_their_ids_whatever_else_is_in_the_map() {
    let zone = |id, text| (id, Name::new(text).expect("a label"));
    let snapshot = Snapshot {
        zones: vec![
            zone(u32::MAX, "none"),
            zone(4097, "beyond"),
            zone(3, "c"),
            zone(0, "zero"),
            zone(1, "a"),
        ],
        ..Snapshot::default()
    };
    let (mut planner, _) = Planner::restore(ROOMY, snapshot);
    let mut batch = Batch::default();
    let ids =
        ["a", "c", "new", "beyond"].map(|text| planner.zone_id(Some(&text.into()), &mut batch));
    assert_eq!(ids, [1, 3, 4, 5]);
    assert_eq!(batch.zones, [zone(4, "new"), zone(5, "beyond")]);
}

#[test]
fn old_table_of_an_interrupted_change_is_kept_while_a_frontend_refers_to_it() {
    let mut before = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    before.change(one(web.clone()));
    let old = before.memory.services[&key("10.96.0.1", 80)].table;
    assert_eq!(old, TableRef::new(0, 13));
    web.pinned_len = Some(31);
    let batch = before.plan(one(web.clone()));
    write_until(&mut before.memory, &batch, |w| matches!(w, Write::Info(..)));

    let (mut driver, orphans) = restart(ROOMY, before.memory);
    let mut all = one(web);
    all.extend(one(service("new", "10.96.0.2", &THREE)));
    // `change` sees to it that no frontend has another's backends, after each write.
    driver.change_unsettled(all.clone());
    let new = driver.memory.services[&key("10.96.0.2", 80)].table;
    assert!(new.offset() >= old.len(), "{new:?}");

    sweep(&mut driver, orphans);
    assert_eq!(driver.used(), from_scratch(&all).used());
}

/// `owner` with a VIP that others claim too, and with two entries for it.
fn claim(owner: &str, host: u8) -> DesiredService {
    let mut service = service(owner, &format!("10.96.0.{host}"), &THREE);
    service.frontends.extend(local_vip("192.0.2.9", 80, 0));
    service
}

#[test]
fn internal_entry_of_an_interrupted_change_of_hands_goes_before_the_external_one() {
    let mut before = Driver::new(ROOMY);
    before.change(one(claim("b", 2)));
    let batch = before.plan(one(claim("a", 1)));
    write_until(
        &mut before.memory,
        &batch,
        |w| matches!(w, Write::Frontend(key, _) if key.scope == Scope::External as u8),
    );

    let (mut driver, orphans) = restart(ROOMY, before.memory);
    let nothing = Desired::from([(name("a"), vec![]), (name("b"), vec![])]);
    // `change` sees to it that no entry refers to one that is gone, after each write.
    driver.change_unsettled(nothing);
    sweep(&mut driver, orphans);
    assert_eq!(driver.memory.services.len(), 0);
}

#[test]
fn external_entry_of_an_interrupted_change_of_hands_stays_for_the_holder() {
    let mut both = one(claim("a", 1));
    both.extend(one(claim("b", 2)));
    let mut before = Driver::new(ROOMY);
    before.change(both.clone());
    // `a` goes, and `b` comes into its place as far as the external entry.
    let batch = before.plan(Desired::from([(name("a"), vec![])]));
    write_until(
        &mut before.memory,
        &batch,
        |w| matches!(w, Write::Frontend(key, _) if key.scope == Scope::External as u8),
    );

    // Then `a` is there again.
    let (mut driver, orphans) = restart(ROOMY, before.memory);
    driver.change_unsettled(both.clone());
    sweep(&mut driver, orphans);
    let vip = key("192.0.2.9", 80);
    let [internal, external] =
        [vip, vip.in_scope(Scope::External)].map(|key| driver.memory.services[&key]);
    assert!(internal.flags & FrontendFlags::EXTERNAL_DIFFERS != 0);
    assert_eq!(internal.service_id, external.service_id);
    assert_eq!(driver.used(), from_scratch(&both).used());
}
