//! Frontends for clients outside the cluster: at least one row per rule.

use lb_ebpf::abi::FrontendFlags;

use super::{super::*, build::*};
use crate::model::ForwardingMode;

/// `kind address:port scope set flags`, a line per frontend.
fn shown(port: &DesiredService) -> Vec<String> {
    const FLAGS: [(u32, &str); 3] = [
        (FrontendFlags::EXTERNAL_DIFFERS, " differs"),
        (FrontendFlags::SOURCE_RANGES, " restricted"),
        (FrontendFlags::DSR, " dsr"),
    ];
    let show = |f: &DesiredFrontend| {
        let address = std::net::SocketAddr::new(f.addr, f.port);
        let set = FLAGS.iter().filter(|(bit, _)| f.flags & bit != 0);
        let flags: String = set.map(|(_, word)| *word).collect();
        format!("{:?} {address} {:?} {:?}{flags}", f.kind, f.scope, f.set)
    };
    port.frontends.iter().map(show).collect()
}

fn of_with(service: &Service, node: &NodeInfo, settings: Settings) -> Vec<DesiredService> {
    desired(
        &name(),
        service,
        &[&slice(&[ready(1), ready(2).here()])],
        node,
        settings,
    )
}

fn of(service: &Service) -> Vec<DesiredService> {
    of_with(service, &node(None), Settings::default())
}

/// The frontends of the only port and family.
fn frontends(service: &Service) -> Vec<String> {
    let [port] = &of(service)[..] else {
        panic!("one port in one family")
    };
    shown(port)
}

fn sources(service: &Service, node: &NodeInfo) -> Vec<String> {
    let ports = of_with(service, node, Settings::default());
    let ranges = ports.iter().flat_map(|port| &port.source_ranges);
    ranges.map(ToString::to_string).collect()
}

/// A dual-stack load balancer with every kind of frontend.
fn everything(external_policy: TrafficPolicy) -> Service {
    Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
        external_ips: vec![ip("198.51.100.1"), ip("2001:db8:e::1")],
        load_balancer_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        service_type: ServiceType::LoadBalancer,
        ..external(service(), external_policy)
    }
}

/// An IPv4 load balancer with these source ranges.
fn restricted(ranges: &[&str]) -> Service {
    Service {
        service_type: ServiceType::LoadBalancer,
        load_balancer_ips: vec![ip("192.0.2.1")],
        source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..service()
    }
}

#[test]
fn e6_e18_e19_e23_every_kind_of_address_is_a_frontend_of_its_family() {
    let [v4, v6] = &of(&everything(TrafficPolicy::Cluster))[..] else {
        panic!("two families")
    };
    assert_eq!(
        shown(v4),
        [
            "NodePort 0.0.0.0:30080 Internal Cluster",
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "LoadBalancer 192.0.2.1:80 Internal Cluster",
            "ExternalIp 198.51.100.1:80 Internal Cluster",
        ]
    );
    assert_eq!(
        shown(v6),
        [
            "NodePort [::]:30080 Internal Cluster",
            "LoadBalancer [2001:db8::1]:80 Internal Cluster",
            "ExternalIp [2001:db8:e::1]:80 Internal Cluster",
            "ClusterIp [fd00::1]:80 Internal Cluster",
        ]
    );
}

#[test]
fn a7_family_without_cluster_ip_has_no_external_frontend_either() {
    let service = Service {
        cluster_ips: vec![ip("10.96.0.1")],
        ..everything(TrafficPolicy::Cluster)
    };
    let families: Vec<_> = of(&service).iter().map(|port| port.key.family).collect();
    assert_eq!(families, [Family::V4]);
}

#[test]
fn a10_without_node_port_the_vips_remain() {
    assert_eq!(
        frontends(&restricted(&[])),
        [
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "LoadBalancer 192.0.2.1:80 Internal Cluster",
        ]
    );
}

#[test]
fn a13_external_ips_can_be_switched_off() {
    let service = Service {
        external_ips: vec![ip("198.51.100.1")],
        external_policy: TrafficPolicy::Local,
        ..service()
    };
    let off = Settings {
        external_ips: false,
        ..Settings::default()
    };
    let ports = of_with(&service, &node(None), off);
    assert_eq!(
        shown(&ports[0]),
        ["ClusterIp 10.96.0.1:80 Internal Cluster"]
    );
    assert_eq!(ports[0].external_policy, TrafficPolicy::Cluster, "rule C2");
    assert_eq!(members(&ports[0], BackendFlags::IN_LOCAL_SET), [0; 0]);
}

