//! Services come, change and go. Rows S1 to S7, S16, S23, S35, S45, S46.

use std::time::Duration;

use crate::conformance::{
    case::cases,
    scenario::{Scenario, tcp, tcp_at, udp_at},
};

cases! {
    s1_serves_a_basic_endpoint_from_pods: rows [S1],
        rules [B1 C11 C15 E1];
    s2_serves_multiport_endpoints_from_pods: rows [S2],
        rules [A6 B5 B6];
    s3_is_updated_after_adding_or_deleting_ports: rows [S3],
        rules [A16 B6 E5];
    s4_pods_are_seen_under_their_own_address: rows [S4],
        rules [G1];
    s5_pods_hairpin_back_to_themselves_through_services: rows [S5],
        rules [G2];
    s6_services_go_up_and_down: rows [S6],
        rules [A14 C15 E1];
    s7_works_after_the_service_has_been_recreated: rows [S7],
        rules [A14 B16];
    s16_serves_unready_pods_if_the_service_publishes_them: rows [S16],
        rules [A11 C7 C8 C11];
    s23_is_rejected_when_no_endpoints_exist: rows [S23],
        rules [C11 C13];
    s35_sctp_services_load_no_kernel_module: rows [S35],
        rules [M3], needs [Namespaces];
    s45_serves_endpoints_on_same_port_and_different_protocols: rows [S45],
        rules [A6 A16];
    s46_load_balancer_serves_two_protocols_on_one_port_inside: rows [S46],
        rules [A6];
}

fn s1_serves_a_basic_endpoint_from_pods(s: &Scenario) {
    let mut client = s.client(0);
    let service = s.service("basic").port("", 80, 80, "TCP");
    s.apply(service.object());
    let dials = tcp_at(&service, 80);
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

fn s2_serves_multiport_endpoints_from_pods(s: &Scenario) {
    let mut client = s.client(1);
    let service = s
        .service("multi")
        .port("one", 80, "target-1", "TCP")
        .port("two", 81, "target-2", "TCP");
    s.apply(service.object());
    let first = s.named_port_backend(0, "pod-1", ("target-1", 100));
    let second = s.named_port_backend(1, "pod-2", ("target-2", 101));

    s.publish([s.record(&first, "multi")]);
    client.reaches_all(&tcp_at(&service, 80), &["pod-1"]);
    s.publish([s.record(&second, "multi")]);
    client.reaches_all(&tcp_at(&service, 80), &["pod-1"]);
    client.reaches_all(&tcp_at(&service, 81), &["pod-2"]);
    s.withdraw("pod-1");
    client.reaches_all(&tcp_at(&service, 81), &["pod-2"]);
    client.is_refused_all(&tcp_at(&service, 80));
    s.withdraw("pod-2");
    client.is_refused_all(&tcp_at(&service, 81));
}

fn s3_is_updated_after_adding_or_deleting_ports(s: &Scenario) {
    let mut client = s.client(0);
    let first = s.named_port_backend(0, "pod-1", ("target-1", 80));
    let one = s.service("ports").port("one", 80, "target-1", "TCP");
    s.publish([s.record(&first, "ports")]);
    s.apply(one.object());
    client.reaches_all(&tcp_at(&one, 80), &["pod-1"]);

    let two = one.clone().port("two", 81, "target-2", "TCP");
    s.apply(two.object());
    let second = s.named_port_backend(1, "pod-2", ("target-2", 81));
    s.publish([s.record(&second, "ports")]);
    client.reaches_all(&tcp_at(&two, 81), &["pod-2"]);
    client.reaches_all(&tcp_at(&two, 80), &["pod-1"]);

    s.apply(two.clone().without_port("one").object());
    client.fails_all(&tcp_at(&two, 80));
    client.reaches_all(&tcp_at(&two, 81), &["pod-2"]);
}

fn s4_pods_are_seen_under_their_own_address(s: &Scenario) {
    let _pods = s.published_backends("echo", &["server"]);
    let service = s.service("echo").port("", 80, 80, "TCP");
    s.apply(service.object());
    for node in 0..3 {
        let mut client = s.client(node);
        let own = client.addresses();
        for dial in tcp_at(&service, 80) {
            client.reaches(&dial, &["server"]);
            client.is_seen_as(&dial, &own);
        }
    }
}

fn s5_pods_hairpin_back_to_themselves_through_services(s: &Scenario) {
    let service = s
        .service("self")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let backends = s.published_backends("self", &["pod"]);
    let mut client = s.client_in(&backends[0]);
    client.reaches_all(&tcp_at(&service, 80), &["pod"]);
    client.reaches_all(&udp_at(&service, 80), &["pod"]);
}

fn s6_services_go_up_and_down(s: &Scenario) {
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
        client.reaches_all(&tcp_at(&a, 80), &names[0]);
        client.reaches_all(&tcp_at(&b, 80), &names[1]);
    }
    s.delete(a.object());
    for client in &mut clients {
        client.fails_all(&tcp_at(&a, 80));
        client.reaches_all(&tcp_at(&b, 80), &names[1]);
    }
    let _pods_c = s.published_backends("c", &names[2]);
    s.apply(c.object());
    for client in &mut clients {
        client.reaches_all(&tcp_at(&c, 80), &names[2]);
        client.reaches_all(&tcp_at(&b, 80), &names[1]);
    }
}

