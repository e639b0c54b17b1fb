//! Session affinity by client. Rows S19, S19b, S19c; N16, N17 and DS14 are in their own files.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    agent::dial::Dial,
    conformance::{
        case::cases,
        scenario::{Client, Scenario, tcp, tcp_at},
    },
    patience::eventually,
    workload::Service,
};

cases! {
    s19_session_affinity_works_for_cluster_ip: rows [S19],
        rules [H1 H8];
    s19b_session_affinity_timeout_works_for_cluster_ip: rows [S19b],
        rules [H2 H3];
    s19c_session_affinity_can_be_switched_for_cluster_ip: rows [S19c],
        rules [H5];
    h4_affinity_ends_when_its_backend_leaves: own "affinity ends with its backend, which has no claim on the client when it comes back",
        rules [H4 H6];
}

/// Of affinity that is to end.
const TIMEOUT: Duration = Duration::from_secs(2);

const PODS: [&str; 3] = ["pod-1", "pod-2", "pod-3"];

/// All of many requests reach one backend.
pub(crate) fn is_sticky(client: &mut Client, dial: &Dial) {
    let names = client.hostnames(dial, 20);
    assert_eq!(names.len(), 1, "{dial:?} reached {names:?}");
}

fn s19_session_affinity_works_for_cluster_ip(s: &Scenario) {
    let _pods = s.published_backends("sticky", &PODS);
    let service = s
        .service("sticky")
        .port("", 80, 80, "TCP")
        .client_ip_affinity(10_800);
    let plain = s
        .service("plain")
        .port("", 80, 80, "TCP")
        .spec("selector", service_selector());
    s.apply(service.object());
    s.apply(plain.object());
    for mut client in [s.client(0), s.host_client(1)] {
        // All three are there before stickiness means anything.
        client.reaches_all(&tcp_at(&plain, 80), &PODS);
        for dial in tcp_at(&service, 80) {
            is_sticky_once_up(&mut client, &dial);
        }
    }
}

fn s19b_session_affinity_timeout_works_for_cluster_ip(s: &Scenario) {
    let _pods = s.published_backends("sticky", &PODS);
    let plain = s
        .service("plain")
        .port("", 80, 80, "TCP")
        .spec("selector", service_selector());
    let service = s
        .service("sticky")
        .port("", 80, 80, "TCP")
        .client_ip_affinity(TIMEOUT.as_secs() as u32);
    s.apply(plain.object());
    s.apply(service.object());
    let mut client = s.client(0);
    client.reaches_all(&tcp_at(&plain, 80), &PODS);
    expires(&mut client, &tcp(service.first(80)));
}

/// Affinity of [`TIMEOUT`] outlasts its time as long as new connections come, and no longer.
pub(crate) fn expires(client: &mut Client, dial: &Dial) {
    is_sticky_once_up(client, dial);
    let first = eventually("requests soon after each other", || {
        is_renewed(client, dial)
    });
    // Ten tries that all fall on one of three backends by chance: 1 in 59,049.
    let moved = (0..10).any(|_| {
        thread::sleep(TIMEOUT * 3 / 2);
        client.dial(dial).reply.is_some_and(|name| name != first)
    });
    assert!(moved, "still {first} after ten expiries");
}

/// Every request starts the time anew: several that take longer than it together, each soon after
/// the one before, reach one backend. A request that comes too late proves nothing.
fn is_renewed(client: &mut Client, dial: &Dial) -> Result<String, String> {
    let mut last = Instant::now();
    let first = client.ask(dial);
    for _ in 0..5 {
        thread::sleep(TIMEOUT * 2 / 5);
        let start = Instant::now();
        let name = client.ask(dial);
        let apart = last.elapsed();
        if apart >= TIMEOUT {
            return Err(format!("one came {apart:?} after another"));
        }
        assert_eq!(name, first, "{apart:?} after another");
        last = start;
    }
    Ok(first)
}

fn s19c_session_affinity_can_be_switched_for_cluster_ip(s: &Scenario) {
    let _pods = s.published_backends("switched", &PODS);
    let plain = s.service("switched").port("", 80, 80, "TCP");
    let mut client = s.client(1);
    switches(s, &mut client, &plain, &tcp(plain.first(80)), &PODS);
}

/// None, ClientIP, None, ClientIP on one Service.
pub(crate) fn switches(
    s: &Scenario,
    client: &mut Client,
    plain: &Service,
    dial: &Dial,
    names: &[&str],
) {
    let sticky = plain.clone().client_ip_affinity(10_800);
    for _ in 0..2 {
        s.apply(plain.object());
        client.reaches(dial, names);
        s.apply(sticky.object());
        is_sticky_once_up(client, dial);
    }
}

fn h4_affinity_ends_when_its_backend_leaves(s: &Scenario) {
    let _pods = s.published_backends("sticky", &PODS);
    let service = s
        .service("sticky")
        .port("", 80, 80, "TCP")
        .client_ip_affinity(10_800);
    s.apply(service.object());
    let mut client = s.client(0);
    for dial in tcp_at(&service, 80) {
        let first = is_sticky_once_up(&mut client, &dial);
        s.change(&first, |pod| pod.ready = false);
        let others: Vec<&str> = PODS.into_iter().filter(|name| **name != first).collect();
        let second = eventually("another backend", || {
            let dialed = client.dial(&dial);
            let name = dialed.reply.unwrap_or_else(|| panic!("{:?}", dialed.error));
            if name == first { Err(name) } else { Ok(name) }
        });
        assert!(others.contains(&second.as_str()));
        is_sticky(&mut client, &dial);
        s.change(&first, |pod| pod.ready = true);
        // What came back has no claim on the client.
        assert_eq!(client.dial(&dial).reply, Some(second));
    }
}

/// Waits until affinity is in force, checks it, and returns the backend.
pub(crate) fn is_sticky_once_up(client: &mut Client, dial: &Dial) -> String {
    becomes_sticky(client, dial);
    is_sticky(client, dial);
    client.dial(dial).reply.unwrap()
}

/// Waits until many requests reach one backend.
pub(crate) fn becomes_sticky(client: &mut Client, dial: &Dial) {
    // Without affinity, 20 requests reach one of three backends alone once in a billion runs.
    let settled = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        let summary = client.control.dial_many(dial, 20).unwrap();
        summary.failed() == 0 && summary.replies.len() == 1
    });
    assert!(settled, "{dial:?} never became sticky");
}

fn service_selector() -> serde_json::Value {
    serde_json::json!({"app": "sticky"})
}
