//! Manifests that turn bad under a running controller, and hostile ones.

use std::{fs, path::PathBuf, thread, time::Duration};

use lb_integration::{
    patience::becomes,
    proxy::{Source, lbctl},
    scene::Scene,
};
use serde_json::{Value, json};

fn manifests(scene: &Scene) -> PathBuf {
    match scene.source() {
        Source::Files(path) => path.clone(),
        Source::Kubeconfig(_) => unreachable!("the scene reads files"),
    }
}

#[test]
fn a_manifest_that_turns_bad_is_logged_and_its_last_good_version_stays() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let file = manifests(&scene).join("service.default.web.yaml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, "kind: Service\nspec: [\n").unwrap();
    becomes("the warning", || {
        let log = scene.proxy_output();
        log.contains("keeping the last good version")
            && log.contains("service.default.web.yaml")
            && log.contains("line 3")
    });
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
    // Other files are followed meanwhile.
    scene.withdraw(&["pod-1"]).unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    // A restart cannot know the last good version, and says so instead of guessing.
    fs::write(&file, good.replace("port: 80", "port: 81")).unwrap();
    let [moved, _] = scene.service.at(81);
    becomes("the new port", || {
        lbctl(scene.cluster.node(0), &["list"])
            .unwrap()
            .contains(&moved.to_string())
    });
    let summary = scene.connect(moved, 20).unwrap();
    assert_eq!(summary.failed(), 0, "{summary:?}");
}

/// Ports that no API server would let through, and one that is fine.
fn hostile_ports() -> Value {
    let mut ports: Vec<Value> = [0, -1, 70_000, i64::from(i32::MAX)]
        .into_iter()
        .map(|port| json!({"name": format!("p{port}"), "port": port}))
        .collect();
    ports.push(json!({"name": "fine", "port": 8080, "protocol": "TCP"}));
    ports.push(json!({"name": "fine", "port": 8080, "protocol": "TCP"}));
    ports.push(json!({"name": "again", "port": 8080, "protocol": "TCP"}));
    ports.push(json!({"name": "icmp", "port": 1, "protocol": "ICMP"}));
    ports.push(json!({"name": "x".repeat(5000), "port": 8081}));
    json!(ports)
}

/// Services and slices whose every field is of the right type and the wrong value.
fn hostile_objects() -> Vec<Value> {
    let service = |name: &str, spec: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "hostile", "name": name}, "spec": spec,
        })
    };
    let mut annotated = service(
        "lengths",
        json!({"clusterIP": "10.96.7.4", "ports": [{"port": 80}]}),
    );
    annotated["metadata"]["annotations"] = json!({
        "lb/maglev-table-length": "4294967291",
        "endpoints.kubernetes.io/last-change-trigger-time": "yesterday",
    });
    let many_ports: Vec<Value> = (1..=3000)
        .map(|port| json!({"name": format!("p{port}"), "port": port}))
        .collect();
    let many_endpoints: Vec<Value> = (0..20_000)
        .map(|i| json!({"addresses": [format!("10.{}.{}.{}", 100 + i / 65_536, i / 256 % 256, i % 256)]}))
        .collect();
    let bad_endpoints = [
        "", "999.1.1.1", "banana", "10.0.0.0/8", "fe80::1%eth0", "0.0.0.0", "255.255.255.255",
        "::ffff:10.1.1.1", "10.244.1.1\u{0}", "\u{202e}1.1.1.1",
    ]
    .map(|address| json!({"addresses": [address], "nodeName": "n".repeat(4096), "zone": "z".repeat(4096)}));
    let slice = |name: &str, of: &str, endpoints: Value, ports: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": "hostile", "name": name,
                "labels": {"kubernetes.io/service-name": of},
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        })
    };
    let fine = json!([{"name": "fine", "port": 8080, "protocol": "TCP"}]);
    vec![
        service(
            "ports",
            json!({"clusterIP": "10.96.7.1", "ports": hostile_ports()}),
        ),
        service(
            "banana",
            json!({"clusterIP": "banana", "clusterIPs": ["banana", "", "10.96.7.2"],
            "ipFamilies": ["IPv9", "IPv4", "IPv6"], "ports": [{"port": 80}]}),
        ),
        service(
            "loopback",
            json!({"clusterIP": "127.0.0.1", "ports": [{"port": 80}]}),
        ),
        service("nothing", json!({})),
        service(
            "affinity",
            json!({"clusterIP": "10.96.7.3", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": -5}}, "ports": [{"port": 80}]}),
        ),
        service(
            &"n".repeat(5000),
            json!({"clusterIP": "10.96.7.5", "ports": [{"port": 80}]}),
        ),
        service(
            "many-ports",
            json!({"clusterIP": "10.96.7.6", "ports": many_ports}),
        ),
        service(
            "many-endpoints",
            json!({"clusterIP": "10.96.7.7",
            "ports": [{"name": "fine", "port": 80}]}),
        ),
        annotated,
        slice("bad", "ports", json!(bad_endpoints), fine.clone()),
        slice(
            "bad-ports",
            "ports",
            json!([{"addresses": ["10.244.9.9"]}]),
            json!([{"name": "fine", "port": 0}, {"name": "fine", "port": 70_000},
                {"name": "fine", "port": -3}, {"name": null, "port": 1}, {"port": null}]),
        ),
        slice(
            "many",
            "many-endpoints",
            json!(many_endpoints),
            fine.clone(),
        ),
        slice(
            &"s".repeat(5000),
            &"of".repeat(2000),
            json!([{"addresses": []}]),
            fine,
        ),
    ]
}

#[test]
fn hostile_values_neither_end_the_controller_nor_block_other_services() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let directory = manifests(&scene);
    // Before "service…" and "endpointslice…" by name, so that they are read first.
    let staged = directory.with_file_name("hostile");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": hostile_objects()});
    fs::write(&staged, list.to_string()).unwrap();
    fs::rename(&staged, directory.join("a-hostile.json")).unwrap();
    let big = || {
        lbctl(
            scene.cluster.node(0),
            &["list", "-n", "hostile", "--name", "many-endpoints"],
        )
    };
    becomes("the hostile Services", || big().unwrap().contains("20000"));
    // The same at a start, beside the good Service.
    scene.withdraw(&["pod-1"]).unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    scene.kill_proxy().unwrap();
    scene.start_proxy().unwrap();
    scene.publish(&["pod-1"]).unwrap();
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
    assert!(!scene.proxy_output().contains("panicked"));
    // What is good in bad company is programmed: one port of many.
    let rows = lbctl(scene.cluster.node(0), &["list", "-n", "hostile"]).unwrap();
    assert!(rows.contains("10.96.7.1:8080"), "{rows}");
    assert!(!rows.contains("banana"), "{rows}");
    // And all of it goes again.
    fs::remove_file(directory.join("a-hostile.json")).unwrap();
    let dump = || lbctl(scene.cluster.node(0), &["dump", "--canonical"]).unwrap();
    becomes("the end of the hostile Services", || {
        !dump().contains("hostile")
    });
    thread::sleep(Duration::from_millis(50));
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}
