//! Services come, change and go. Rows S1 to S7, S16, S23, S45.

use crate::scenario::{Scenario, tcp, tcp_both, udp_both};

#[test]
fn s1_serves_a_basic_endpoint_from_pods() {
    let s = Scenario::new("s1");
    let mut client = s.client(0);
    let service = s.service("basic").port("", 80, 80, "TCP");
    s.apply(service.object());
    let dials = tcp_both(&service, 80);
    client.is_refused_all(&dials);

    let first = s.backend(0, "pod-1", &[80], &[]);
    s.publish([s.record(&first, "basic")]);
    client.reaches_all(&dials, &["pod-1"]);
    let second = s.backend(1, "pod-2", &[80], &[]);
    s.publish([s.record(&second, "basic")]);
    client.reaches_all(&dials, &["pod-1", "pod-2"]);
    s.withdraw("pod-1");
    client.reaches_all(&dials, &["pod-2"]);
    s.withdraw("pod-2");
    client.is_refused_all(&dials);
}

#[test]
fn s2_serves_multiport_endpoints_from_pods() {
    let s = Scenario::new("s2");
    let mut client = s.client(1);
    let service = s
        .service("multi")
        .port("one", 80, "target-1", "TCP")
        .port("two", 81, "target-2", "TCP");
    s.apply(service.object());
    let first = s.backend(0, "pod-1", &[100], &[]);
    let second = s.backend(1, "pod-2", &[101], &[]);

    s.publish([s.record(&first, "multi").port("target-1", 100, "TCP")]);
    client.reaches_all(&tcp_both(&service, 80), &["pod-1"]);
    s.publish([s.record(&second, "multi").port("target-2", 101, "TCP")]);
    client.reaches_all(&tcp_both(&service, 80), &["pod-1"]);
    client.reaches_all(&tcp_both(&service, 81), &["pod-2"]);
    s.withdraw("pod-1");
    client.reaches_all(&tcp_both(&service, 81), &["pod-2"]);
    client.is_refused_all(&tcp_both(&service, 80));
    s.withdraw("pod-2");
    client.is_refused_all(&tcp_both(&service, 81));
}

#[test]
fn s3_is_updated_after_adding_or_deleting_ports() {
    let s = Scenario::new("s3");
    let mut client = s.client(0);
    let first = s.backend(0, "pod-1", &[80], &[]);
    let one = s.service("ports").port("one", 80, "target-1", "TCP");
    s.publish([s.record(&first, "ports").port("target-1", 80, "TCP")]);
    s.apply(one.object());
    client.reaches_all(&tcp_both(&one, 80), &["pod-1"]);

    let two = one.clone().port("two", 81, "target-2", "TCP");
    s.apply(two.object());
    let second = s.backend(1, "pod-2", &[81], &[]);
    s.publish([s.record(&second, "ports").port("target-2", 81, "TCP")]);
    client.reaches_all(&tcp_both(&two, 81), &["pod-2"]);
    client.reaches_all(&tcp_both(&two, 80), &["pod-1"]);

    s.apply(two.clone().without_port("one").object());
    client.fails_all(&tcp_both(&two, 80));
    client.reaches_all(&tcp_both(&two, 81), &["pod-2"]);
}

#[test]
fn s4_backends_of_a_cluster_ip_see_the_address_of_the_pod() {
    let s = Scenario::new("s4");
    let service = s
        .service("source")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let _backends = s.published_backends("source", &["pod"]);
    for mut client in [s.client(0), s.client(1)] {
        let mine = client.pod.as_ref().unwrap().addresses();
        for dials in [tcp_both(&service, 80), udp_both(&service, 80)] {
            client.reaches_all(&dials, &["pod"]);
            for dial in &dials {
                client.is_seen_as(dial, &mine);
            }
        }
    }
}

#[test]
fn s5_pods_hairpin_back_to_themselves_through_services() {
    let s = Scenario::new("s5");
    let service = s
        .service("self")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let backends = s.published_backends("self", &["pod"]);
    let mut client = s.client_in(&backends[0]);
    client.reaches_all(&tcp_both(&service, 80), &["pod"]);
    client.reaches_all(&udp_both(&service, 80), &["pod"]);
}