#[test]
fn g4_with_masquerade_all_cluster_ips_and_nothing_else_masquerade() {
    let all = Settings {
        masquerade_all: true,
        ..Settings::default()
    };
    for port in of_with(&everything(TrafficPolicy::Local), &node(None), all) {
        for frontend in &port.frontends {
            let masquerades = frontend.flags & FrontendFlags::MASQUERADE != 0;
            let is_cluster_ip = frontend.kind == FrontendKind::ClusterIp;
            assert_eq!(masquerades, is_cluster_ip, "{frontend:?}");
        }
    }
}

#[test]
fn f1_f2_f3_external_policy_local_counts_for_packets_from_outside_only() {
    let [v4, _] = &of(&everything(TrafficPolicy::Local))[..] else {
        panic!("two families")
    };
    assert_eq!(
        shown(v4),
        [
            "NodePort 0.0.0.0:30080 External Local",
            "NodePort 0.0.0.0:30080 Internal Cluster differs",
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "LoadBalancer 192.0.2.1:80 External Local",
            "LoadBalancer 192.0.2.1:80 Internal Cluster differs",
            "ExternalIp 198.51.100.1:80 External Local",
            "ExternalIp 198.51.100.1:80 Internal Cluster differs",
        ]
    );
}

#[test]
fn e24_external_policy_local_applies_to_external_ips_of_a_cluster_ip_service() {
    let service = Service {
        external_ips: vec![ip("198.51.100.1")],
        external_policy: TrafficPolicy::Local,
        ..service()
    };
    assert_eq!(
        frontends(&service)[1..],
        [
            "ExternalIp 198.51.100.1:80 External Local",
            "ExternalIp 198.51.100.1:80 Internal Cluster differs",
        ]
    );
}

#[test]
fn f6_f7_internal_policy_counts_for_every_client_of_the_cluster_ip_and_nowhere_else() {
    let service = Service {
        internal_policy: TrafficPolicy::Local,
        ..external(service(), TrafficPolicy::Cluster)
    };
    assert_eq!(
        frontends(&service),
        [
            "NodePort 0.0.0.0:30080 Internal Cluster",
            "ClusterIp 10.96.0.1:80 Internal Local",
        ]
    );
}

#[test]
fn c12_c14_without_local_endpoint_outside_is_dropped_and_inside_served() {
    let service = external(service(), TrafficPolicy::Local);
    let elsewhere = slice(&[ready(1)]);
    let settings = Settings::default();
    let ports = desired(&name(), &service, &[&elsewhere], &node(None), settings);
    assert_eq!(members(&ports[0], BackendFlags::IN_LOCAL_SET), [0; 0]);
    assert_eq!(members(&ports[0], BackendFlags::IN_CLUSTER_SET), [1]);
    let external = ports[0]
        .frontends
        .iter()
        .find(|f| f.scope == Scope::External);
    assert!(external.is_some_and(|f| f.drop_when_empty && f.set == BackendSet::Local));
}

#[test]
fn c11_without_any_endpoint_every_frontend_refuses() {
    let service = everything(TrafficPolicy::Local);
    for port in desired(&name(), &service, &[], &node(None), Settings::default()) {
        assert!(port.frontends.iter().all(|f| !f.drop_when_empty));
    }
}

#[test]
fn address_of_two_kinds_counts_once_as_kube_proxy_matches_it() {
    let service = Service {
        external_ips: vec![ip("192.0.2.1"), ip("10.96.0.1")],
        ..restricted(&["10.0.0.0/8"])
    };
    assert_eq!(
        frontends(&service),
        [
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "ExternalIp 192.0.2.1:80 Internal Cluster",
        ]
    );
}

#[test]
fn e12_e23_e26_source_ranges_restrict_load_balancer_vips_only_in_both_scopes() {
    let service = Service {
        source_ranges: Box::new(["10.0.0.0/8".parse().unwrap()]),
        ..everything(TrafficPolicy::Local)
    };
    let [v4, v6] = &of(&service)[..] else {
        panic!("two families")
    };
    assert_eq!(
        shown(v4),
        [
            "NodePort 0.0.0.0:30080 External Local",
            "NodePort 0.0.0.0:30080 Internal Cluster differs",
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "LoadBalancer 192.0.2.1:80 External Local restricted",
            "LoadBalancer 192.0.2.1:80 Internal Cluster differs restricted",
            "ExternalIp 198.51.100.1:80 External Local",
            "ExternalIp 198.51.100.1:80 Internal Cluster differs",
        ]
    );
    // Rule E28: nothing is left of the ranges in IPv6.
    assert!(v6.source_ranges.is_empty());
    assert!(shown(v6).iter().all(|line| !line.ends_with("restricted")));
}

