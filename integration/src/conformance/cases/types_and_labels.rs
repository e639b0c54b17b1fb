//! What the proxy must leave alone, and take up again. Rows S12, S14, S21.

use crate::{
    conformance::{
        case::cases,
        scenario::{Scenario, tcp_at},
    },
    workload::SERVICE_PROXY_NAME,
};

cases! {
    s12_type_changes_from_external_name_to_cluster_ip: rows [S12],
        rules [A5];
    s14_type_changes_from_cluster_ip_to_external_name: rows [S14],
        rules [A5];
    s21_service_proxy_name_hands_a_service_to_another_proxy: rows [S21],
        rules [A1 A2];
}

fn s12_type_changes_from_external_name_to_cluster_ip(s: &Scenario) {
    let mut client = s.client(0);
    let _pods = s.published_backends("named", &["pod-1", "pod-2"]);
    let service = s.service("named").port("", 80, 80, "TCP");
    // A cluster IP that a Service of this type still carries must not be served.
    let external = service
        .clone()
        .spec("type", "ExternalName")
        .spec("externalName", "example.com");
    s.apply(external.object());
    client.fails_all(&tcp_at(&service, 80));
    s.apply(service.object());
    client.reaches_all(&tcp_at(&service, 80), &["pod-1", "pod-2"]);
}

fn s14_type_changes_from_cluster_ip_to_external_name(s: &Scenario) {
    let mut client = s.client(0);
    let _pods = s.published_backends("first", &["pod-1"]);
    let _target = s.published_backends("second", &["pod-2"]);
    let first = s.service("first").port("", 80, 80, "TCP");
    let second = s.service("second").port("", 80, 80, "TCP");
    s.apply(first.object());
    s.apply(second.object());
    client.reaches_all(&tcp_at(&first, 80), &["pod-1"]);
    let name = format!("second.{}.svc.cluster.local", s.namespace());
    s.apply(
        first
            .clone()
            .spec("type", "ExternalName")
            .spec("externalName", name)
            .object(),
    );
    client.fails_all(&tcp_at(&first, 80));
    client.reaches_all(&tcp_at(&second, 80), &["pod-2"]);
}

fn s21_service_proxy_name_hands_a_service_to_another_proxy(s: &Scenario) {
    let mut client = s.client(1);
    let _disabled_pods = s.published_backends("disabled", &["off-1"]);
    let _toggled_pods = s.published_backends("toggled", &["on-1", "on-2"]);
    let disabled = s
        .service("disabled")
        .port("", 80, 80, "TCP")
        .label(SERVICE_PROXY_NAME, "foo-bar");
    let toggled = s.service("toggled").port("", 80, 80, "TCP");
    s.apply(disabled.object());
    s.apply(toggled.object());
    client.reaches_all(&tcp_at(&toggled, 80), &["on-1", "on-2"]);
    client.fails_all(&tcp_at(&disabled, 80));

    s.apply(
        toggled
            .clone()
            .label(SERVICE_PROXY_NAME, "foo-bar")
            .object(),
    );
    client.fails_all(&tcp_at(&toggled, 80));
    s.apply(toggled.object());
    client.reaches_all(&tcp_at(&toggled, 80), &["on-1", "on-2"]);
    client.fails_all(&tcp_at(&disabled, 80));
}
