//! One row per rule of semantics C and D, then properties.

mod build;
mod properties;
mod reference;

use lb_ebpf::abi::{FrontendKind, Scope};

use super::*;
use crate::model::NodeHint;
use build::*;

/// A row: endpoints, Service, zone of this node → members of each set, `hasAny`.
struct Row {
    rule: &'static str,
    service: Service,
    zone: Option<&'static str>,
    endpoints: Vec<Endpoint>,
    cluster: &'static [u8],
    local: &'static [u8],
    has_any: bool,
}

#[test]
fn categorisation_follows_the_rules() {
    for row in rows() {
        let slice = slice(&row.endpoints);
        let node = node(row.zone);
        let desired = desired(&name(), &row.service, &[&slice], &node);
        let [port] = &desired[..] else {
            panic!("{}: {desired:?}", row.rule)
        };
        assert_eq!(
            members(port, BackendFlags::IN_CLUSTER_SET),
            row.cluster,
            "{}: cluster set",
            row.rule
        );
        assert_eq!(
            members(port, BackendFlags::IN_LOCAL_SET),
            row.local,
            "{}: local set",
            row.rule
        );
        assert_eq!(
            port.frontends[0].drop_when_empty, row.has_any,
            "{}: hasAny",
            row.rule
        );
        assert_eq!(
            port.backends.len(),
            row.endpoints.len(),
            "{}: endpoints",
            row.rule
        );
    }
}

