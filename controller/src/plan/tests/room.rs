//! What Services need, what is in use, and what waits for a grace period.

use lb_ebpf::abi::BackendFlags;
use proptest::prelude::*;

use super::{
    THREE,
    build::{MEMBER, SERVES, arbitrary_change, backend, frontend, name, one, service},
    driver::{Desired, Driver, ROOMY, from_scratch},
};
use crate::plan::{Batch, Capacity, Planner, Usage, needs};

fn needs_of_all(desired: &Desired) -> Usage {
    let mut usage = Usage::default();
    for services in desired.values() {
        usage += needs(services);
    }
    usage
}

/// Two Services of three ports, without a conflict and with tables of all kinds.
fn various() -> Desired {
    let mut http = service("a", "10.96.0.1", &THREE);
    http.pinned_len = None;
    http.backends[2].flags = SERVES;
    http.frontends.push(frontend("192.0.2.1", 80));
    let mut admin = service("a", "10.96.0.1", &THREE);
    admin.key.port_name = "admin".into();
    admin.frontends = vec![frontend("10.96.0.1", 81)];
    for backend in &mut admin.backends {
        backend.flags |= BackendFlags::IN_LOCAL_SET;
    }
    // A pinned length with too few entries for its members.
    let mut other = service("b", "10.96.0.2", &THREE);
    other.pinned_len = Some(3);
    other.backends.push(backend("10.1.0.4", MEMBER));
    Desired::from([(name("a"), vec![http, admin]), (name("b"), vec![other])])
}

#[test]
fn services_planned_from_nothing_use_what_they_need() {
    let desired = various();
    let needed = needs_of_all(&desired);
    assert_eq!(from_scratch(&desired).planner.usage(), needed);
    assert_eq!((needed.services, needed.frontends), (3, 4));
}

#[test]
fn every_member_of_a_set_is_in_its_table_however_short_that_was_asked_to_be() {
    let driver = from_scratch(&various());
    let short = driver
        .memory
        .infos
        .values()
        .find(|info| info.pinned_len == 3);
    assert!(short.is_some_and(|info| info.cluster_table.len() > 3));
    // `from_scratch` has compared tables with sets.
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Maps made for what the Services need take them all without growing.
    #[test]
    fn room_for_what_is_needed_is_enough(desired in arbitrary_change()) {
        let needed = needs_of_all(&desired);
        let capacity = Capacity {
            services: needed.services,
            frontends: needed.frontends,
            backends: needed.backends,
            maglev: needed.maglev,
        };
        let mut driver = Driver::new(capacity);
        driver.change(desired);
        let used = driver.planner.usage();
        // Of two that want one frontend, one waits.
        prop_assert!(used.frontends <= needed.frontends);
        prop_assert_eq!(Usage { frontends: 0, ..used }, Usage { frontends: 0, ..needed });
    }
}

#[test]
fn what_is_freed_waits_for_a_grace_period_whatever_it_is() {
    let web = || service("web", "10.96.0.1", &THREE);
    let longer = || {
        let mut web = web();
        web.pinned_len = Some(31);
        web
    };
    let nothing = Desired::from([(name("web"), Vec::new())]);
    for (what, before, after) in [
        ("an id", one(service("web", "10.96.0.1", &[])), nothing),
        (
            "a slot",
            one(web()),
            one(service("web", "10.96.0.1", &THREE[1..])),
        ),
        ("a table", one(web()), one(longer())),
    ] {
        let mut driver = Driver::new(ROOMY);
        driver.change(before);
        assert!(!driver.planner.has_quarantined(), "{what}");
        driver.change(after.clone());
        assert!(driver.planner.has_quarantined(), "{what}");
        assert_ne!(
            driver.planner.usage(),
            from_scratch(&after).used(),
            "{what}"
        );
        driver.release();
        assert!(!driver.planner.has_quarantined(), "{what}");
        assert_eq!(
            driver.planner.usage(),
            from_scratch(&after).used(),
            "{what}"
        );
    }
}

#[test]
fn who_waits_for_an_address_is_planned_when_it_is_given_up_and_nobody_else() {
    let mut planner = Planner::new(ROOMY);
    let mut plan = |owner: &str, wanted: &[_]| {
        let mut batch = Batch::default();
        let result = planner.plan(&name(owner), wanted, &mut batch);
        result.expect("room");
        batch.replan.into_iter().collect::<Vec<_>>()
    };
    for owner in ["a", "b", "a", "b"] {
        let wanted = [service(owner, "10.96.0.1", &THREE)];
        assert_eq!(plan(owner, &wanted), []);
    }
    assert_eq!(plan("a", &[]), [name("b")]);
}
