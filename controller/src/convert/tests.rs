//! One test per rule, on objects as they appear on the wire.

use serde_json::{Value, json};

use super::*;
use crate::model::{
    EndpointSlice, Family, NodeHint, Protocol, Service, ServicePort, ServiceType, TrafficPolicy,
};

const NODE: &str = "node-1";

fn converter() -> Converter {
    Converter::new(NODE)
}

/// A Service of namespace `shop`, with `patch` merged into its spec.
fn service(patch: &Value) -> Option<Service> {
    service_with(&json!({}), patch)
}

fn service_with(metadata: &Value, patch: &Value) -> Option<Service> {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    });
    merge(&mut object["metadata"], metadata);
    merge(&mut object["spec"], patch);
    service_of(object)
}

fn service_of(object: Value) -> Option<Service> {
    let object = serde_json::from_value(object).unwrap();
    match converter().service(&object).unwrap() {
        Event::Service(name, service) => {
            assert_eq!(name.to_string(), "shop/web");
            service
        }
        other => panic!("{other:?}"),
    }
}

/// A slice of one port and one endpoint, with `patch` merged into the object.
fn slice(patch: &Value) -> Option<EndpointSlice> {
    let mut object = json!({
        "metadata": {
            "name": "web-x7k2p",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"]}],
    });
    merge(&mut object, patch);
    let object = serde_json::from_value(object).unwrap();
    match converter().endpoint_slice(&object).unwrap() {
        Event::EndpointSlice(name, slice) => {
            assert_eq!(name.to_string(), "shop/web-x7k2p");
            slice
        }
        other => panic!("{other:?}"),
    }
}

fn merge(object: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        object[key] = value.clone();
    }
}

fn endpoint(patch: &Value) -> crate::model::Endpoint {
    let mut endpoint = json!({"addresses": ["10.1.0.1"]});
    merge(&mut endpoint, patch);
    slice(&json!({ "endpoints": [endpoint] }))
        .unwrap()
        .endpoints[0]
        .clone()
}

fn cluster_ips(patch: &Value) -> Vec<String> {
    let service = service(patch);
    let addrs = service
        .map(|service| service.cluster_ips)
        .unwrap_or_default();
    addrs.iter().map(ToString::to_string).collect()
}

fn port_names(ports: &Value) -> Vec<String> {
    let service = service(&json!({ "ports": ports })).unwrap();
    service
        .ports
        .iter()
        .map(|port| format!("{}:{}/{:?}", port.name, port.port, port.protocol))
        .collect()
}

#[test]
fn a_plain_service_becomes_a_record() {
    assert_eq!(
        service(&json!({})),
        Some(Service {
            service_type: ServiceType::ClusterIp,
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            external_ips: vec![],
            load_balancer_ips: vec![],
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_secs: None,
            pinned_len: None,
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 0,
            }],
        })
    );
}

#[test]
fn a1_a_service_of_another_proxy_is_not_handled_whatever_the_value() {
    for value in ["cilium", ""] {
        let labels = json!({"labels": {PROXY_NAME_LABEL: value}});
        assert_eq!(service_with(&labels, &json!({})), None);
    }
}

