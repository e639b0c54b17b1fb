//! External IPs and addresses of load balancers under `externalTrafficPolicy: Local`.

use serde_json::{Value, json};

use crate::conformance::{
    case::cases,
    scenario::{Scenario, tcp_to, with_port},
};

cases! {
    e24_external_policy_local_applies_to_external_ips: own "externalTrafficPolicy Local applies to external IPs of a Service of type ClusterIP",
        rules [C2 C14 E24 F1 F3], needs [Outside Routes];
    e21_policy_local_goes_on_beside_a_load_balancer_that_is_a_proxy: own "ipMode Proxy with externalTrafficPolicy Local: the address is not served, the node port under its policy",
        rules [E18 E21 F3], needs [Outside Routes];
}

fn e24_external_policy_local_applies_to_external_ips(s: &Scenario) {
    let backend = s.backend(1, "server", &[80], &[]);
    s.publish([s.record(&backend, "svc")]);
    let ips = s.vips();
    let service = s
        .service("svc")
        .port("", 80, 80, "TCP")
        .external_ips(&ips)
        .external_local();
    s.apply(service.object());
    let dials = tcp_to(&with_port(&ips, 80));
    let mut outside = s.outside_client();
    let own = outside.addresses();
    s.route(&ips, 1);
    for dial in &dials {
        outside.reaches(dial, &["server"]);
        outside.is_seen_as(dial, &own);
    }
    s.route(&ips, 0);
    outside.is_dropped_all(&dials);
    // Pods and hosts are served wherever they are.
    for mut client in [s.client(0), s.client(1), s.host_client(0)] {
        client.reaches_all(&dials, &["server"]);
    }
}

fn e21_policy_local_goes_on_beside_a_load_balancer_that_is_a_proxy(s: &Scenario) {
    let backend = s.backend(1, "server", &[80], &[]);
    s.publish([s.record(&backend, "lb")]);
    let (port, vips) = (s.node_port(), s.vips());
    let ingress: Vec<Value> = vips
        .iter()
        .map(|vip| json!({"ip": vip.to_string(), "ipMode": "Proxy"}))
        .collect();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips)
        .external_local();
    let dials = tcp_to(&with_port(&vips, 80));
    let (near, far) = (tcp_to(&s.at_node(1, port)), tcp_to(&s.at_node(0, port)));
    let (mut pod, mut outside) = (s.client(0), s.outside_client());
    s.apply(service.object());
    pod.reaches_all(&dials, &["server"]);
    s.apply(service.ingress(&ingress).object());
    for node in 0..2 {
        s.route(&vips, node);
        outside.fails_all(&dials);
    }
    pod.fails_all(&dials);
    outside.reaches_all(&near, &["server"]);
    let own = outside.addresses();
    for dial in &near {
        outside.is_seen_as(dial, &own);
    }
    outside.is_dropped_all(&far);
}