#[test]
fn e28_a_zero_prefix_or_no_range_of_the_family_restricts_nothing() {
    let unrestricted: [&[&str]; 4] = [
        &[],
        &["2001:db8::/32"],
        &["10.0.0.0/8", "0.0.0.0/0"],
        &["2001:db8::/32", "0.0.0.0/0"],
    ];
    for ranges in unrestricted {
        let service = restricted(ranges);
        assert_eq!(sources(&service, &node(None)), [""; 0], "{ranges:?}");
        let lines = frontends(&service);
        assert_eq!(lines[1], "LoadBalancer 192.0.2.1:80 Internal Cluster");
    }
    // A zero prefix of the other family changes nothing.
    assert_eq!(
        sources(
            &restricted(&["::/0", "172.16.0.0/12", "10.0.0.0/8"]),
            &node(None)
        ),
        ["10.0.0.0/8", "172.16.0.0/12"]
    );
}

#[test]
fn e29_vips_are_admitted_as_sources_if_a_range_contains_the_node() {
    let at = |addr: &str| NodeInfo {
        primary_v4: Some(addr.parse().unwrap()),
        primary_v6: Some("2001:db8::10".parse().unwrap()),
        ..NodeInfo::default()
    };
    let mut service = restricted(&["203.0.113.0/24"]);
    service.load_balancer_ips.push(ip("192.0.2.2"));
    service.load_balancer_ips.push(ip("2001:db8::1"));
    assert_eq!(
        sources(&service, &at("203.0.113.7")),
        ["192.0.2.1/32", "192.0.2.2/32", "203.0.113.0/24"]
    );
    assert_eq!(sources(&service, &at("203.0.114.7")), ["203.0.113.0/24"]);
    assert_eq!(sources(&service, &node(None)), ["203.0.113.0/24"]);
}

#[test]
fn source_ranges_without_a_vip_restrict_nothing() {
    let mut service = restricted(&["10.0.0.0/8"]);
    service.load_balancer_ips.clear();
    assert_eq!(sources(&service, &node(None)), [""; 0]);
}

/// Forwarding of TCP, UDP and SCTP.
fn forwarding(service: Option<ForwardingMode>, node_default: ForwardingMode) -> [Forwarding; 3] {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let ports = protocols.map(|protocol| ServicePort {
        node_port: 30080,
        ..port("http", protocol, 80)
    });
    let service = Service {
        forwarding: service,
        ports: ports.to_vec(),
        ..external(super::build::service(), TrafficPolicy::Cluster)
    };
    let settings = Settings {
        forwarding: node_default,
        ..Settings::default()
    };
    let ports = of_with(&service, &node(None), settings);
    [0, 1, 2].map(|index| ports[index].forwarding)
}

#[test]
fn hybrid_is_dsr_for_tcp_and_sctp_is_never_dsr() {
    use Forwarding::{Dsr, Snat};
    use ForwardingMode as Mode;
    assert_eq!(forwarding(Some(Mode::Dsr), Mode::Snat), [Dsr, Dsr, Snat]);
    assert_eq!(
        forwarding(Some(Mode::Hybrid), Mode::Snat),
        [Dsr, Snat, Snat]
    );
    assert_eq!(forwarding(Some(Mode::Snat), Mode::Dsr), [Snat, Snat, Snat]);
    assert_eq!(forwarding(None, Mode::Dsr), [Dsr, Dsr, Snat]);
    assert_eq!(forwarding(None, Mode::Hybrid), [Dsr, Snat, Snat]);
    assert_eq!(forwarding(None, Mode::Snat), [Snat, Snat, Snat]);
}

#[test]
fn dsr_marks_external_frontends_in_both_scopes_and_pins_the_table() {
    let service = Service {
        forwarding: Some(ForwardingMode::Dsr),
        ..everything(TrafficPolicy::Local)
    };
    let ports = of(&service);
    assert_eq!(
        shown(&ports[0]),
        [
            "NodePort 0.0.0.0:30080 External Local dsr",
            "NodePort 0.0.0.0:30080 Internal Cluster differs dsr",
            "ClusterIp 10.96.0.1:80 Internal Cluster",
            "LoadBalancer 192.0.2.1:80 External Local dsr",
            "LoadBalancer 192.0.2.1:80 Internal Cluster differs dsr",
            "ExternalIp 198.51.100.1:80 External Local dsr",
            "ExternalIp 198.51.100.1:80 Internal Cluster differs dsr",
        ]
    );
    assert_eq!(ports[0].pinned_len, Some(DSR_TABLE_LEN));
    assert!(maglev::check_len(DSR_TABLE_LEN).is_ok());
    let annotated = Service {
        pinned_len: Some(1021),
        ..service
    };
    assert_eq!(of(&annotated)[0].pinned_len, Some(1021));
}

#[test]
fn service_that_nobody_outside_reaches_has_no_forwarding() {
    let settings = Settings {
        forwarding: ForwardingMode::Dsr,
        ..Settings::default()
    };
    let ports = of_with(&service(), &node(None), settings);
    assert_eq!(ports[0].forwarding, Forwarding::Snat);
    assert_eq!(ports[0].pinned_len, None);
}