#[test]
fn a3_headless_services_are_not_handled() {
    assert_eq!(
        service(&json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        None
    );
    assert_eq!(service(&json!({"clusterIP": "", "clusterIPs": []})), None);
    assert_eq!(
        service(&json!({"clusterIP": null, "clusterIPs": null})),
        None
    );
    assert_eq!(
        service_of(json!({"metadata": {"name": "web", "namespace": "shop"}})),
        None
    );
}

#[test]
fn a5_external_names_are_not_handled_even_with_a_cluster_ip() {
    assert_eq!(
        service(&json!({"type": "ExternalName", "externalName": "example.com"})),
        None
    );
}

#[test]
fn a7_families_choose_among_the_cluster_ips() {
    let dual = |families| {
        json!({
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ipFamilies": families,
        })
    };
    assert_eq!(
        cluster_ips(&dual(json!(["IPv4", "IPv6"]))),
        ["10.96.0.1", "fd00::1"]
    );
    assert_eq!(cluster_ips(&dual(json!(["IPv4"]))), ["10.96.0.1"]);
    // Skew: without ipFamilies only spec.clusterIP counts.
    assert_eq!(cluster_ips(&dual(json!([]))), ["10.96.0.1"]);
    assert_eq!(cluster_ips(&dual(json!(null))), ["10.96.0.1"]);
    // A family without an address does not exist.
    assert_eq!(
        cluster_ips(&json!({"ipFamilies": ["IPv4", "IPv6"]})),
        ["10.96.0.1"]
    );
    // An address of the wrong family is no address of that family.
    assert_eq!(cluster_ips(&dual(json!(["IPv6", "IPv4"]))), [""; 0]);
    // Manifests may name only one of the two fields.
    let only = json!({"clusterIP": "fd00::1", "clusterIPs": null, "ipFamilies": ["IPv6"]});
    assert_eq!(cluster_ips(&only), ["fd00::1"]);
    let only = json!({"clusterIP": null, "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv6"]});
    assert_eq!(cluster_ips(&only), ["fd00::1"]);
}

#[test]
fn a8_addresses_are_made_canonical_and_invalid_ones_skipped() {
    let service = service(&json!({
        "clusterIP": "010.096.000.001",
        "clusterIPs": ["010.096.000.001"],
        "externalIPs": ["192.0.2.010", "", "nonsense", "2001:db8::1", "192.0.2.10"],
    }))
    .unwrap();
    assert_eq!(
        service.cluster_ips,
        ["10.96.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    let external: Vec<_> = service
        .external_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(external, ["192.0.2.10", "2001:db8::1"]);
}

#[test]
fn a9_a12_class_and_topology_annotations_change_nothing() {
    let metadata = json!({"annotations": {"service.kubernetes.io/topology-mode": "Auto"}});
    let spec = json!({"loadBalancerClass": "example.com/lb", "trafficDistribution": "PreferClose"});
    assert_eq!(service_with(&metadata, &spec), service(&json!({})));
}

#[test]
fn a10_no_node_port_is_zero() {
    let node_port = |value: Value| {
        let port = json!([{"port": 80, "nodePort": value}]);
        service(&json!({"type": "NodePort", "ports": port}))
            .unwrap()
            .ports[0]
            .node_port
    };
    assert_eq!(node_port(json!(30080)), 30080);
    assert_eq!(node_port(json!(0)), 0);
    assert_eq!(node_port(json!(null)), 0);
    assert_eq!(node_port(json!(70000)), 0);
}

#[test]
fn e18_only_vips_of_the_status_count() {
    let service = service_of(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1"},
            {"ip": "192.0.2.2", "ipMode": "VIP"},
            {"ip": "192.0.2.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.com"},
            {"ip": ""},
            {"ip": "2001:db8::1", "ports": [{"port": 80, "protocol": "TCP"}]},
        ]}},
    }))
    .unwrap();
    assert_eq!(service.service_type, ServiceType::LoadBalancer);
    let vips: Vec<_> = service
        .load_balancer_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(vips, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
}

#[test]
fn policies_default_to_cluster() {
    let service =
        service(&json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}));
    let service = service.unwrap();
    assert_eq!(service.internal_policy, TrafficPolicy::Local);
    assert_eq!(service.external_policy, TrafficPolicy::Local);
}

#[test]
fn h1_affinity_has_a_default_and_bounds() {
    let secs = |value: Value| {
        let config = json!({"clientIP": {"timeoutSeconds": value}});
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        service(&spec).unwrap().affinity_secs
    };
    assert_eq!(secs(json!(60)), Some(60));
    assert_eq!(secs(json!(null)), Some(10_800));
    assert_eq!(secs(json!(0)), Some(1));
    assert_eq!(secs(json!(-5)), Some(1));
    assert_eq!(secs(json!(86_401)), Some(86_400));
    assert_eq!(
        service(&json!({"sessionAffinity": "ClientIP"}))
            .unwrap()
            .affinity_secs,
        Some(10_800)
    );
    assert_eq!(
        service(&json!({"sessionAffinity": "None"}))
            .unwrap()
            .affinity_secs,
        None
    );
}

