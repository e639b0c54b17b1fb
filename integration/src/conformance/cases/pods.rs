//! Pods that talk to pods, and pods that are replaced while clients go on. Rows NS1, PL1 to PL3.

use std::{thread, time::Duration};

use crate::conformance::{
    case::cases,
    scenario::{Backend, Scenario, tcp, tcp_to, with_port},
};

cases! {
    ns1_pods_see_each_others_addresses: rows [NS1],
        rules [G5];
    pl1_a_terminating_pod_is_reached_at_its_address: rows [PL1],
        rules [G5];
    pl2_a_terminating_pod_reaches_others: rows [PL2],
        rules [G5];
    pl3_blue_green_deployment_fails_no_request: rows [PL3],
        rules [B17 C11];
}

fn ns1_pods_see_each_others_addresses(s: &Scenario) {
    let backends = [0, 1, 2].map(|node| s.backend(node, &format!("on-{node}"), &[80], &[]));
    for from in &backends {
        let mut client = s.client_in(from);
        for to in &backends {
            for dial in tcp_to(&with_port(&to.addresses(), 80)) {
                client.reaches(&dial, &[to.name()]);
                client.is_seen_as(&dial, &from.addresses());
            }
        }
    }
}

/// A published pod that was told to end and goes on.
fn terminating(s: &Scenario) -> Backend {
    let backend = s.lingering_backend(0, "leaving", Duration::from_secs(100));
    s.publish([s.record(&backend, "svc")]);
    s.terminate(&backend);
    backend
}

fn pl1_a_terminating_pod_is_reached_at_its_address(s: &Scenario) {
    let backend = terminating(s);
    let dials = tcp_to(&with_port(&backend.addresses(), 80));
    for mut client in [s.client(0), s.client(1), s.host_client(1)] {
        client.reaches_all(&dials, &["leaving"]);
    }
}

fn pl2_a_terminating_pod_reaches_others(s: &Scenario) {
    let other = s.backend(1, "other", &[80], &[]);
    let backend = terminating(s);
    let dials = tcp_to(&with_port(&other.addresses(), 80));
    s.client_in(&backend).reaches_all(&dials, &["other"]);
}

fn pl3_blue_green_deployment_fails_no_request(s: &Scenario) {
    let blue = s.backend(0, "blue", &[80], &[]);
    let green = s.backend(1, "green", &[80], &[]);
    s.publish([s.record(&blue, "app"), s.record(&green, "app").ready(false)]);
    let service = s.service("app").port("", 80, 80, "TCP");
    s.apply(service.object());
    let dial = tcp(service.first(80));
    let (mut client, mut probe) = (s.client(0), s.client(1));
    client.reaches(&dial, &["blue"]);
    let pause = Duration::from_millis(10);
    let summary = thread::scope(|scope| {
        let dialling = scope.spawn(|| client.control.dial_for(&dial, 300, pause, None).unwrap());
        s.change("green", |pod| pod.ready = true);
        probe.reaches(&dial, &["blue", "green"]);
        s.change("blue", |pod| pod.ready = false);
        probe.reaches(&dial, &["green"]);
        dialling.join().unwrap()
    });
    assert_eq!(summary.failed(), 0, "{summary:?}");
    let answered: Vec<&str> = summary.replies.keys().map(String::as_str).collect();
    assert_eq!(answered, ["blue", "green"]);
}
