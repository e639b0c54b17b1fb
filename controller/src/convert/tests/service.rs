//! Services.

use serde_json::{Value, json};

use super::{super::*, converter, merge};
use crate::model::{ForwardingMode, Protocol, Service, ServicePort, ServiceType, TrafficPolicy};

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
            source_ranges: Box::default(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_secs: None,
            pinned_len: None,
            forwarding: None,
            health_check_node_port: 0,
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
    // clusterIP decides, whatever else is there.
    assert_eq!(service(&json!({"clusterIP": "None"})), None);
    assert_eq!(service(&json!({"clusterIP": ""})), None);
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
fn a8_e28_source_ranges_are_trimmed_and_invalid_ones_skipped() {
    let ranges = json!([
        " 10.1.2.3/8 ",
        "",
        "  ",
        "192.0.2.0",
        "2001:db8::/32",
        "010.9.0.0/16"
    ]);
    let service = service(&json!({"loadBalancerSourceRanges": ranges})).unwrap();
    let ranges: Vec<_> = service
        .source_ranges
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["10.0.0.0/8", "2001:db8::/32", "10.9.0.0/16"]);
}

#[test]
fn e32_the_annotation_for_source_ranges_is_not_read() {
    let annotation = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let metadata = json!({"annotations": {annotation: "10.0.0.0/8"}});
    assert_eq!(service_with(&metadata, &json!({})), service(&json!({})));
}

#[test]
fn unspecified_and_loopback_addresses_are_no_vips() {
    let special = [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "192.0.2.1",
    ];
    let service = service(&json!({"externalIPs": special})).unwrap();
    assert_eq!(
        service.external_ips,
        ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[test]
fn only_a_known_forwarding_mode_is_taken() {
    let mode = |value: &str| {
        let annotations = json!({"annotations": {FORWARDING_MODE: value}});
        service_with(&annotations, &json!({})).unwrap().forwarding
    };
    assert_eq!(mode("snat"), Some(ForwardingMode::Snat));
    assert_eq!(mode("dsr"), Some(ForwardingMode::Dsr));
    assert_eq!(mode("hybrid"), Some(ForwardingMode::Hybrid));
    for value in ["DSR", " dsr", "dsr,snat", "tunnel", ""] {
        assert_eq!(mode(value), None, "{value:?}");
    }
}

#[test]
fn e17_health_check_node_port_is_no_node_port() {
    let spec = json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000,
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    let service = service(&spec).unwrap();
    let node_ports: Vec<_> = service.ports.iter().map(|port| port.node_port).collect();
    assert_eq!(node_ports, [30080]);
    assert_eq!(service.health_check_node_port, 32000);
}

#[test]
fn j9_an_unusable_health_check_node_port_is_none() {
    for value in [json!(null), json!(0), json!(-1), json!(65536)] {
        let spec = json!({
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": value,
        });
        assert_eq!(service(&spec).unwrap().health_check_node_port, 0);
    }
}

#[test]
fn repeated_node_port_belongs_to_the_first_port() {
    let ports = json!([
        {"name": "a", "port": 80, "nodePort": 30080},
        {"name": "b", "port": 81, "nodePort": 30080},
        {"name": "c", "port": 80, "nodePort": 30080, "protocol": "UDP"},
    ]);
    let ports = service(&json!({"type": "NodePort", "ports": ports}))
        .unwrap()
        .ports;
    let node_ports: Vec<_> = ports.iter().map(|port| port.node_port).collect();
    assert_eq!(node_ports, [30080, 0, 30080]);
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