fn s7_works_after_the_service_has_been_recreated(s: &Scenario) {
    let mut client = s.client(0);
    let _pods = s.published_backends("again", &["pod-1", "pod-2"]);
    let first = s.service("again").port("", 80, 80, "TCP");
    s.apply(first.object());
    client.reaches_all(&tcp_at(&first, 80), &["pod-1", "pod-2"]);
    s.delete(first.object());
    client.fails_all(&tcp_at(&first, 80));
    let second = s.service("again").port("", 80, 80, "TCP");
    s.apply(second.object());
    client.reaches_all(&tcp_at(&second, 80), &["pod-1", "pod-2"]);
    client.fails_all(&tcp_at(&first, 80));
}

fn s16_serves_unready_pods_if_the_service_publishes_them(s: &Scenario) {
    let mut client = s.client(1);
    let backend = s.lingering_backend(0, "unready", Duration::from_secs(300));
    s.publish([s.record(&backend, "tolerant").ready(false)]);
    let service = s
        .service("tolerant")
        .port("", 80, 80, "TCP")
        .spec("publishNotReadyAddresses", true);
    s.apply(service.object());
    client.reaches_all(&tcp_at(&service, 80), &["unready"]);

    s.apply(
        service
            .clone()
            .spec("publishNotReadyAddresses", false)
            .object(),
    );
    client.is_refused_all(&tcp_at(&service, 80));

    s.terminate(&backend);
    s.apply(service.object());
    client.reaches_all(&tcp_at(&service, 80), &["unready"]);
}

fn s23_is_rejected_when_no_endpoints_exist(s: &Scenario) {
    let service = s
        .service("empty")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(service.object());
    let mut host = s.host_client(0);
    for client in [&mut s.client(0), &mut s.client(1), &mut host] {
        client.is_refused_all(&tcp_at(&service, 80));
        if s.families().has_v4() {
            client.is_refused(&tcp(service.v4(80)).mapped());
        }
    }
    s.client(0).is_refused_all(&udp_at(&service, 80));
    // Netfilter tells a local sender EPERM, so upstream's own proxy does not say REFUSED here.
    host.fails_all(&udp_at(&service, 80));
}

fn s35_sctp_services_load_no_kernel_module(s: &Scenario) {
    // The kernel's module registers its protocol when it is loaded, by whomever.
    let protocols = || {
        let text = std::fs::read_to_string("/proc/net/protocols").unwrap();
        text.lines().filter(|line| line.starts_with("SCTP")).count()
    };
    let before = protocols();
    let _pods = s.published_backends("both", &["pod-1"]);
    let service = s
        .service("both")
        .port("sctp", 5060, 5060, "SCTP")
        .port("tcp", 80, 80, "TCP");
    s.apply(service.object());
    // The other port shows that the proxy has taken the Service up.
    s.client(0).reaches_all(&tcp_at(&service, 80), &["pod-1"]);
    assert_eq!(protocols(), before);
}

fn s45_serves_endpoints_on_same_port_and_different_protocols(s: &Scenario) {
    let mut client = s.client(1);
    let _pods = s.published_backends("both", &["pod-1"]);
    let base = s.service("both");
    let both = base
        .clone()
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP");
    s.apply(both.object());
    client.reaches_all(&tcp_at(&both, 80), &["pod-1"]);
    client.reaches_all(&udp_at(&both, 80), &["pod-1"]);

    s.apply(both.clone().without_port("udp").object());
    client.fails_all(&udp_at(&both, 80));
    client.reaches_all(&tcp_at(&both, 80), &["pod-1"]);

    s.apply(both.clone().without_port("tcp").object());
    client.fails_all(&tcp_at(&both, 80));
    client.reaches_all(&udp_at(&both, 80), &["pod-1"]);
}

fn s46_load_balancer_serves_two_protocols_on_one_port_inside(s: &Scenario) {
    let _pods = s.published_backends("both", &["pod-1"]);
    let (tcp, udp) = (s.node_port(), s.node_port());
    let service = s
        .service("both")
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP")
        .load_balancer(&[])
        .node_port("tcp", tcp)
        .node_port("udp", udp);
    s.apply(service.object());
    for mut client in [s.client(0), s.client(1)] {
        client.reaches_all(&tcp_at(&service, 80), &["pod-1"]);
        client.reaches_all(&udp_at(&service, 80), &["pod-1"]);
    }
}
