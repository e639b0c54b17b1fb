//! Properties over arbitrary Services and endpoints.

use std::collections::BTreeSet;

use lb_ebpf::abi::{FrontendFlags, Scope};
use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::{super::desired, build::*, reference};

fn endpoint(hosts: std::ops::Range<u8>) -> impl Strategy<Value = Endpoint> {
    let hints = subsequence(vec!["a", "b", "c"], 0..=2);
    let node_hint = prop_oneof![
        Just(NodeHint::None),
        Just(NodeHint::Other),
        Just(NodeHint::This)
    ];
    let zone = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    (hosts, any::<[bool; 4]>(), node_hint, hints, zone).prop_map(
        |(host, [ready_, serving, terminating, local], node_hint, hints, zone)| Endpoint {
            ready: ready_,
            serving,
            terminating,
            local,
            node_hint,
            zone: zone.map(Into::into),
            ..ready(host).zones(&hints)
        },
    )
}

/// Mostly hinted endpoints, so that the topology modes really occur.
fn endpoints(hosts: std::ops::Range<u8>) -> impl Strategy<Value = Vec<Endpoint>> {
    (vec(endpoint(hosts), 0..8), 0..3u8).prop_map(|(mut endpoints, hinting)| {
        for endpoint in &mut endpoints {
            if hinting == 1 && endpoint.zone_hints.is_empty() {
                endpoint.zone_hints = Box::new(["a".into()]);
            }
            if hinting == 2 && endpoint.node_hint == NodeHint::None {
                endpoint.node_hint = NodeHint::This;
            }
        }
        endpoints
    })
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

fn any_service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        Just(ServiceType::ClusterIp),
        Just(ServiceType::NodePort),
        Just(ServiceType::LoadBalancer)
    ];
    let addresses = || subsequence(vec![ip("192.0.2.1"), ip("2001:db8::1")], 0..=2);
    (
        kind,
        policy(),
        policy(),
        addresses(),
        addresses(),
        any::<bool>(),
    )
        .prop_map(
            |(service_type, internal_policy, external_policy, external_ips, vips, node_port)| {
                let mut service = Service {
                    service_type,
                    internal_policy,
                    external_policy,
                    external_ips,
                    load_balancer_ips: vips,
                    ..service()
                };
                service.ports[0].node_port = if node_port { 30080 } else { 0 };
                service
            },
        )
}

fn zone() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))]
}

proptest! {
    #[test]
    fn a_naive_reading_of_the_rules_agrees(
        service in any_service(),
        mut endpoints in endpoints(0..200),
        zone in zone(),
    ) {
        endpoints.sort_by_key(|e| e.addr);
        endpoints.dedup_by_key(|e| e.addr);
        let expected = reference::verdict(&service, &endpoints, zone);
        let desired = desired(&name(), &service, &[&slice(&endpoints)], &node(zone), Settings::default());
        let set = |flag| -> BTreeSet<_> {
            let members = desired[0].backends.iter().filter(|b| b.flags & flag != 0);
            members.map(|b| b.addr).collect()
        };
        let actual = reference::Verdict {
            cluster: set(BackendFlags::IN_CLUSTER_SET),
            local: set(BackendFlags::IN_LOCAL_SET),
            has_any: desired[0].frontends[0].drop_when_empty,
        };
        prop_assert_eq!(actual, expected);
    }

    /// Few hosts, so that most slices share addresses.
    #[test]
    fn the_order_of_slices_and_endpoints_does_not_matter(
        service in any_service(),
        contents in vec(endpoints(0..5), 1..4),
        zone in zone(),
        rotation in 0..4usize,
    ) {
        let slices: Vec<_> = contents.iter().map(|endpoints| slice(endpoints)).collect();
        let mut reordered: Vec<_> = contents
            .iter()
            .map(|endpoints| slice(&endpoints.iter().rev().cloned().collect::<Vec<_>>()))
            .rev()
            .collect();
        let shift = rotation % reordered.len();
        reordered.rotate_left(shift);
        let run = |slices: &[EndpointSlice]| {
            desired(&name(), &service, &slices.iter().collect::<Vec<_>>(), &node(zone), Settings::default())
        };
        prop_assert_eq!(run(&slices), run(&reordered));
    }

    /// What the planner and the datapath take for granted of frontends.
    #[test]
    fn external_entries_stand_before_the_internal_ones_that_refer_to_them(
        service in any_service(),
        endpoints in endpoints(0..5),
    ) {
        let node = node(None);
        let slice = slice(&endpoints);
        let desired = desired(&name(), &service, &[&slice], &node, Settings::default());
        let frontends = &desired[0].frontends;
        for (index, frontend) in frontends.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &frontends[before]);
            let external = before.filter(|before| {
                before.scope == Scope::External
                    && (before.addr, before.port) == (frontend.addr, frontend.port)
            });
            let differs = frontend.flags & FrontendFlags::EXTERNAL_DIFFERS != 0;
            prop_assert_eq!(differs, frontend.scope == Scope::Internal && external.is_some());
            if let Some(external) = external {
                prop_assert_eq!(external.kind, frontend.kind);
                prop_assert_ne!(external.set, frontend.set, "an entry that says nothing new");
            }
        }
        let internal = frontends.iter().filter(|f| f.scope == Scope::Internal);
        let addresses: BTreeSet<_> = internal.clone().map(|f| (f.addr, f.port)).collect();
        prop_assert_eq!(addresses.len(), internal.count(), "each address once");
        let all: BTreeSet<_> = frontends.iter().map(|f| (f.addr, f.port)).collect();
        prop_assert_eq!(all, addresses, "every frontend has an internal entry");
    }

    #[test]
    fn sets_hold_only_endpoints_that_can_serve(
        service in any_service(),
        contents in vec(endpoints(0..5), 0..4),
        zone in zone(),
    ) {
        let slices: Vec<_> = contents.iter().map(|endpoints| slice(endpoints)).collect();
        let desired =
            desired(&name(), &service, &slices.iter().collect::<Vec<_>>(), &node(zone), Settings::default());
        let known: BTreeSet<_> = contents.iter().flatten().map(|e| e.addr).collect();
        let backends = &desired[0].backends;
        prop_assert!(backends.is_sorted_by_key(|b| (b.addr, b.port)));
        prop_assert_eq!(backends.iter().map(|b| b.addr).collect::<BTreeSet<_>>(), known);
        prop_assert_eq!(backends.iter().map(|b| (b.addr, b.port)).collect::<BTreeSet<_>>().len(), backends.len());
        for backend in backends {
            let has = |flag| backend.flags & flag != 0;
            prop_assert!(has(BackendFlags::USED));
            let can_serve = has(BackendFlags::READY)
                || (has(BackendFlags::SERVING) && has(BackendFlags::TERMINATING));
            let member = has(BackendFlags::IN_CLUSTER_SET) || has(BackendFlags::IN_LOCAL_SET);
            prop_assert!(can_serve || !member);
            prop_assert!(has(BackendFlags::LOCAL) || !has(BackendFlags::IN_LOCAL_SET));
        }
    }
}