#[test]
fn only_a_prime_table_length_is_pinned() {
    let pinned = |value: &str| {
        let annotations = json!({"annotations": {TABLE_LENGTH: value}});
        service_with(&annotations, &json!({})).unwrap().pinned_len
    };
    assert_eq!(pinned("16381"), Some(16381));
    assert_eq!(pinned("2"), Some(2));
    assert_eq!(pinned("1000003"), Some(1_000_003));
    for value in ["16382", "1000033", "4294967291", "1", "0", "-7", "many", ""] {
        assert_eq!(pinned(value), None, "{value}");
    }
}

#[test]
fn unusable_and_repeated_ports_are_skipped() {
    assert_eq!(
        port_names(&json!([
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "again", "port": 53, "protocol": "UDP"},
            {"name": "dns", "port": 54, "protocol": "UDP"},
            {"name": "sctp", "port": 53, "protocol": "SCTP"},
            {"name": "zero", "port": 0},
            {"name": "large", "port": 65536},
            {"name": "NOT-A-LABEL", "port": 81},
            {"name": "icmp", "port": 82, "protocol": "ICMP"},
            {"name": "default", "port": 83},
        ])),
        [
            "dns:53/Udp",
            "dns-tcp:53/Tcp",
            "sctp:53/Sctp",
            "default:83/Tcp"
        ]
    );
    assert_eq!(port_names(&json!([{"port": 80}])), [":80/Tcp"]);
}

#[test]
fn b1_a_slice_belongs_to_the_service_of_its_label_and_namespace() {
    assert_eq!(slice(&json!({})).unwrap().service.to_string(), "shop/web");
    let labels = |labels: Value| json!({"metadata": {"name": "web-x7k2p", "namespace": "shop", "labels": labels}});
    assert_eq!(slice(&labels(json!({}))), None);
    assert_eq!(slice(&labels(json!({SERVICE_NAME_LABEL: ""}))), None);
}

#[test]
fn b2_slices_of_headless_services_are_excluded() {
    let labels = json!({SERVICE_NAME_LABEL: "web", HEADLESS_LABEL: ""});
    let metadata = json!({"name": "web-x7k2p", "namespace": "shop", "labels": labels});
    assert_eq!(slice(&json!({ "metadata": metadata })), None);
}

#[test]
fn b4_the_address_type_is_the_family() {
    assert_eq!(slice(&json!({})).unwrap().family, Family::V4);
    let v6 = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd01::1"]}]});
    assert_eq!(slice(&v6).unwrap().family, Family::V6);
    let names = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]});
    assert_eq!(slice(&names), None);
    assert_eq!(slice(&json!({"addressType": "IPX"})), None);
    // An address of the other family cannot be reached in this one.
    let mixed = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["::ffff:10.0.0.1"]}]});
    assert_eq!(slice(&mixed).unwrap().endpoints, []);
}

#[test]
fn b6_b7_ports_need_a_name_and_a_number() {
    let ports = slice(&json!({"ports": [
        {"name": "http", "port": 8080},
        {"name": "", "port": 80, "protocol": "UDP"},
        {"name": null, "port": 81},
        {"port": 82},
        {"name": "null-number"},
        {"name": "zero", "port": 0},
        {"name": "large", "port": 65536},
        {"name": "icmp", "port": 83, "protocol": "ICMP"},
    ]}));
    let ports = ports.unwrap().ports;
    let summary: Vec<_> = ports
        .iter()
        .map(|p| (&*p.name, p.protocol, p.port))
        .collect();
    assert_eq!(
        summary,
        [("http", Protocol::Tcp, 8080), ("", Protocol::Udp, 80)]
    );
    assert_eq!(slice(&json!({"ports": null})).unwrap().ports, []);
}

