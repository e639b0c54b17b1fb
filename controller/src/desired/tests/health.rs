//! What a node says of itself: health checks, and ports that a policy keeps from serving.

use super::{
    super::{HealthCheck, NoLocal, NoLocalTotal, desired, health_check},
    build::*,
};

/// A load balancer under policy Local, with a health-check node port.
fn checked() -> Service {
    let mut service = external(service(), TrafficPolicy::Local);
    service.service_type = ServiceType::LoadBalancer;
    service.health_check_node_port = 32000;
    service
}

fn count(endpoints: &[Endpoint]) -> Option<u32> {
    health_check(&checked(), &[&slice(endpoints)])
        .unwrap()
        .local_endpoints[0]
}

#[test]
fn j1_only_load_balancers_with_policy_local_and_a_port_are_checked() {
    let found = health_check(&checked(), &[]);
    let expected = HealthCheck {
        port: 32000,
        local_endpoints: [Some(0), None],
    };
    assert_eq!(found, Some(expected));
    let mut node_port = checked();
    node_port.service_type = ServiceType::NodePort;
    assert_eq!(health_check(&node_port, &[]), None);
    let mut cluster = checked();
    cluster.external_policy = TrafficPolicy::Cluster;
    assert_eq!(health_check(&cluster, &[]), None);
    let mut without = checked();
    without.health_check_node_port = 0;
    assert_eq!(health_check(&without, &[]), None);
}

#[test]
fn j3_ready_addresses_of_this_node_count_once_over_all_ports() {
    assert_eq!(count(&[]), Some(0));
    let mixed = [
        ready(1).here(),
        ready(2),
        draining(3).here(),
        dead(4).here(),
        ready(5).here(),
    ];
    assert_eq!(count(&mixed), Some(2));
    assert_eq!(count(&[draining(3).here()]), Some(0));
    let mut second_port = slice(&[ready(1).here(), ready(6).here()]);
    second_port.ports = vec![slice_port("metrics", Protocol::Tcp, 9090)];
    let both = [&slice(&[ready(1).here()]), &second_port];
    let found = health_check(&checked(), &both).unwrap();
    assert_eq!(found.local_endpoints, [Some(2), None]);
}

#[test]
fn j3_each_family_of_the_service_counts_for_itself() {
    let mut dual = checked();
    dual.cluster_ips.push(ip("fd00::1"));
    let v4 = slice(&[ready(1).here(), ready(2).here()]);
    let mut v6 = slice(&[ready(1).here()]);
    v6.family = Family::V6;
    v6.endpoints[0].addr = ip("fd01::1");
    let found = health_check(&dual, &[&v4, &v6]).unwrap();
    assert_eq!(found.local_endpoints, [Some(2), Some(1)]);
}

#[test]
fn j24_ports_count_that_serve_elsewhere_only_because_of_a_policy() {
    let of = |service: &Service, endpoints: &[Endpoint]| {
        let slice = slice(endpoints);
        NoLocal::of(&desired(
            &name(),
            service,
            &[&slice],
            &node(None),
            Settings::default(),
        ))
    };
    let none = NoLocal::default();
    let outside = NoLocal {
        external: [1, 0],
        ..none
    };
    assert_eq!(of(&checked(), &[ready(1)]), outside);
    assert_eq!(of(&checked(), &[draining(1)]), outside);
    assert_eq!(of(&checked(), &[ready(1), draining(2).here()]), none);
    // Nobody serves anywhere: no policy is to blame.
    assert_eq!(of(&checked(), &[]), none);
    assert_eq!(of(&service(), &[ready(1)]), none);
    let mut inside = service();
    inside.internal_policy = TrafficPolicy::Local;
    let internal = NoLocal {
        internal: [1, 0],
        ..none
    };
    assert_eq!(of(&inside, &[ready(1)]), internal);
    // Nobody outside can dial a load balancer that has no address yet.
    let pending = Service {
        service_type: ServiceType::LoadBalancer,
        external_policy: TrafficPolicy::Local,
        ..inside
    };
    assert_eq!(of(&pending, &[ready(1)]), internal);

    let mut total = NoLocalTotal::default();
    let other = ObjectName {
        name: "other".into(),
        ..name()
    };
    total.set(&name(), outside);
    total.set(&other, internal);
    total.set(&other, internal);
    let both = NoLocal {
        internal: [1, 0],
        external: [1, 0],
    };
    assert_eq!(total.total(), both);
    total.set(&name(), none);
    assert_eq!(total.total(), internal);
}