#[test]
fn s6_services_go_up_and_down() {
    let s = Scenario::new("s6");
    let mut clients = [s.client(1), s.host_client(0)];
    let names = [
        ["a-1", "a-2", "a-3"],
        ["b-1", "b-2", "b-3"],
        ["c-1", "c-2", "c-3"],
    ];
    let [a, b, c] = ["a", "b", "c"].map(|name| s.service(name).port("", 80, 80, "TCP"));
    let _pods_a = s.published_backends("a", &names[0]);
    let _pods_b = s.published_backends("b", &names[1]);
    s.apply(a.object());
    s.apply(b.object());
    for client in &mut clients {
        client.reaches_all(&tcp_both(&a, 80), &names[0]);
        client.reaches_all(&tcp_both(&b, 80), &names[1]);
    }
    s.delete(a.object());
    for client in &mut clients {
        client.fails_all(&tcp_both(&a, 80));
        client.reaches_all(&tcp_both(&b, 80), &names[1]);
    }
    let _pods_c = s.published_backends("c", &names[2]);
    s.apply(c.object());
    for client in &mut clients {
        client.reaches_all(&tcp_both(&c, 80), &names[2]);
        client.reaches_all(&tcp_both(&b, 80), &names[1]);
    }
}

#[test]
fn s7_works_after_the_service_has_been_recreated() {
    let s = Scenario::new("s7");
    let mut client = s.client(0);
    let _pods = s.published_backends("again", &["pod-1", "pod-2"]);
    let first = s.service("again").port("", 80, 80, "TCP");
    s.apply(first.object());
    client.reaches_all(&tcp_both(&first, 80), &["pod-1", "pod-2"]);
    s.delete(first.object());
    client.fails_all(&tcp_both(&first, 80));
    let second = s.service("again").port("", 80, 80, "TCP");
    s.apply(second.object());
    client.reaches_all(&tcp_both(&second, 80), &["pod-1", "pod-2"]);
    client.fails_all(&tcp_both(&first, 80));
}

#[test]
fn s16_serves_unready_pods_if_the_service_publishes_them() {
    let s = Scenario::new("s16");
    let mut client = s.client(1);
    let backend = s.backend(0, "unready", &[80], &[]);
    s.publish([s.record(&backend, "tolerant").ready(false)]);
    let service = s
        .service("tolerant")
        .port("", 80, 80, "TCP")
        .spec("publishNotReadyAddresses", true);
    s.apply(service.object());
    client.reaches_all(&tcp_both(&service, 80), &["unready"]);

    s.apply(
        service
            .clone()
            .spec("publishNotReadyAddresses", false)
            .object(),
    );
    client.is_refused_all(&tcp_both(&service, 80));

    s.change("unready", |pod| pod.terminating = true);
    s.apply(service.object());
    client.reaches_all(&tcp_both(&service, 80), &["unready"]);
}

#[test]
fn s23_is_rejected_when_no_endpoints_exist() {
    let s = Scenario::new("s23");
    let service = s
        .service("empty")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let mut host = s.host_client(0);
    for client in [&mut s.client(0), &mut s.client(1), &mut host] {
        client.is_refused_all(&tcp_both(&service, 80));
        client.is_refused(&tcp(service.v4(80)).mapped());
    }
    s.client(0).is_refused_all(&udp_both(&service, 80));
    // Netfilter tells a local sender EPERM, so upstream's own proxy does not say REFUSED here.
    host.fails_all(&udp_both(&service, 80));
}

#[test]
fn s45_serves_endpoints_on_same_port_and_different_protocols() {
    let s = Scenario::new("s45");
    let mut client = s.client(1);
    let _pods = s.published_backends("both", &["pod-1"]);
    let base = s.service("both");
    let both = base
        .clone()
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(both.object());
    client.reaches_all(&tcp_both(&both, 80), &["pod-1"]);
    client.reaches_all(&udp_both(&both, 80), &["pod-1"]);

    s.apply(both.clone().without_port("udp").object());
    client.fails_all(&udp_both(&both, 80));
    client.reaches_all(&tcp_both(&both, 80), &["pod-1"]);

    s.apply(both.clone().without_port("tcp").object());
    client.fails_all(&tcp_both(&both, 80));
    client.reaches_all(&udp_both(&both, 80), &["pod-1"]);
}