#[test]
fn b8_only_the_first_address_counts() {
    let endpoints = slice(&json!({"endpoints": [
        {"addresses": ["10.1.0.1", "10.1.0.2"]},
        {"addresses": []},
        {"addresses": ["010.1.0.03"]},
        {"addresses": ["nonsense"]},
    ]}));
    let addrs: Vec<_> = endpoints
        .unwrap()
        .endpoints
        .iter()
        .map(|e| e.addr.to_string())
        .collect();
    assert_eq!(addrs, ["10.1.0.1", "10.1.0.3"]);
    assert_eq!(slice(&json!({"endpoints": null})).unwrap().endpoints, []);
}

#[test]
fn b9_conditions_have_defaults() {
    let conditions = |conditions: Value| {
        let e = endpoint(&json!({ "conditions": conditions }));
        (e.ready, e.serving, e.terminating)
    };
    assert_eq!(conditions(json!({})), (true, true, false));
    assert_eq!(conditions(json!(null)), (true, true, false));
    assert_eq!(conditions(json!({"ready": false})), (false, true, false));
    assert_eq!(
        conditions(json!({"ready": false, "serving": false, "terminating": true})),
        (false, false, true)
    );
}

#[test]
fn b10_local_is_an_endpoint_with_exactly_this_node_name() {
    assert!(endpoint(&json!({"nodeName": NODE})).local);
    assert!(!endpoint(&json!({"nodeName": "NODE-1"})).local);
    assert!(!endpoint(&json!({"nodeName": ""})).local);
    assert!(!endpoint(&json!({})).local);
    let nameless = serde_json::from_value(json!({
        "metadata": {"name": "x", "labels": {SERVICE_NAME_LABEL: "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": ""}],
    }));
    let event = Converter::new("")
        .endpoint_slice(&nameless.unwrap())
        .unwrap();
    let Event::EndpointSlice(_, Some(slice)) = event else {
        panic!("{event:?}")
    };
    assert!(!slice.endpoints[0].local);
}

#[test]
fn d1_hints_are_kept_as_far_as_they_concern_this_node() {
    let hints = |hints: Value| {
        let e = endpoint(&json!({"zone": "a", "hints": hints}));
        (
            e.node_hint,
            e.zone_hints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(hints(json!(null)), (NodeHint::None, vec![]));
    assert_eq!(
        hints(json!({"forNodes": [], "forZones": []})),
        (NodeHint::None, vec![])
    );
    assert_eq!(
        hints(
            json!({"forNodes": [{"name": "node-2"}, {"name": NODE}], "forZones": [{"name": "a"}, {"name": "b"}]})
        ),
        (NodeHint::This, vec!["a".into(), "b".into()])
    );
    assert_eq!(
        hints(json!({"forNodes": [{"name": "node-2"}]})),
        (NodeHint::Other, vec![])
    );
    assert_eq!(endpoint(&json!({"zone": "a"})).zone.as_deref(), Some("a"));
    assert_eq!(endpoint(&json!({"zone": ""})).zone, None);
}

#[test]
fn d4_only_this_nodes_zone_counts_and_an_empty_one_is_none() {
    let node = |name: &str, labels: Value| {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        converter().node(&serde_json::from_value(object).unwrap())
    };
    let zone = |zone: Option<&str>| {
        Some(Event::Node(NodeInfo {
            zone: zone.map(Into::into),
        }))
    };
    assert_eq!(
        node(NODE, json!({"topology.kubernetes.io/zone": "a", "x": "y"})),
        zone(Some("a"))
    );
    assert_eq!(
        node(NODE, json!({"topology.kubernetes.io/zone": ""})),
        zone(None)
    );
    assert_eq!(node(NODE, json!(null)), zone(None));
    assert_eq!(
        node("node-2", json!({"topology.kubernetes.io/zone": "a"})),
        None
    );
}

#[test]
fn an_object_without_a_name_is_skipped_and_the_namespace_has_a_default() {
    let object = |metadata: Value| serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    assert_eq!(converter().service(&object(json!({}))), None);
    let event = converter()
        .service(&object(json!({"name": "web"})))
        .unwrap();
    let Event::Service(name, None) = event else {
        panic!("{event:?}")
    };
    assert_eq!(name.to_string(), "default/web");
}
