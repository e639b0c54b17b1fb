//! `trafficDistribution` over three zones of a node each. Rows TD1, TD3, TD5, TD6.

use crate::conformance::{
    case::cases,
    scenario::{Scenario, tcp_at},
};

cases! {
    td1_prefer_close_keeps_to_the_zone: rows [TD1],
        rules [D2 D9], needs [Zones];
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
