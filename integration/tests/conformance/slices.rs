//! EndpointSlices in all the shapes they come in. Rows S22, S50, ES4, ES5, EM2.

use lb_integration::workload::{HEADLESS, mirrored_slices};
use serde_json::{Value, json};

use crate::scenario::{Backend, Scenario, tcp, tcp_both};

/// A slice made by a user: IPv4, one port, these backends.
fn manual_slice(s: &Scenario, name: &str, port: &Value, backends: &[&Backend]) -> Value {
    let endpoints: Vec<Value> = backends
        .iter()
        .map(|b| json!({"addresses": [b.pod.v4().to_string()]}))
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
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": endpoints,
    })
}

#[test]
fn s22_headless_label_on_a_slice_hides_it() {
    let s = Scenario::new("s22");
    let mut client = s.client(1);
    let backend = s.backend(0, "pod-1", &[8080], &[]);
    let service = s
        .service("manual")
        .port("", 80, 8080, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let port = json!({"name": "", "port": 8080, "protocol": "TCP"});
    let slice = manual_slice(&s, "manual-1", &port, &[&backend]);
    s.apply(&slice);
    client.reaches(&tcp(service.v4(80)), &["pod-1"]);

    let mut hidden = slice.clone();
    hidden["metadata"]["labels"][HEADLESS] = json!("");
    s.apply(&hidden);
    client.is_refused(&tcp(service.v4(80)));
    s.apply(&slice);
    client.reaches(&tcp(service.v4(80)), &["pod-1"]);
    s.delete(&slice);
}

#[test]
fn s50_named_target_ports_resolve_to_different_numbers() {
    let s = Scenario::new("s50");
    let mut client = s.client(0);
    let first = s.backend(0, "pod-1", &[80], &[]);
    let second = s.backend(1, "pod-2", &[80], &[]);
    let service = s.service("named").port("http", 80, "serve", "TCP");
    s.apply(service.object());
    s.publish(
        [first, second]
            .iter()
            .map(|b| s.record(b, "named").port("serve", 80, "TCP")),
    );
    let replacement = s.backend(1, "pod-3", &[8080], &[]);
    s.withdraw("pod-2");
    s.publish([s.record(&replacement, "named").port("serve", 8080, "TCP")]);
    let kept = s.backend(0, "pod-4", &[80], &[]);
    s.withdraw("pod-1");
    s.publish([s.record(&kept, "named").port("serve", 80, "TCP")]);
    client.reaches_all(&tcp_both(&service, 80), &["pod-3", "pod-4"]);
}

#[test]
fn es4_service_with_ports_in_several_slices() {
    let s = Scenario::new("es4");
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
        manual_slice(&s, "manual-1", &first, &[&backend]),
        manual_slice(&s, "manual-2", &second, &[&backend]),
    ];
    for slice in &slices {
        s.apply(slice);
    }
    for (port, target) in [(80, "8090"), (81, "9090")] {
        client.reaches(&tcp(service.v4(port)), &["pod-1"]);
        client.reaches(&tcp(service.v4(port)).request("serverport"), &[target]);
    }
    for slice in &slices {
        s.delete(slice);
    }
    client.is_refused(&tcp(service.v4(80)));
}

#[test]
fn es5_service_with_endpoints_in_several_slices() {
    let s = Scenario::new("es5");
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
        manual_slice(&s, "manual-1", &first, &[&backends[0]]),
        manual_slice(&s, "manual-2", &second, &[&backends[1]]),
    ];
    for slice in &slices {
        s.apply(slice);
    }
    client.reaches(&tcp(service.v4(80)), &["pod-1"]);
    client.reaches(&tcp(service.v4(81)), &["pod-2"]);
    for slice in &slices {
        s.delete(slice);
    }
}

#[test]
fn em2_mirrored_endpoints_with_several_subsets_and_one_address() {
    let s = Scenario::new("em2");
    let mut client = s.client(0);
    let backend = s.backend(1, "pod-1", &[8090, 9090], &[]);
    let service = s
        .service("mirrored")
        .port("port80", 80, 8090, "TCP")
        .port("port81", 81, 9090, "TCP")
        .spec("selector", Value::Null);
    s.apply(service.object());
    let address = json!([{"ip": backend.pod.v4().to_string()}]);
    let slices = mirrored_slices(&json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"namespace": s.namespace(), "name": "mirrored"},
        "subsets": [
            {"addresses": address, "ports": [{"name": "port80", "port": 8090}]},
            {"addresses": address, "ports": [{"name": "port81", "port": 9090}]},
        ],
    }));
    assert_eq!(slices.len(), 2);
    for slice in &slices {
        s.apply(slice);
    }
    for (port, target) in [(80, "8090"), (81, "9090")] {
        client.reaches(&tcp(service.v4(port)).request("serverport"), &[target]);
    }
    for slice in &slices {
        s.delete(slice);
    }
}
