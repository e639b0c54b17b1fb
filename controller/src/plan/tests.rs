//! The planner, over maps in memory: each state on the way is checked.

mod build;
mod driver;
mod guarded;
pub(crate) mod memory;
mod outside;
mod properties;
mod restored;
mod room;

use lb_ebpf::abi::{Addr, BackendFlags, FrontendKey, Port};

use self::{
    build::{MEMBER, SERVES, backend, frontend, ip, name, one, service},
    driver::{Desired, Driver, ROOMY},
};
use super::{Batch, Capacity, NoRoom, Planner};
use crate::model::Protocol;

const THREE: [&str; 3] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];

fn key(addr: &str, port: u16) -> FrontendKey {
    FrontendKey::internal(Addr::from(ip(addr)), Port::new(port), Protocol::Tcp)
}

/// The name of the Service that holds a frontend.
fn holder(driver: &Driver, key: &FrontendKey) -> Option<String> {
    let entry = driver.memory.services.get(key)?;
    Some(driver.memory.infos[&entry.service_id].name.to_string())
}

#[test]
fn first_plan_writes_each_thing_once() {
    let batch = Driver::new(ROOMY).change(one(service("web", "10.96.0.1", &THREE)));
    let expected = Batch {
        reset_services: vec![0],
        reset_backends: vec![0, 1, 2],
        ..Batch::default()
    };
    assert_eq!(batch.reset_services, expected.reset_services);
    assert_eq!(batch.reset_backends, expected.reset_backends);
    assert_eq!(batch.backends.len(), 3);
    assert_eq!(batch.tables.len(), 1);
    assert_eq!(batch.infos.len(), 1);
    assert_eq!(batch.filter_set.len(), 1);
    assert_eq!(batch.frontends.len(), 1);
    assert_eq!(batch.vips.len(), 1);
    assert_eq!(batch.len(), 1 + 3 + 3 + 1 + 1 + 1 + 1 + 1);
}

#[test]
fn replaced_endpoint_costs_its_slots_and_one_table() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("web", "10.96.0.1", &THREE)));
    let batch = driver.change(one(service(
        "web",
        "10.96.0.1",
        &["10.1.0.1", "10.1.0.2", "10.1.0.4"],
    )));
    assert_eq!(batch.reset_backends, [3]);
    assert_eq!(batch.backends.len(), 1);
    assert_eq!(batch.freed_backends.len(), 1);
    assert_eq!(batch.tables.len(), 1);
    assert_eq!(batch.len(), 4);
}

#[test]
fn endpoint_that_leaves_the_set_costs_one_backend_and_one_table() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    driver.change(one(web.clone()));
    web.backends[1].flags = SERVES | BackendFlags::TERMINATING;
    let batch = driver.change(one(web));
    assert_eq!(batch.backends.len(), 1);
    assert_eq!(batch.tables.len(), 1);
    assert_eq!(batch.len(), 2);
}

#[test]
fn zone_of_one_endpoint_costs_one_backend() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    web.backends[0].zone = Some("a".into());
    driver.change(one(web.clone()));
    web.backends[1].zone = Some("a".into());
    let batch = driver.change(one(web));
    assert_eq!((batch.backends.len(), batch.len()), (1, 1));
}

#[test]
fn other_services_do_not_add_to_the_writes() {
    let mut driver = Driver::new(ROOMY);
    let mut all = Desired::new();
    for host in 1..40 {
        let owner = format!("s{host}");
        all.extend(one(service(&owner, &format!("10.96.0.{host}"), &THREE)));
    }
    driver.change(all);
    let batch = driver.change(one(service("s7", "10.96.0.7", &THREE[..2])));
    assert_eq!((batch.freed_backends.len(), batch.tables.len()), (1, 1));
    assert_eq!(batch.len(), 2);
}

#[test]
fn table_that_grows_moves_and_takes_its_frontends_along() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    driver.change(one(web.clone()));
    web.pinned_len = Some(31);
    let batch = driver.change(one(web));
    assert_eq!(batch.tables.len(), 1);
    assert_eq!(batch.infos.len(), 1);
    assert_eq!(batch.frontends.len(), 1);
    assert_eq!(batch.len(), 3);
}

