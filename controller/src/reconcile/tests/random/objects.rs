//! Arbitrary objects from a small pool of names and addresses, so that they meet.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};

use super::super::cluster::NODE;

pub(super) const SERVICES: [&str; 3] = ["a", "b", "c"];

pub(super) const SLICES: [&str; 5] = ["a-1", "a-2", "a-3", "b-1", "c-1"];

/// Name, number, protocol of Service ports.
const PORTS: [(&str, u16, &str); 4] = [
    ("http", 80, "TCP"),
    ("alt", 81, "TCP"),
    ("dns", 53, "UDP"),
    ("dns-tcp", 53, "TCP"),
];

fn maybe(value: Option<impl Into<Value>>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// Addresses of Service number `index`; `moved` is another one, as after a recreation.
fn cluster_ips(index: usize, families: &[&str], moved: bool) -> Vec<String> {
    let host = if moved { 2 } else { 1 };
    let ip = |family: &&str| match *family {
        "IPv4" => format!("10.96.{index}.{host}"),
        _ => format!("fd00:96::{index}:{host}"),
    };
    families.iter().map(ip).collect()
}

fn ports() -> impl Strategy<Value = Vec<Value>> {
    let indices = subsequence((0..PORTS.len()).collect::<Vec<_>>(), 1..=3);
    // NodePorts of one pool: Services contend for them.
    (indices, vec(option::of(0..3u16), 4)).prop_map(|(indices, node_ports)| {
        let mut taken = Vec::new();
        indices
            .iter()
            .map(|index| {
                let (name, port, protocol) = PORTS[*index];
                let node_port = node_ports[*index].map(|n| 30_000 + n);
                // One Service does not name a NodePort twice.
                let node_port = node_port.filter(|n| !taken.contains(n));
                taken.extend(node_port);
                let mut object = json!({"name": name, "port": port, "protocol": protocol});
                if let Some(node_port) = node_port {
                    object["nodePort"] = node_port.into();
                }
                object
            })
            .collect()
    })
}

/// Where traffic from outside arrives.
#[derive(Clone, Debug)]
struct Outside {
    kind: &'static str,
    external_ips: Vec<&'static str>,
    ingress: Vec<(u8, Option<&'static str>)>,
    source_ranges: Vec<&'static str>,
}

fn outside() -> impl Strategy<Value = Outside> {
    let kinds = vec![
        "ClusterIP",
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
    ];
    let external = vec!["198.51.100.1", "198.51.100.2", "2001:db8:1::1"];
    let modes = select(vec![None, Some("VIP"), Some("Proxy")]);
    let ranges = vec!["10.0.0.0/8", " 192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"];
    (
        select(kinds),
        subsequence(external, 0..=2),
        vec(modes, 0..3),
        subsequence(ranges, 0..=2),
    )
        .prop_map(|(kind, external_ips, modes, source_ranges)| Outside {
            kind,
            external_ips,
            ingress: (1..).zip(modes).collect(),
            source_ranges,
        })
}

/// An arbitrary Service.
pub(super) fn service() -> impl Strategy<Value = Value> {
    let families = select(vec![
        vec!["IPv4"],
        vec!["IPv6"],
        vec!["IPv4", "IPv6"],
        vec!["IPv6", "IPv4"],
    ]);
    let identity = (
        0..SERVICES.len(),
        families,
        prop::bool::weighted(0.2),
        0..20u8,
    );
    let policy = || select(vec![None, Some("Cluster"), Some("Local")]);
    let annotations = (
        select(vec![None, None, Some("7"), Some("13"), Some("12")]),
        select(vec![None, None, Some("dsr"), Some("hybrid"), Some("?")]),
    );
    let affinity = select(vec![None, None, None, Some(30)]);
    (
        identity,
        outside(),
        ports(),
        policy(),
        policy(),
        annotations,
        affinity,
    )
        .prop_map(
            |(
                (index, families, moved, odd),
                outside,
                ports,
                internal,
                external,
                annotations,
                affinity,
            )| {
                let name = SERVICES[index];
                let ips = cluster_ips(index, &families, moved);
                let ingress = outside.ingress.iter().map(|(host, mode)| {
                    let mut one =
                        json!({"ip": format!("203.0.113.{}", index * 10 + usize::from(*host))});
                    if let Some(mode) = mode {
                        one["ipMode"] = (*mode).into();
                    }
                    one
                });
                let mut service = json!({
                    "kind": "Service",
                    "metadata": {"namespace": "default", "name": name, "annotations": {}},
                    "spec": {
                        "type": outside.kind,
                        "clusterIP": ips[0],
                        "clusterIPs": ips,
                        "ipFamilies": families,
                        "ports": ports,
                        "externalIPs": outside.external_ips,
                        "loadBalancerSourceRanges": outside.source_ranges,
                        "internalTrafficPolicy": maybe(internal),
                        "externalTrafficPolicy": maybe(external),
                    },
                    "status": {"loadBalancer": {"ingress": ingress.collect::<Vec<_>>()}},
                });
                if let Some(seconds) = affinity {
                    service["spec"]["sessionAffinity"] = "ClientIP".into();
                    service["spec"]["sessionAffinityConfig"] =
                        json!({"clientIP": {"timeoutSeconds": seconds}});
                }
                if let Some(length) = annotations.0 {
                    service["metadata"]["annotations"]["lb/maglev-table-length"] = length.into();
                }
                if let Some(mode) = annotations.1 {
                    service["metadata"]["annotations"]["lb/forwarding-mode"] = mode.into();
                }
                match odd {
                    0 => {
                        service["metadata"]["labels"] =
                            json!({"service.kubernetes.io/service-proxy-name": ""});
                    }
                    1 => {
                        service["spec"]["clusterIP"] = "None".into();
                        service["spec"]["clusterIPs"] = json!(["None"]);
                    }
                    _ => {}
                }
                service
            },
        )
}

fn conditions() -> impl Strategy<Value = Value> {
    let tri = || select(vec![None, Some(true), Some(true), Some(false)]);
    (tri(), tri(), select(vec![None, Some(false), Some(true)])).prop_map(
        |(ready, serving, terminating)| {
            json!({
                "ready": maybe(ready),
                "serving": maybe(serving),
                "terminating": maybe(terminating),
            })
        },
    )
}

fn names(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let all = names.len();
    let some = subsequence(names, 0..=all).prop_map(|names| {
        let hints = names.iter().map(|name| json!({"name": name}));
        Value::from(hints.collect::<Vec<_>>())
    });
    prop_oneof![Just(Value::Null), some]
}

/// What two slices may say of one address: that a pod leaves there. A third may say that
/// another pod has come; everything else would leave the choice to chance (rule B11).
fn leaving() -> Value {
    json!({
        "conditions": {"ready": false, "serving": true, "terminating": true},
        "nodeName": NODE,
    })
}

/// The endpoint at address number `host`, in a slice that has hints or none.
fn endpoint(host: usize, v6: bool, hinted: bool) -> impl Strategy<Value = Value> {
    let place = select(vec![None, Some(NODE), Some("node-2"), Some("Node-1")]);
    let zone = select(vec![None, Some("zone-a"), Some("zone-b")]);
    let nodes = names(vec![NODE, "node-2"]);
    let zones = names(vec!["zone-a", "zone-b"]);
    let addresses = (prop::bool::weighted(0.05), any::<bool>());
    (addresses, conditions(), place, zone, nodes, zones).prop_map(
        move |((none, more), conditions, place, zone, nodes, zones)| {
            let ip = |host: usize| {
                if v6 {
                    format!("fd00:1::{host}")
                } else {
                    format!("10.1.0.{host}")
                }
            };
            let mut addresses = Vec::new();
            if !none {
                addresses.push(ip(host));
            }
            if more && !none {
                addresses.push(ip(host + 1));
            }
            let mut endpoint = json!({"addresses": addresses, "conditions": conditions});
            if let Some(place) = place {
                endpoint["nodeName"] = place.into();
            }
            if let Some(zone) = zone {
                endpoint["zone"] = zone.into();
            }
            if hinted {
                endpoint["hints"] = json!({"forNodes": nodes, "forZones": zones});
            }
            endpoint
        },
    )
}

/// Endpoints of slice number `index`: some of its own, and one that all slices of a Service
/// may have.
fn endpoints(index: usize, v6: bool, hinted: bool) -> impl Strategy<Value = Vec<Value>> {
    let letter = SLICES[index].as_bytes()[0];
    let shared = usize::from(letter) + 100;
    let home = SLICES[index].ends_with("-1");
    let hosts = (1..5).map(|host| index * 10 + host).chain([shared]);
    subsequence(hosts.collect::<Vec<_>>(), 0..=4).prop_flat_map(move |hosts| {
        let each: Vec<_> = hosts
            .iter()
            .map(|host| endpoint(*host, v6, hinted))
            .collect();
        each.prop_map(move |mut each| {
            for (host, endpoint) in hosts.iter().zip(&mut each) {
                let stays = home && endpoint["conditions"]["terminating"] != true;
                if *host == shared && !stays {
                    let addresses = endpoint["addresses"].take();
                    *endpoint = leaving();
                    endpoint["addresses"] = addresses;
                }
            }
            each
        })
    })
}

fn slice_ports() -> impl Strategy<Value = Vec<Value>> {
    let name = select(vec![
        Some("http"),
        Some("http"),
        Some("alt"),
        Some("dns"),
        Some("dns-tcp"),
        Some(""),
        None,
    ]);
    let number = select(vec![Some(8080), Some(8080), Some(9090), Some(0), None]);
    let protocol = select(vec![Some("TCP"), Some("UDP"), None]);
    let port = (name, number, protocol).prop_map(|(name, number, protocol)| {
        let protocol = protocol.or_else(|| (name == Some("dns")).then_some("UDP"));
        json!({"name": maybe(name), "port": maybe(number), "protocol": maybe(protocol)})
    });
    vec(port, 0..4)
}

/// An arbitrary EndpointSlice.
pub(super) fn slice() -> impl Strategy<Value = Value> {
    let identity = (
        0..SLICES.len(),
        0..20u8,
        prop::bool::weighted(0.3),
        any::<bool>(),
    );
    identity.prop_flat_map(|(index, odd, v6, hinted)| {
        (endpoints(index, v6, hinted), slice_ports()).prop_map(move |(endpoints, ports)| {
            let name = SLICES[index];
            let owner = match odd {
                0 => "b",
                1 => "",
                _ => &name[..1],
            };
            let mut slice = json!({
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": "default",
                    "name": name,
                    "labels": {"kubernetes.io/service-name": owner},
                },
                "addressType": match (odd, v6) {
                    (2, _) => "FQDN",
                    (_, true) => "IPv6",
                    (_, false) => "IPv4",
                },
                "ports": ports,
                "endpoints": endpoints,
            });
            if odd == 3 {
                slice["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
            }
            slice
        })
    })
}

/// This node in an arbitrary zone.
pub(super) fn node() -> impl Strategy<Value = Value> {
    let zone = select(vec![None, Some("zone-a"), Some("zone-b"), Some("")]);
    zone.prop_map(|zone| {
        let labels = zone.map_or(
            json!({}),
            |zone| json!({"topology.kubernetes.io/zone": zone}),
        );
        json!({"kind": "Node", "metadata": {"name": NODE, "labels": labels}})
    })
}
