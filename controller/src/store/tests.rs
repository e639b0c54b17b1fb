//! Facts about the store, and its one property: only the last event of each object counts.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{Endpoint, NodeHint, ServiceType, Standing, TrafficPolicy};

fn name(text: &str) -> ObjectName {
    ObjectName {
        namespace: "default".into(),
        name: text.into(),
    }
}

fn service(host: u8) -> Service {
    Service {
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![IpAddr::from([10, 96, 0, host])],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: Box::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        pinned_len: None,
        forwarding: None,
        health_check_node_port: 0,
        ports: vec![],
    }
}

fn slice(service: &str, host: u8) -> EndpointSlice {
    EndpointSlice {
        service: name(service),
        family: Family::V4,
        ports: vec![],
        endpoints: vec![Endpoint {
            addr: IpAddr::from([10, 1, 0, host]),
            ready: true,
            serving: true,
            terminating: false,
            local: false,
            node_hint: NodeHint::None,
            zone: None,
            zone_hints: Box::default(),
        }],
    }
}

fn set_service(text: &str, host: u8) -> Event {
    Event::Service(name(text), Some(service(host)))
}

fn set_slice(text: &str, service: &str, host: u8) -> Event {
    Event::EndpointSlice(name(text), Some(slice(service, host)))
}

fn store(events: impl IntoIterator<Item = Event>) -> Store {
    let mut store = Store::new();
    for event in events {
        store.apply(event);
    }
    store
}

fn dirty(store: &mut Store) -> Vec<String> {
    store
        .take_dirty()
        .into_iter()
        .map(|name| name.name.to_string())
        .collect()
}

#[test]
fn synced_means_that_both_kinds_were_listed_once() {
    use Kind::{EndpointSlices, Services};
    let mut store = Store::new();
    for (event, synced) in [
        (Event::Listing(Services), false),
        (Event::Listed(Services), false),
        (Event::Listing(EndpointSlices), false),
        (Event::Listed(EndpointSlices), true),
        (Event::Listing(Services), true),
    ] {
        store.apply(event);
        assert_eq!(store.synced(), synced);
    }
}

#[test]
fn only_real_changes_make_a_service_dirty() {
    let mut store = store([set_service("web", 1), set_slice("web-1", "web", 1)]);
    assert_eq!(dirty(&mut store), ["web"]);
    store.apply(set_service("web", 1));
    store.apply(set_slice("web-1", "web", 1));
    store.apply(Event::Service(name("unknown"), None));
    store.apply(Event::EndpointSlice(name("unknown"), None));
    store.apply(Event::Node(NodeInfo::default()));
    assert!(!store.has_dirty());
    store.apply(set_slice("web-1", "web", 2));
    assert!(store.has_dirty());
    assert_eq!(dirty(&mut store), ["web"]);
    store.apply(Event::Service(name("web"), None));
    assert_eq!(dirty(&mut store), ["web"]);
    assert_eq!(store.service(&name("web")), None);
}

#[test]
fn slices_may_come_before_their_service() {
    let mut store = store([set_slice("web-1", "web", 1)]);
    assert_eq!(dirty(&mut store), [""; 0]);
    store.apply(set_service("web", 1));
    assert_eq!(dirty(&mut store), ["web"]);
    assert_eq!(store.slices_of(&name("web")), [&slice("web", 1)]);
}

#[test]
fn a_deleted_slice_takes_only_its_own_endpoints() {
    let mut store = store([
        set_service("web", 1),
        set_slice("web-2", "web", 2),
        set_slice("web-1", "web", 1),
    ]);
    assert_eq!(
        store.slices_of(&name("web")),
        [&slice("web", 1), &slice("web", 2)]
    );
    store.apply(Event::EndpointSlice(name("web-1"), None));
    assert_eq!(store.slices_of(&name("web")), [&slice("web", 2)]);
    store.apply(Event::EndpointSlice(name("web-2"), None));
    assert!(store.slices_of(&name("web")).is_empty());
}

#[test]
fn a_slice_that_moves_touches_both_services() {
    let mut store = store([
        set_service("a", 1),
        set_service("b", 2),
        set_slice("x", "a", 1),
    ]);
    store.take_dirty();
    store.apply(set_slice("x", "b", 1));
    assert_eq!(dirty(&mut store), ["a", "b"]);
    assert!(store.slices_of(&name("a")).is_empty());
    assert_eq!(store.slices_of(&name("b")).len(), 1);
}