#[test]
fn renamed_port_keeps_its_address() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    driver.change(one(web.clone()));
    web.key.port_name = "web".into();
    let batch = driver.change(one(web));
    assert_eq!(batch.removed_frontends, []);
    assert_eq!(batch.filter_cleared, []);
    assert_eq!(
        holder(&driver, &key("10.96.0.1", 80)).as_deref(),
        Some("web")
    );
    driver.release();
    assert_eq!(driver.planner.usage().frontends, 1);
}

#[test]
fn ports_that_swap_names_keep_their_addresses() {
    let mut driver = Driver::new(ROOMY);
    let a = service("web", "10.96.0.1", &THREE[..1]);
    let mut b = service("web", "10.96.0.1", &THREE[1..]);
    b.key.port_name = "other".into();
    b.frontends = vec![frontend("10.96.0.1", 81)];
    driver.change(Desired::from([(name("web"), vec![a.clone(), b.clone()])]));
    let (mut x, mut y) = (a, b);
    std::mem::swap(&mut x.frontends, &mut y.frontends);
    driver.change(Desired::from([(name("web"), vec![x, y])]));
    assert_eq!(driver.memory.services.len(), 2);
    let entry = driver.memory.services[&key("10.96.0.1", 81)];
    let port = driver.memory.infos[&entry.service_id].port_name;
    assert_eq!(port.as_str(), "http");
}

#[test]
fn address_that_changes_hands_in_one_batch_stays() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("old", "10.96.0.1", &THREE[..1])));
    // Sorted by name, the new Service is planned first here and second below.
    for (gone, new) in [("old", "a-new"), ("a-new", "z-newer")] {
        let mut change = one(service(new, "10.96.0.1", &THREE[1..]));
        change.insert(name(gone), Vec::new());
        driver.change(change);
        assert_eq!(holder(&driver, &key("10.96.0.1", 80)).as_deref(), Some(new));
    }
}

#[test]
fn smaller_name_holds_a_contested_address() {
    let vip = key("10.96.0.1", 80);
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("b", "10.96.0.1", &THREE[..1])));
    driver.change(one(service("c", "10.96.0.1", &THREE[..1])));
    assert_eq!(holder(&driver, &vip).as_deref(), Some("b"), "c waits");
    driver.change(one(service("a", "10.96.0.1", &THREE[..1])));
    assert_eq!(holder(&driver, &vip).as_deref(), Some("a"), "a takes over");
    for (gone, next) in [("a", Some("b")), ("b", Some("c")), ("c", None)] {
        let batch = driver.change(Desired::from([(name(gone), Vec::new())]));
        assert_eq!(holder(&driver, &vip).as_deref(), next);
        // What another Service takes over is never deleted in between.
        assert_eq!(batch.removed_frontends.is_empty(), next.is_some());
    }
    driver.retire();
    assert_eq!(driver.memory.filter.len(), 0);
}

#[test]
fn endpoint_shared_by_two_services_has_a_slot_for_each() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("a", "10.96.0.1", &THREE)));
    driver.change(one(service("b", "10.96.0.2", &THREE)));
    assert_eq!(driver.planner.usage().backends, 6);
}

#[test]
fn udp_backend_that_stops_serving_is_reported_gone() {
    let mut driver = Driver::new(ROOMY);
    let mut dns = service("dns", "10.96.0.10", &THREE);
    dns.key.protocol = Protocol::Udp;
    driver.change(one(dns.clone()));
    dns.backends[0].flags = SERVES | BackendFlags::TERMINATING;
    assert_eq!(driver.change(one(dns.clone())).gone, [], "still serves");
    dns.backends[0].flags = BackendFlags::USED | BackendFlags::TERMINATING;
    dns.backends.truncate(2);
    let mut gone: Vec<_> = driver
        .change(one(dns))
        .gone
        .iter()
        .map(|gone| gone.addr.to_string())
        .collect();
    gone.sort();
    assert_eq!(gone, ["10.1.0.1", "10.1.0.3"]);
    let batch = driver.change(Desired::from([(name("dns"), vec![])]));
    let gone: Vec<_> = batch.gone.iter().map(|gone| gone.addr).collect();
    assert_eq!(gone, [ip("10.1.0.2")], "no other has served until then");
}

#[test]
fn c16_tcp_backend_that_stops_serving_is_nobodys_concern() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("web", "10.96.0.1", &THREE)));
    let mut fewer = service("web", "10.96.0.1", &THREE[..2]);
    fewer.backends[0].flags = BackendFlags::USED;
    assert_eq!(driver.change(one(fewer)).gone, []);
    let batch = driver.change(Desired::from([(name("web"), vec![])]));
    assert_eq!(batch.gone, []);
}

