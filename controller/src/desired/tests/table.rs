//! Categorisation of endpoints: one row per rule of semantics C and D.

use super::{super::*, build::*};

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
        let desired = desired(&name(), &row.service, &[&slice], &node, Settings::default());
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