#[test]
fn slices_of_other_namespaces_are_not_mixed_in() {
    let elsewhere = |text: &str| ObjectName {
        namespace: "other".into(),
        name: text.into(),
    };
    let foreign = EndpointSlice {
        service: elsewhere("web"),
        ..slice("web", 9)
    };
    let store = store([
        set_slice("web-1", "web", 1),
        Event::EndpointSlice(elsewhere("web-1"), Some(foreign.clone())),
    ]);
    assert_eq!(store.slices_of(&name("web")), [&slice("web", 1)]);
    assert_eq!(store.slices_of(&elsewhere("web")), [&foreign]);
}

#[test]
fn a_changed_zone_makes_every_service_dirty() {
    let mut store = store([set_service("a", 1), set_service("b", 2)]);
    store.take_dirty();
    store.apply(Event::Node(NodeInfo {
        zone: Some("z".into()),
        ..NodeInfo::default()
    }));
    assert_eq!(dirty(&mut store), ["a", "b"]);
    assert_eq!(store.node().zone.as_deref(), Some("z"));
}

#[test]
fn what_a_list_does_not_name_is_gone_when_it_ends() {
    let mut store = store([
        set_service("a", 1),
        set_service("b", 2),
        set_slice("x", "a", 1),
    ]);
    store.take_dirty();
    store.apply(Event::Listing(Kind::Services));
    store.apply(set_service("b", 2));
    assert!(
        store.service(&name("a")).is_some(),
        "gone before the list is complete"
    );
    // The list is started again, and only the second run counts.
    store.apply(Event::Listing(Kind::Services));
    store.apply(set_service("c", 3));
    store.apply(Event::Listed(Kind::Services));
    assert_eq!(dirty(&mut store), ["a", "b", "c"]);
    assert_eq!(
        store
            .services()
            .map(|(name, _)| &*name.name)
            .collect::<Vec<_>>(),
        ["c"]
    );
    assert_eq!(
        store.slices_of(&name("a")).len(),
        1,
        "a list of Services says nothing about slices"
    );
}

#[test]
fn a_list_without_a_beginning_removes_nothing() {
    let mut store = store([set_service("a", 1)]);
    store.apply(Event::Listed(Kind::Services));
    assert!(store.service(&name("a")).is_some());
}

/// Everything that a store knows, comparable.
fn state(store: &Store) -> (BTreeMap<ObjectName, Service>, Vec<Vec<EndpointSlice>>) {
    let services = store
        .services()
        .map(|(n, s)| (n.clone(), s.clone()))
        .collect();
    let slices = ["0", "1", "2"].map(|service| {
        store
            .slices_of(&name(service))
            .into_iter()
            .cloned()
            .collect()
    });
    (services, slices.to_vec())
}

fn event() -> impl Strategy<Value = Event> {
    let text = || (0..3u8).prop_map(|n| n.to_string());
    let host = || prop::option::of(0..3u8);
    prop_oneof![
        4 => (text(), host()).prop_map(|(t, h)| Event::Service(name(&t), h.map(service))),
        4 => (text(), text(), host())
            .prop_map(|(t, s, h)| Event::EndpointSlice(name(&t), h.map(|h| slice(&s, h)))),
        1 => Just(Event::Listing(Kind::Services)),
        1 => Just(Event::Listing(Kind::EndpointSlices)),
    ]
}

proptest! {
    /// Whatever happened before, and however often lists were begun and broken off: a
    /// complete list leads to the same state as a fresh start with that list.
    #[test]
    fn any_history_followed_by_a_list_equals_a_fresh_list(
        history in vec(event(), 0..40),
        objects in vec(event(), 0..10),
        repeats in 1..3usize,
    ) {
        let list: Vec<_> = [Event::Listing(Kind::Services), Event::Listing(Kind::EndpointSlices)]
            .into_iter()
            .chain(objects.iter().filter(|e| !matches!(e, Event::Listing(_))).cloned())
            .chain([Event::Listed(Kind::EndpointSlices), Event::Listed(Kind::Services)])
            .collect();
        let mut old = store(history);
        for _ in 0..repeats {
            for event in &list {
                old.apply(event.clone());
            }
        }
        let fresh = store(list);
        prop_assert_eq!(state(&old), state(&fresh));
        prop_assert!(old.synced() && fresh.synced());
    }

    /// Interleaving objects differently, with events repeated, changes nothing.
    #[test]
    fn only_the_order_of_events_of_one_object_matters(events in vec(event(), 0..40)) {
        let events: Vec<_> =
            events.into_iter().filter(|e| !matches!(e, Event::Listing(_))).collect();
        let mut grouped = events.clone();
        grouped.sort_by_key(|event| match event {
            Event::Service(name, _) => (1, name.clone()),
            Event::EndpointSlice(name, _) => (0, name.clone()),
            other => panic!("{other:?}"),
        });
        let doubled = grouped.into_iter().flat_map(|event| [event.clone(), event]);
        prop_assert_eq!(state(&store(events)), state(&store(doubled)));
    }

    /// Whoever recomputes only dirty Services misses nothing.
    #[test]
    fn every_service_whose_records_changed_is_dirty(
        before in vec(event(), 0..20),
        after in vec(event(), 0..20),
    ) {
        let mut store = store(before);
        store.take_dirty();
        let view = |store: &Store, service: &ObjectName| {
            let slices: Vec<_> = store.slices_of(service).into_iter().cloned().collect();
            store.service(service).map(|record| (record.clone(), slices))
        };
        let names = ["0", "1", "2"].map(name);
        let old = names.each_ref().map(|name| view(&store, name));
        for event in after {
            store.apply(event);
        }
        let dirty = store.take_dirty();
        for (name, old) in names.iter().zip(old) {
            prop_assert!(old == view(&store, name) || dirty.contains(name));
        }
    }
}

