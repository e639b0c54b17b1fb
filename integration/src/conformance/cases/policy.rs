//! Internal traffic policy, terminating endpoints and topology hints. Rows S25 to S29, rule D2.

use std::time::Duration;

use crate::conformance::{
    case::cases,
    scenario::{Scenario, tcp_at},
};

cases! {
    s25_internal_policy_local_pod_to_pod: rows [S25],
        rules [C10 C12 C13];
    s26_internal_policy_local_host_network_pod_to_pod: rows [S26],
        rules [C10 C12];
    s27_internal_policy_local_to_host_network_pod: rows [S27],
        rules [B14 C10 C12];
    s28_falls_back_to_terminating_endpoints_with_policy_cluster: rows [S28],
        rules [C4];
    s29_falls_back_to_local_terminating_endpoints_with_policy_local: rows [S29],
        rules [C5 C12];
    d2_traffic_prefers_the_zone_or_node_that_hints_name: own "traffic prefers the zone or node that hints name, and falls back to all",
        rules [D1 D2 D10];
}

fn s25_internal_policy_local_pod_to_pod(s: &Scenario) {
    let backend = s.backend(0, "local", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    s.client(0).reaches_all(&tcp_at(&service, 80), &["local"]);
    let mut remote = s.client(1);
    remote.is_dropped_all(&tcp_at(&service, 80));
}

fn s26_internal_policy_local_host_network_pod_to_pod(s: &Scenario) {
    let backend = s.backend(0, "local", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    s.host_client(0)
        .reaches_all(&tcp_at(&service, 80), &["local"]);
    let mut remote = s.host_client(1);
    remote.is_dropped_all(&tcp_at(&service, 80));
}

fn s27_internal_policy_local_to_host_network_pod(s: &Scenario) {
    let backend = s.host_network_backend(0, "hostnet", 10_180);
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 10_180, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    for mut near in [s.client(0), s.host_client(0)] {
        near.reaches_all(&tcp_at(&service, 80), &["hostnet"]);
    }
    for mut far in [s.client(1), s.host_client(1)] {
        far.is_dropped_all(&tcp_at(&service, 80));
    }
}

fn s28_falls_back_to_terminating_endpoints_with_policy_cluster(s: &Scenario) {
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let mut clients = [s.client(0), s.client(1)];
    for client in &mut clients {
        client.reaches_all(&tcp_at(&service, 80), &["leaving"]);
    }
    s.terminate(&backend);
    s.settle();
    for client in &mut clients {
        for _ in 0..5 {
            client.reaches_all(&tcp_at(&service, 80), &["leaving"]);
        }
    }
    // A ready endpoint takes over from the fallback.
    let fresh = s.backend(1, "fresh", &[80], &[]);
    s.publish([s.record(&fresh, "svc")]);
    for client in &mut clients {
        client.reaches_all(&tcp_at(&service, 80), &["fresh"]);
    }
}

fn s29_falls_back_to_local_terminating_endpoints_with_policy_local(s: &Scenario) {
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("internalTrafficPolicy", "Local");
    s.apply(service.object());
    let (mut near, mut far) = (s.client(0), s.client(1));
    near.reaches_all(&tcp_at(&service, 80), &["leaving"]);
    s.terminate(&backend);
    s.settle();
    for _ in 0..5 {
        near.reaches_all(&tcp_at(&service, 80), &["leaving"]);
    }
    far.is_dropped_all(&tcp_at(&service, 80));
}

fn d2_traffic_prefers_the_zone_or_node_that_hints_name(s: &Scenario) {
    // Each node of the cluster is a zone; the controller turns the preference into hints.
    let _pods = s.published_backends("svc", &["zone-1-a", "zone-2-a", "zone-1-b", "zone-2-b"]);
    let service = s.service("svc").port("", 80, 80, "TCP");
    let everywhere = ["zone-1-a", "zone-2-a", "zone-1-b", "zone-2-b"];
    let mut clients = [s.client(0), s.client(1)];
    s.apply(service.object());
    for client in &mut clients {
        client.reaches_all(&tcp_at(&service, 80), &everywhere);
    }
    for preference in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
        s.apply(
            service
                .clone()
                .spec("trafficDistribution", preference)
                .object(),
        );
        clients[0].reaches_all(&tcp_at(&service, 80), &["zone-1-a", "zone-1-b"]);
        clients[1].reaches_all(&tcp_at(&service, 80), &["zone-2-a", "zone-2-b"]);
    }
    // Without endpoints of its own, a zone is served by all.
    s.change("zone-2-a", |pod| pod.ready = false);
    s.change("zone-2-b", |pod| pod.ready = false);
    clients[1].reaches_all(&tcp_at(&service, 80), &["zone-1-a", "zone-1-b"]);
}