#[test]
fn reused_slot_has_a_new_generation() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("web", "10.96.0.1", &THREE[..1])));
    let before = driver.memory.backends[0];
    driver.change(one(service("web", "10.96.0.1", &[])));
    driver.release();
    driver.change(one(service("web", "10.96.0.1", &THREE[1..2])));
    let after = driver.memory.backends[0];
    assert_ne!(before.addr, after.addr);
    assert_ne!(before.generation, after.generation);
}

/// Fills a planner of `small` capacity with one Service, plans a second one that does
/// not fit, grows, plans again; a planner with room from the start must agree.
fn no_room_leaves_no_trace(small: Capacity) -> NoRoom {
    let change = [
        one(service("a", "10.96.0.1", &THREE[..1])),
        one(service("b", "10.96.0.2", &THREE)),
    ];
    let mut cramped = Driver::new(small);
    let mut roomy = Driver::new(ROOMY);
    cramped.change(change[0].clone());
    roomy.change(change[0].clone());

    let usage = cramped.planner.usage();
    let mut batch = Batch::default();
    let wanted = &change[1][&name("b")];
    let error = cramped
        .planner
        .plan(&name("b"), wanted, &mut batch)
        .expect_err("no room");
    assert!(batch.is_empty());
    assert_eq!(cramped.planner.usage(), usage);
    assert!(!cramped.planner.has_quarantined(), "nothing to wait for");
    assert_eq!(cramped.plan(change[0].clone()), Batch::default());

    cramped.planner.grow(ROOMY);
    assert_eq!(
        cramped.change(change[1].clone()),
        roomy.change(change[1].clone())
    );
    assert_eq!(cramped.memory, roomy.memory);
    error
}

#[test]
fn no_room_for_services_leaves_no_trace() {
    let error = no_room_leaves_no_trace(Capacity {
        services: 1,
        ..ROOMY
    });
    assert_eq!(error.needed.services, 1);
    assert!(!error.slab);
}

#[test]
fn no_room_for_frontends_leaves_no_trace() {
    no_room_leaves_no_trace(Capacity {
        frontends: 1,
        ..ROOMY
    });
}

#[test]
fn no_room_for_backends_leaves_no_trace() {
    let error = no_room_leaves_no_trace(Capacity {
        backends: 3,
        ..ROOMY
    });
    assert_eq!(error.needed.backends, 3);
}

#[test]
fn no_room_for_tables_leaves_no_trace() {
    let error = no_room_leaves_no_trace(Capacity {
        maglev: 20,
        ..ROOMY
    });
    assert!(error.slab);
}

#[test]
fn no_room_for_a_changed_service_leaves_it_as_it_was() {
    let mut driver = Driver::new(Capacity {
        maglev: 20,
        ..ROOMY
    });
    let mut web = service("web", "10.96.0.1", &THREE);
    driver.change(one(web.clone()));
    let before = driver.memory.clone();
    web.pinned_len = Some(31);
    web.backends[0].flags = SERVES;
    web.backends.push(backend("10.1.0.9", MEMBER));
    let mut batch = Batch::default();
    let planned = driver
        .planner
        .plan(&name("web"), std::slice::from_ref(&web), &mut batch);
    assert!(planned.is_err());
    let unchanged = driver.plan(one(service("web", "10.96.0.1", &THREE)));
    assert_eq!(unchanged, Batch::default());
    driver.planner.grow(ROOMY);
    driver.change(one(web));
    assert_eq!(driver.memory.backends[..3].len(), before.backends.len());
    assert_eq!(driver.memory.backends[0].flags, SERVES);
}

/// Deletions come after insertions in a batch: a map that is full must not overflow.
#[test]
fn deleted_frontends_make_room_only_after_their_batch() {
    let mut driver = Driver::new(Capacity {
        frontends: 1,
        ..ROOMY
    });
    driver.change(one(service("a", "10.96.0.1", &THREE)));
    let mut batch = Batch::default();
    let planner: &mut Planner = &mut driver.planner;
    planner.plan(&name("a"), &[], &mut batch).expect("removal");
    let b = [service("b", "10.96.0.2", &THREE)];
    assert!(planner.plan(&name("b"), &b, &mut batch).is_err());
    let mut next = Batch::default();
    assert!(planner.plan(&name("b"), &b, &mut next).is_ok());
}
