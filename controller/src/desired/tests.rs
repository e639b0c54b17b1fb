//! Facts about the desired state; `table` has a row per rule of semantics C and D.

mod build;
mod health;
mod outside;
mod properties;
mod reference;
mod table;

use lb_ebpf::abi::{FrontendKind, Scope};

use super::*;
use build::*;

#[test]
fn internal_policy_chooses_the_set_of_the_cluster_ip() {
    for (policy, set) in [
        (TrafficPolicy::Cluster, BackendSet::Cluster),
        (TrafficPolicy::Local, BackendSet::Local),
    ] {
        let service = Service {
            internal_policy: policy,
            ..service()
        };
        let desired = desired(&name(), &service, &[], &node(None), Settings::default());
        assert_eq!(
            desired[0].frontends,
            [DesiredFrontend {
                addr: ip("10.96.0.1"),
                port: 80,
                scope: Scope::Internal,
                kind: FrontendKind::ClusterIp,
                set,
                drop_when_empty: false,
                flags: 0,
            }]
        );
    }
}

#[test]
fn every_port_and_family_with_a_cluster_ip_is_a_service_of_its_own() {
    let service = Service {
        cluster_ips: vec![ip("fd00::1"), ip("10.96.0.1")],
        ports: vec![
            port("dns", Protocol::Udp, 53),
            port("dns", Protocol::Tcp, 53),
        ],
        ..service()
    };
    let v4 = EndpointSlice {
        ports: vec![slice_port("dns", Protocol::Udp, 5353)],
        ..slice(&[ready(1)])
    };
    let v6 = EndpointSlice {
        family: Family::V6,
        ports: vec![slice_port("dns", Protocol::Tcp, 53)],
        ..slice(&[Endpoint {
            addr: ip("fd01::1"),
            ..ready(1)
        }])
    };
    let desired = desired(
        &name(),
        &service,
        &[&v6, &v4],
        &node(None),
        Settings::default(),
    );
    let summary: Vec<_> = desired
        .iter()
        .map(|s| {
            (
                s.key.protocol,
                s.key.family,
                s.backends.iter().map(|b| (b.addr, b.port)).collect(),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            (Protocol::Udp, Family::V4, vec![(ip("10.1.0.1"), 5353)]),
            (Protocol::Udp, Family::V6, vec![]),
            (Protocol::Tcp, Family::V4, vec![]),
            (Protocol::Tcp, Family::V6, vec![(ip("fd01::1"), 53)]),
        ]
    );
}

#[test]
fn a_family_without_cluster_ip_does_not_exist() {
    let service = Service {
        external_ips: vec![ip("2001:db8::1")],
        ..service()
    };
    let families: Vec<_> = desired(&name(), &service, &[], &node(None), Settings::default())
        .into_iter()
        .map(|service| service.key.family)
        .collect();
    assert_eq!(families, [Family::V4]);
}

#[test]
fn slices_are_united_and_matched_by_port_name() {
    let a = EndpointSlice {
        ports: vec![
            slice_port("http", Protocol::Tcp, 8080),
            slice_port("admin", Protocol::Tcp, 80),
        ],
        ..slice(&[ready(1)])
    };
    let b = EndpointSlice {
        ports: vec![slice_port("http", Protocol::Tcp, 9090)],
        ..slice(&[ready(1), ready(2)])
    };
    let desired = desired(
        &name(),
        &service(),
        &[&a, &b],
        &node(None),
        Settings::default(),
    );
    let listening: Vec<_> = desired[0]
        .backends
        .iter()
        .map(|b| (b.addr, b.port))
        .collect();
    assert_eq!(
        listening,
        [
            (ip("10.1.0.1"), 8080),
            (ip("10.1.0.1"), 9090),
            (ip("10.1.0.2"), 9090)
        ]
    );
}

#[test]
fn of_duplicates_the_one_that_is_not_terminating_is_kept() {
    let old = slice(&[draining(1)]);
    let new = slice(&[ready(1).here()]);
    for slices in [[&old, &new], [&new, &old]] {
        let desired = desired(
            &name(),
            &service(),
            &slices,
            &node(None),
            Settings::default(),
        );
        let flags: Vec<_> = desired[0].backends.iter().map(|b| b.flags).collect();
        let expected = BackendFlags::USED
            | BackendFlags::READY
            | BackendFlags::SERVING
            | BackendFlags::LOCAL
            | BackendFlags::IN_CLUSTER_SET;
        assert_eq!(flags, [expected]);
    }
}

#[test]
fn order_is_numeric() {
    let endpoints = [ready(100), ready(20), ready(3)];
    let desired = desired(
        &name(),
        &service(),
        &[&slice(&endpoints)],
        &node(None),
        Settings::default(),
    );
    let order: Vec<_> = desired[0].backends.iter().map(|b| b.addr).collect();
    assert_eq!(order, [ip("10.1.0.3"), ip("10.1.0.20"), ip("10.1.0.100")]);
}

#[test]
fn b19_the_largest_slice_is_taken_as_a_whole() {
    let endpoints: Vec<_> = (0..1000u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let zone_hints = (0..8).map(|zone| format!("z{zone}").into()).collect();
            Endpoint {
                addr: IpAddr::from([10, 1, high, low]),
                zone_hints,
                ..ready(1)
            }
        })
        .collect();
    let mut service = service();
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let numbered = || names.iter().zip(1000u16..);
    service.ports = numbered()
        .map(|(name, number)| port(name, Protocol::Tcp, number))
        .collect();
    let mut slice = slice(&endpoints);
    slice.ports = numbered()
        .map(|(name, number)| slice_port(name, Protocol::Tcp, number))
        .collect();
    let all = desired(
        &name(),
        &service,
        &[&slice],
        &node(Some("z7")),
        Settings::default(),
    );
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|port| port.backends.len() == 1000));
}
