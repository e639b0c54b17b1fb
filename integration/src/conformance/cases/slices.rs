//! EndpointSlices in all the shapes they come in. Rows S22, S50, ES4, ES5, EM2.

use serde_json::{Value, json};

use crate::{
    conformance::{
        case::cases,
        scenario::{Backend, Scenario, tcp, tcp_at},
    },
    workload::HEADLESS,
};

cases! {
    s22_headless_label_on_a_slice_hides_it: rows [S22],
        rules [B2 B3 B15];
    s50_named_target_ports_resolve_to_different_numbers: rows [S50],
        rules [B5 C15];
    es4_service_with_ports_in_several_slices: rows [ES4],
        rules [B3 B5 B6 B17];
    es5_service_with_endpoints_in_several_slices: rows [ES5],
        rules [B5 B6];
    em2_mirrored_endpoints_with_several_subsets_and_one_address: rows [EM2],
        rules [B3 B5 B20];
}

/// A slice made by a user: the first family, one port, these backends.
fn manual_slice(s: &Scenario, name: &str, port: &Value, backends: &[&Backend]) -> Value {
    let endpoints: Vec<Value> = backends
        .iter()
        .map(|b| json!({"addresses": [b.address()]}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": s.namespace(),
            "name": name,
            "labels": {
                "kubernetes.io/service-name": "manual",
                "endpointslice.kubernetes.io/managed-by": "a-test",
            },
        },
        "addressType": if s.families().has_v4() { "IPv4" } else { "IPv6" },
        "ports": [port],
        "endpoints": endpoints,
    })
}

fn s22_headless_label_on_a_slice_hides_it(s: &Scenario) {
    let mut client = s.client(1);
    let backend = s.backend(0, "pod-1", &[8080], &[]);
    let service = s
        .service("manual")
        .port("", 80, 8080, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let port = json!({"name": "", "port": 8080, "protocol": "TCP"});
    let slice = manual_slice(s, "manual-1", &port, &[&backend]);
    s.apply(&slice);
    client.reaches(&tcp(service.first(80)), &["pod-1"]);

    let mut hidden = slice.clone();
    hidden["metadata"]["labels"][HEADLESS] = json!("");
    s.apply(&hidden);
    client.is_refused(&tcp(service.first(80)));
    s.apply(&slice);
    client.reaches(&tcp(service.first(80)), &["pod-1"]);
    s.delete(&slice);
}

fn s50_named_target_ports_resolve_to_different_numbers(s: &Scenario) {
    let mut client = s.client(0);
    let first = s.named_port_backend(0, "pod-1", ("serve", 80));
    let second = s.named_port_backend(1, "pod-2", ("serve", 80));
    let service = s.service("named").port("http", 80, "serve", "TCP");
    s.apply(service.object());
    s.publish([first, second].iter().map(|b| s.record(b, "named")));
    let replacement = s.named_port_backend(1, "pod-3", ("serve", 8080));
    s.withdraw("pod-2");
    s.publish([s.record(&replacement, "named")]);
    let kept = s.named_port_backend(0, "pod-4", ("serve", 80));
    s.withdraw("pod-1");
    s.publish([s.record(&kept, "named")]);
    client.reaches_all(&tcp_at(&service, 80), &["pod-3", "pod-4"]);
}

fn es4_service_with_ports_in_several_slices(s: &Scenario) {
    let mut client = s.client(1);
    let backend = s.backend(0, "pod-1", &[8090, 9090], &[]);
    let service = s
        .service("manual")
        .port("port80", 80, 8090, "TCP")
        .port("port81", 81, 9090, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let first = json!({"name": "port80", "port": 8090, "protocol": "TCP"});
    let second = json!({"name": "port81", "port": 9090, "protocol": "TCP"});
    let slices = [
        manual_slice(s, "manual-1", &first, &[&backend]),
        manual_slice(s, "manual-2", &second, &[&backend]),
    ];
    for slice in &slices {
        s.apply(slice);
    }
    for (port, target) in [(80, "8090"), (81, "9090")] {
        client.reaches(&tcp(service.first(port)), &["pod-1"]);
        client.reaches(&tcp(service.first(port)).request("serverport"), &[target]);
    }
    for slice in &slices {
        s.delete(slice);
    }
    client.is_refused(&tcp(service.first(80)));
}

fn es5_service_with_endpoints_in_several_slices(s: &Scenario) {
    let mut client = s.client(1);
    let backends = [
        s.backend(0, "pod-1", &[8090], &[]),
        s.backend(1, "pod-2", &[9090], &[]),
    ];
    let service = s
        .service("manual")
        .port("port80", 80, 8090, "TCP")
        .port("port81", 81, 9090, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let first = json!({"name": "port80", "port": 8090, "protocol": "TCP"});
    let second = json!({"name": "port81", "port": 9090, "protocol": "TCP"});
    let slices = [
        manual_slice(s, "manual-1", &first, &[&backends[0]]),
        manual_slice(s, "manual-2", &second, &[&backends[1]]),
    ];
    for slice in &slices {
        s.apply(slice);
    }
    client.reaches(&tcp(service.first(80)), &["pod-1"]);
    client.reaches(&tcp(service.first(81)), &["pod-2"]);
    for slice in &slices {
        s.delete(slice);
    }
}

fn em2_mirrored_endpoints_with_several_subsets_and_one_address(s: &Scenario) {
    let mut client = s.client(0);
    let backend = s.backend(1, "pod-1", &[8090, 9090], &[]);
    let service = s
        .service("mirrored")
        .port("port80", 80, 8090, "TCP")
        .port("port81", 81, 9090, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let address = json!([{"ip": backend.address()}]);
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"namespace": s.namespace(), "name": "mirrored"},
        "subsets": [
            {"addresses": address, "ports": [{"name": "port80", "port": 8090}]},
            {"addresses": address, "ports": [{"name": "port81", "port": 9090}]},
        ],
    });
    s.apply(&endpoints);
    for (port, target) in [(80, "8090"), (81, "9090")] {
        client.reaches(&tcp(service.first(port)).request("serverport"), &[target]);
    }
    s.delete(&endpoints);
}
