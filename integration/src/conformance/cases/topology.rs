//! `trafficDistribution` over three zones of a node each, or of two. Rows TH1, TD1 to TD6.

use crate::conformance::{
    case::cases,
    scenario::{Backend, Client, Scenario, tcp_at},
};

cases! {
    td1_prefer_close_keeps_to_the_zone: rows [TD1],
        rules [D2 D9], needs [Zones];
    td2_prefer_close_keeps_to_zones_of_two_nodes: rows [TD2],
        rules [D2 D9], needs [SixNodes];
    td4_prefer_same_zone_keeps_to_zones_of_two_nodes: rows [TD4],
        rules [D2 D9], needs [SixNodes];
    th1_topology_mode_auto_keeps_to_the_zone: rows [TH1],
        rules [D1 D2], needs [Zones];
    td3_prefer_same_zone_keeps_to_the_zone: rows [TD3],
        rules [D2 D9], needs [Zones];
    td5_prefer_same_node_keeps_to_the_node: rows [TD5],
        rules [D2 D9], needs [Zones];
    td6_prefer_same_node_falls_back_while_the_endpoint_is_away: rows [TD6],
        rules [D2 D9], needs [Zones];
}

/// Two zones have an endpoint each, which their clients keep to; those of the third use both.
fn two_of_three_zones(s: &Scenario, preference: &str) {
    let _pods = s.published_backends("svc", &["zone-1", "zone-2"]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("trafficDistribution", preference);
    s.apply(service.object());
    for (node, names) in [
        (0, &["zone-1"][..]),
        (1, &["zone-2"]),
        (2, &["zone-1", "zone-2"]),
    ] {
        s.client(node).reaches_all(&tcp_at(&service, 80), names);
    }
}

fn td1_prefer_close_keeps_to_the_zone(s: &Scenario) {
    two_of_three_zones(s, "PreferClose");
}

fn td3_prefer_same_zone_keeps_to_the_zone(s: &Scenario) {
    two_of_three_zones(s, "PreferSameZone");
}

fn td5_prefer_same_node_keeps_to_the_node(s: &Scenario) {
    two_of_three_zones(s, "PreferSameNode");
}

fn td6_prefer_same_node_falls_back_while_the_endpoint_is_away(s: &Scenario) {
    let _pods = s.published_backends("svc", &["near", "far"]);
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("trafficDistribution", "PreferSameNode");
    s.apply(service.object());
    let mut client = s.client(0);
    client.reaches_all(&tcp_at(&service, 80), &["near"]);
    s.withdraw("near");
    client.reaches_all(&tcp_at(&service, 80), &["far"]);
    let again = s.backend(0, "again", &[80], &[]);
    s.publish([s.record(&again, "svc")]);
    client.reaches_all(&tcp_at(&service, 80), &["again"]);
}

/// Every node has an endpoint, then those of the third zone go: its clients use all others.
fn zones_of_two_nodes(s: &Scenario, preference: &str) {
    const NAMES: [&str; 6] = ["a-0", "b-1", "c-2", "a-3", "b-4", "c-5"];
    let pods: Vec<Backend> = (0..6)
        .map(|node| s.backend(node, NAMES[node], &[80], &[]))
        .collect();
    s.publish(pods.iter().map(|pod| s.record(pod, "svc")));
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .spec("trafficDistribution", preference);
    s.apply(service.object());
    let mut clients: Vec<Client> = (0..6).map(|node| s.client(node)).collect();
    for (node, client) in clients.iter_mut().enumerate() {
        let zone = [NAMES[node % 3], NAMES[node % 3 + 3]];
        client.reaches_all(&tcp_at(&service, 80), &zone);
    }
    s.withdraw("c-2");
    s.withdraw("c-5");
    for (node, client) in clients.iter_mut().enumerate() {
        let zone = [NAMES[node % 3], NAMES[node % 3 + 3]];
        let all = ["a-0", "b-1", "a-3", "b-4"];
        let names = if node % 3 == 2 { &all[..] } else { &zone };
        client.reaches_all(&tcp_at(&service, 80), names);
    }
}

fn td2_prefer_close_keeps_to_zones_of_two_nodes(s: &Scenario) {
    zones_of_two_nodes(s, "PreferClose");
}

fn td4_prefer_same_zone_keeps_to_zones_of_two_nodes(s: &Scenario) {
    zones_of_two_nodes(s, "PreferSameZone");
}

fn th1_topology_mode_auto_keeps_to_the_zone(s: &Scenario) {
    const NAMES: [&str; 3] = ["zone-1", "zone-2", "zone-3"];
    let pods = [0, 1, 2].map(|node| s.backend(node, NAMES[node], &[80], &[]));
    s.publish(pods.iter().map(|pod| s.record(pod, "svc")));
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .annotation("service.kubernetes.io/topology-mode", "Auto");
    s.apply(service.object());
    for (node, name) in NAMES.into_iter().enumerate() {
        s.client(node).reaches_all(&tcp_at(&service, 80), &[name]);
    }
}
