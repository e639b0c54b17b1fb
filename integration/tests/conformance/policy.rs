//! Internal traffic policy, terminating endpoints and topology hints. Rows S25 to S29, rule D2.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scenario::{Scenario, tcp_both};

#[test]
fn s25_internal_policy_local_pod_to_pod() {
    let s = Scenario::new("s25");
    let backend = s.backend(0, "local", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    s.client(0).reaches_all(&tcp_both(&service, 80), &["local"]);
    let mut remote = s.client(1);
    remote.is_dropped_all(&tcp_both(&service, 80));
}

#[test]
fn s26_internal_policy_local_host_network_pod_to_pod() {
    let s = Scenario::new("s26");
    let backend = s.backend(0, "local", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    s.host_client(0)
        .reaches_all(&tcp_both(&service, 80), &["local"]);
    let mut remote = s.host_client(1);
    remote.is_dropped_all(&tcp_both(&service, 80));
}

#[test]
fn s27_internal_policy_local_to_host_network_pod() {
    let s = Scenario::new("s27");
    let backend = s.host_network_backend(0, "hostnet", 10_180);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 10_180, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    for mut near in [s.client(0), s.host_client(0)] {
        near.reaches_all(&tcp_both(&service, 80), &["hostnet"]);
    }
    for mut far in [s.client(1), s.host_client(1)] {
        far.is_dropped_all(&tcp_both(&service, 80));
    }
}

#[test]
fn s28_falls_back_to_terminating_endpoints_with_policy_cluster() {
    let s = Scenario::new("s28");
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let mut clients = [s.client(0), s.client(1)];
    for client in &mut clients {
        client.reaches_all(&tcp_both(&service, 80), &["leaving"]);
    }
    backend.server.signal(Signal::SIGTERM).unwrap();
    s.change("leaving", |pod| pod.terminating = true);
    for client in &mut clients {
        for _ in 0..5 {
            client.reaches_all(&tcp_both(&service, 80), &["leaving"]);
        }
    }
    // A ready endpoint takes over from the fallback.
    let fresh = s.backend(1, "fresh", &[80], &[]);
    s.publish([s.record(&fresh, "svc")]);
    for client in &mut clients {
        client.reaches_all(&tcp_both(&service, 80), &["fresh"]);
    }
}

#[test]
fn s29_falls_back_to_local_terminating_endpoints_with_policy_local() {
    let s = Scenario::new("s29");
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    let (mut near, mut far) = (s.client(0), s.client(1));
    near.reaches_all(&tcp_both(&service, 80), &["leaving"]);
    backend.server.signal(Signal::SIGTERM).unwrap();
    s.change("leaving", |pod| pod.terminating = true);
    for _ in 0..5 {
        near.reaches_all(&tcp_both(&service, 80), &["leaving"]);
    }
    far.is_dropped_all(&tcp_both(&service, 80));
}

#[test]
fn d2_traffic_prefers_the_zone_or_node_that_hints_name() {
    let s = Scenario::new("d2");
    // Each node of the cluster is a zone; the controller turns the preference into hints.
    let _pods = s.published_backends("svc", &["zone-1-a", "zone-2-a", "zone-1-b", "zone-2-b"]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    let everywhere = ["zone-1-a", "zone-2-a", "zone-1-b", "zone-2-b"];
    let mut clients = [s.client(0), s.client(1)];
    s.apply(service.object());
    for client in &mut clients {
        client.reaches_all(&tcp_both(&service, 80), &everywhere);
    }
    for preference in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
        s.apply(
            service
                .clone()
                .spec("trafficDistribution", preference)
                .object(),
        );
        clients[0].reaches_all(&tcp_both(&service, 80), &["zone-1-a", "zone-1-b"]);
        clients[1].reaches_all(&tcp_both(&service, 80), &["zone-2-a", "zone-2-b"]);
    }
    // Without endpoints of its own, a zone is served by all.
    s.change("zone-2-a", |pod| pod.ready = false);
    s.change("zone-2-b", |pod| pod.ready = false);
    clients[1].reaches_all(&tcp_both(&service, 80), &["zone-1-a", "zone-1-b"]);
}