fn rows() -> Vec<Row> {
    use TrafficPolicy::{Cluster, Local};
    let internal = |policy| Service {
        internal_policy: policy,
        ..service()
    };
    let row = |rule, service, endpoints, cluster, local, has_any| Row {
        rule,
        service,
        zone: Some("a"),
        endpoints,
        cluster,
        local,
        has_any,
    };
    vec![
        row(
            "C4: ready endpoints of all nodes",
            service(),
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C4: terminating ones only if none is ready",
            service(),
            vec![ready(1), draining(2)],
            &[1],
            &[],
            true,
        ),
        row(
            "C4: terminating endpoint serves when none is ready",
            service(),
            vec![dead(1), draining(2), draining(3).here()],
            &[2, 3],
            &[],
            true,
        ),
        row(
            "C4: the fallback ignores topology",
            service(),
            vec![draining(1).zones(&["a"]), draining(2).zones(&["b"])],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C5: local ready endpoints",
            internal(Local),
            vec![ready(1).here(), ready(2), draining(3).here()],
            &[],
            &[1],
            true,
        ),
        row(
            "C5: hints never restrict the local set",
            internal(Local),
            vec![ready(1).here().zones(&["b"]), ready(2).zones(&["a"])],
            &[],
            &[1],
            true,
        ),
        row(
            "C6: local falls back while cluster does not",
            external(internal(Cluster), Local),
            vec![draining(1).here(), ready(2)],
            &[2],
            &[1],
            true,
        ),
        row(
            "C7: ready and terminating at once is ready",
            service(),
            vec![
                Endpoint {
                    terminating: true,
                    ..ready(1)
                },
                ready(2),
            ],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C7: ready without serving is ready",
            service(),
            vec![Endpoint {
                serving: false,
                ..ready(1)
            }],
            &[1],
            &[],
            true,
        ),
        row(
            "C8: serving alone is never used",
            service(),
            vec![Endpoint {
                ready: false,
                ..ready(1)
            }],
            &[],
            &[],
            false,
        ),
        row(
            "C9: nothing anywhere",
            service(),
            vec![dead(1)],
            &[],
            &[],
            false,
        ),
        row(
            "C9: without the local set only the cluster set counts",
            service(),
            vec![],
            &[],
            &[],
            false,
        ),
        row(
            "C9: a remote endpoint counts for a local policy",
            internal(Local),
            vec![ready(1)],
            &[],
            &[],
            true,
        ),
        row(
            "C9: a remote draining endpoint counts too",
            internal(Local),
            vec![draining(1)],
            &[],
            &[],
            true,
        ),
        row(
            "C9: a remote dead endpoint does not",
            internal(Local),
            vec![dead(1)],
            &[],
            &[],
            false,
        ),
        row(
            "C3: no cluster set when no frontend needs it",
            internal(Local),
            vec![ready(1).here(), ready(2)],
            &[],
            &[1],
            true,
        ),
        row(
            "C3: both sets when reachable from outside",
            external(internal(Local), Cluster),
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[1],
            true,
        ),
        row(
            "C3: no local set without a local policy",
            external(internal(Cluster), Cluster),
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C2: external policy without external access is no policy",
            Service {
                external_policy: Local,
                ..internal(Cluster)
            },
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C2: external IPs give a ClusterIP Service one",
            Service {
                external_policy: Local,
                external_ips: vec![ip("192.0.2.1")],
                ..service()
            },
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[1],
            true,
        ),
        row(
            "C1: an external IP of the other family opens nothing here",
            Service {
                external_policy: Local,
                external_ips: vec![ip("2001:db8::1")],
                ..service()
            },
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "C1: a load-balancer VIP opens the port",
            Service {
                service_type: ServiceType::LoadBalancer,
                load_balancer_ips: vec![ip("192.0.2.1")],
                ..internal(Local)
            },
            vec![ready(1).here(), ready(2)],
            &[1, 2],
            &[1],
            true,
        ),
        row(
            "D2: endpoints hinted for this node",
            service(),
            vec![
                ready(1).node(NodeHint::This),
                ready(2).node(NodeHint::Other),
            ],
            &[1],
            &[],
            true,
        ),
        row(
            "D2: node hints beat zone hints",
            service(),
            vec![
                ready(1).node(NodeHint::This).zones(&["b"]),
                ready(2).node(NodeHint::Other).zones(&["a"]),
            ],
            &[1],
            &[],
            true,
        ),
        row(
            "D2: zone hints if no endpoint is hinted for this node",
            service(),
            vec![
                ready(1).node(NodeHint::Other).zones(&["a"]),
                ready(2).node(NodeHint::Other).zones(&["b"]),
            ],
            &[1],
            &[],
            true,
        ),
        row(
            "D2: no restriction if no endpoint is hinted for this zone",
            service(),
            vec![ready(1).zones(&["b"]), ready(2).zones(&["c"])],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "D2: endpoints that are not ready do not vote",
            service(),
            vec![ready(1).zones(&["a"]), ready(2).zones(&["b"]), draining(3)],
            &[1],
            &[],
            true,
        ),
        row(
            "D3: one ready endpoint without a zone hint ends zone mode",
            service(),
            vec![ready(1).zones(&["a"]), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        row(
            "D3: one ready endpoint without a node hint ends node mode",
            service(),
            vec![ready(1).node(NodeHint::This), ready(2)],
            &[1, 2],
            &[],
            true,
        ),
        Row {
            zone: None,
            ..row(
                "D4: a node without a zone prefers none",
                service(),
                vec![ready(1).zones(&["a"]), ready(2).zones(&["b"])],
                &[1, 2],
                &[],
                true,
            )
        },
        Row {
            zone: None,
            ..row(
                "D4: node mode needs no zone",
                service(),
                vec![
                    ready(1).node(NodeHint::This),
                    ready(2).node(NodeHint::Other),
                ],
                &[1],
                &[],
                true,
            )
        },
        row(
            "D5: hints apply to the cluster set of external frontends",
            external(service(), Cluster),
            vec![ready(1).zones(&["a"]), ready(2).zones(&["b"])],
            &[1],
            &[],
            true,
        ),
        row(
            "D6: any one of several zones fits",
            service(),
            vec![ready(1).zones(&["c", "a"]), ready(2).zones(&["b", "c"])],
            &[1],
            &[],
            true,
        ),
    ]
}

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
        let desired = desired(&name(), &service, &[], &node(None));
        assert_eq!(
            desired[0].frontends,
            [DesiredFrontend {
                addr: ip("10.96.0.1"),
                port: 80,
                scope: Scope::Internal,
                kind: FrontendKind::ClusterIp,
                set,
                drop_when_empty: false,
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
    let desired = desired(&name(), &service, &[&v6, &v4], &node(None));
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
    let families: Vec<_> = desired(&name(), &service, &[], &node(None))
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
    let desired = desired(&name(), &service(), &[&a, &b], &node(None));
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
        let desired = desired(&name(), &service(), &slices, &node(None));
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
    let desired = desired(&name(), &service(), &[&slice(&endpoints)], &node(None));
    let order: Vec<_> = desired[0].backends.iter().map(|b| b.addr).collect();
    assert_eq!(order, [ip("10.1.0.3"), ip("10.1.0.20"), ip("10.1.0.100")]);
}
