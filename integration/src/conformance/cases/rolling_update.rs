//! Row LB12: new connections through a load balancer while all pods are replaced, again and again.

use std::{thread, time::Duration};

use crate::conformance::{
    case::cases,
    scenario::{Backend, Scenario, tcp, with_port},
};

cases! {
    lb12a_rolling_update_with_policy_cluster_disrupts_nobody: rows [LB12a],
        rules [C4 C5], needs [Outside Routes];
    lb12b_rolling_update_with_policy_local_disrupts_nobody: rows [LB12b],
        rules [C4 C5], needs [Outside Routes];
}

const ROUNDS: usize = 5;
/// How long a pod serves after it was told to end.
const GRACE: Duration = Duration::from_millis(300);

fn start(s: &Scenario, node: usize, name: &str) -> Backend {
    let backend = s.lingering_backend(node, name, GRACE);
    s.publish([s.record(&backend, "lb")]);
    backend
}

/// What a DaemonSet does to one node: the old pod ends, then the new one starts.
fn replace(s: &Scenario, node: usize, mut old: Backend, round: usize) -> Backend {
    s.terminate(&old);
    old.ends(GRACE * 20);
    s.withdraw(old.name());
    drop(old);
    start(s, node, &format!("round-{round}-{node}"))
}

fn rolling_update(s: &Scenario, local: bool) {
    let vips = s.vips();
    let port = s.node_port();
    let service = s
        .service("lb")
        .port("", 80, 80, "TCP")
        .node_port("", port)
        .load_balancer(&vips);
    let service = if local {
        service.external_local()
    } else {
        service
    };
    let mut pods: Vec<Backend> = (0..2).map(|n| start(s, n, &format!("first-{n}"))).collect();
    s.apply(service.object());
    let dial = tcp(with_port(&vips, 80)[0]);
    let (mut client, mut probe) = (s.outside_client(), s.outside_client());
    let here = if local {
        &["first-0"][..]
    } else {
        &["first-0", "first-1"]
    };
    client.reaches(&dial, here);
    let pause = Duration::from_millis(10);
    let summary = thread::scope(|scope| {
        let dialling = scope.spawn(|| client.control.dial_for(&dial, 700, pause, None).unwrap());
        for round in 0..ROUNDS {
            for node in 0..2 {
                // The load balancer's health check has found this node to be leaving.
                s.route(&vips, 1 - node);
                let old = pods.remove(0);
                pods.push(replace(s, node, old, round));
                // It comes back to a node when that serves again.
                let all = [pods[0].name(), pods[1].name()];
                let there = if local { &all[1..] } else { &all };
                probe.reaches(&tcp(s.at_node(node, port)[0]), there);
            }
        }
        dialling.join().unwrap()
    });
    assert!(summary.failed() * 20 <= summary.dials, "{summary:?}");
    // It was the update that was dialled through: pods of several rounds have answered.
    assert!(summary.replies.len() >= ROUNDS, "{summary:?}");
}

fn lb12a_rolling_update_with_policy_cluster_disrupts_nobody(s: &Scenario) {
    rolling_update(s, false);
}

fn lb12b_rolling_update_with_policy_local_disrupts_nobody(s: &Scenario) {
    rolling_update(s, true);
}