#[test]
fn j21_times_of_changes_are_kept_for_slices_that_changed_a_service() {
    let mut store = store([set_service("web", 1)]);
    let triggered = |slice: &str, at| Event::Triggered(name(slice), at);
    store.apply(triggered("web-1", 1));
    store.apply(set_slice("web-1", "web", 1));
    // The same again changes nothing, another slice is not meant, a Service is not ours.
    store.apply(triggered("web-1", 2));
    store.apply(set_slice("web-1", "web", 1));
    store.apply(triggered("web-1", 3));
    store.apply(set_slice("web-2", "web", 2));
    store.apply(triggered("other-1", 4));
    store.apply(set_slice("other-1", "other", 1));
    // Deletions do not count.
    store.apply(triggered("web-2", 5));
    store.apply(Event::EndpointSlice(name("web-2"), None));
    assert_eq!(store.take_triggers(), [(Family::V4, 1)]);
    assert_eq!(store.take_triggers(), []);
}

#[test]
fn j12_a_node_that_leaves_changes_no_service() {
    let mut store = store([set_service("web", 1)]);
    let node = |standing| {
        Event::Node(NodeInfo {
            zone: Some("z".into()),
            standing,
            ..NodeInfo::default()
        })
    };
    store.apply(node(Standing::Staying));
    assert_eq!(dirty(&mut store), ["web"]);
    store.apply(node(Standing::Leaving));
    assert_eq!(dirty(&mut store), [""; 0]);
    assert_eq!(store.node().standing, Standing::Leaving);
}

#[test]
fn service_cidrs_are_followed_and_nothing_waits_for_them() {
    let mut store = Store::new();
    let networks = |text: &str| Some([text.parse().unwrap()].into());
    for kind in [Kind::Services, Kind::EndpointSlices] {
        store.apply(Event::Listing(kind));
        store.apply(Event::Listed(kind));
    }
    assert!(store.synced());
    store.apply(Event::ServiceCidr(name("a"), networks("10.96.0.0/12")));
    assert!(store.take_cidrs_dirty());
    store.apply(Event::ServiceCidr(name("a"), networks("10.96.0.0/12")));
    assert!(!store.has_cidrs_dirty(), "nothing new");
    store.apply(Event::Listing(Kind::ServiceCidrs));
    store.apply(Event::ServiceCidr(name("b"), networks("10.97.0.0/16")));
    store.apply(Event::Listed(Kind::ServiceCidrs));
    assert!(store.take_cidrs_dirty());
    let known: Vec<_> = store
        .service_cidrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(known, ["10.97.0.0/16"]);
    store.apply(Event::ServiceCidr(name("b"), None));
    assert!(store.has_cidrs_dirty());
    assert_eq!(store.service_cidrs(), []);
}

#[test]
fn b12_slices_that_change_together_are_taken_as_one() {
    let mut store = store([
        set_service("web", 1),
        set_slice("a", "web", 1),
        set_slice("b", "web", 2),
    ]);
    assert_eq!(dirty(&mut store), ["web"]);
    // Rebalanced: the endpoint of one slice moves to the other, which is told in two events.
    let mut both = slice("web", 1);
    both.endpoints.extend(slice("web", 2).endpoints);
    store.apply(Event::EndpointSlice(name("a"), None));
    store.apply(Event::EndpointSlice(name("b"), Some(both)));
    assert_eq!(dirty(&mut store), ["web"], "planned once, after both");
    let slices = store.slices_of(&name("web"));
    let hosts: Vec<_> = slices.iter().flat_map(|s| &s.endpoints).collect();
    assert_eq!(hosts.len(), 2, "none is missing and none is there twice");
}
