//! What the EndpointSlice controller does, case by case.

use serde_json::{Value, json};

use super::*;

fn pod(name: &str) -> Pod {
    Pod {
        namespace: "default".into(),
        name: name.into(),
        labels: [("app".into(), "web".into())].into(),
        addresses: vec![
            "10.244.1.2".parse().unwrap(),
            "fd00:244:1::2".parse().unwrap(),
        ],
        node: "node-1".into(),
        zone: "zone-1".into(),
        ports: Vec::new(),
        ready: true,
        terminating: false,
    }
}

fn service(spec: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "web", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

#[test]
fn a_ready_pod_becomes_an_endpoint_of_each_family() {
    let slices = endpoint_slices(
        &service(&json!({"ipFamilies": ["IPv6", "IPv4"]})),
        &[pod("a")],
    );
    let found: Vec<_> = slices
        .iter()
        .map(|s| {
            (
                s["addressType"].as_str().unwrap(),
                s["endpoints"][0]["addresses"].to_string(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("IPv6", r#"["fd00:244:1::2"]"#.to_owned()),
            ("IPv4", r#"["10.244.1.2"]"#.to_owned())
        ]
    );
    let v4 = &slices[1];
    assert_eq!(
        v4["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        v4["metadata"]["labels"]["kubernetes.io/service-name"],
        "web"
    );
    assert_eq!(v4["metadata"]["labels"]["team"], "a");
    assert_eq!(v4["endpoints"][0]["nodeName"], "node-1");
    assert_eq!(v4["endpoints"][0]["zone"], "zone-1");
    assert_eq!(
        v4["endpoints"][0]["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );
}

#[test]
fn conditions_follow_readiness_deletion_and_publish_not_ready() {
    let condition = |ready: bool, terminating: bool, publish: bool| {
        let pod = Pod {
            ready,
            terminating,
            ..pod("a")
        };
        let slices = endpoint_slices(
            &service(&json!({"publishNotReadyAddresses": publish})),
            &[pod],
        );
        let c = &slices[0]["endpoints"][0]["conditions"];
        ["ready", "serving", "terminating"].map(|key| c[key] == true)
    };
    assert_eq!(condition(false, false, false), [false, false, false]);
    assert_eq!(condition(true, true, false), [false, true, true]);
    assert_eq!(condition(false, true, false), [false, false, true]);
    assert_eq!(condition(false, false, true), [true, false, false]);
    assert_eq!(condition(false, true, true), [true, false, true]);
}

#[test]
fn selector_and_namespace_decide() {
    let mut other_label = pod("b");
    other_label.labels.insert("app".into(), "db".into());
    let other_namespace = Pod {
        namespace: "kube-system".into(),
        ..pod("c")
    };
    let slices = endpoint_slices(
        &service(&json!({})),
        &[pod("a"), other_label, other_namespace],
    );
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["endpoints"].as_array().unwrap().len(), 1);
    assert!(endpoint_slices(&service(&json!({"selector": null})), &[pod("a")]).is_empty());
    assert!(endpoint_slices(&service(&json!({"type": "ExternalName"})), &[pod("a")]).is_empty());
}

#[test]
fn a_named_target_port_may_differ_between_pods() {
    let spec = json!({"ports": [{"port": 80, "targetPort": "serve"}]});
    let pods = [
        pod("a").port("serve", 80, "TCP"),
        pod("b").port("serve", 8080, "TCP"),
        // Not declared for TCP: contributes an endpoint without ports.
        pod("c").port("serve", 80, "UDP"),
    ];
    let mut ports: Vec<Vec<u64>> = endpoint_slices(&service(&spec), &pods)
        .iter()
        .map(|s| {
            s["ports"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|p| p["port"].as_u64())
                .collect()
        })
        .collect();
    ports.sort();
    assert_eq!(ports, [vec![], vec![80], vec![8080]]);
}

#[test]
fn target_port_defaults_to_the_service_port() {
    let spec = json!({"ports": [{"port": 53, "protocol": "UDP"}]});
    let slices = endpoint_slices(&service(&spec), &[pod("a")]);
    assert_eq!(
        slices[0]["ports"],
        json!([{"name": "", "port": 53, "protocol": "UDP"}])
    );
}

#[test]
fn no_endpoints_leave_a_placeholder_slice() {
    let slices = endpoint_slices(&service(&json!({})), &[]);
    assert_eq!(slices.len(), 1);
    assert_eq!(
        (&slices[0]["ports"], &slices[0]["endpoints"]),
        (&json!([]), &json!([]))
    );
}

#[test]
fn slices_of_headless_services_are_labelled() {
    let slices = endpoint_slices(&service(&json!({"clusterIP": "None"})), &[pod("a")]);
    assert_eq!(slices[0]["metadata"]["labels"][HEADLESS], "");
    let slices = endpoint_slices(&service(&json!({})), &[pod("a")]);
    assert!(slices[0]["metadata"]["labels"].get(HEADLESS).is_none());
}

#[test]
fn more_than_a_hundred_endpoints_fill_several_slices() {
    let pods: Vec<Pod> = (0..250).map(|n| pod(&format!("p{n:03}"))).collect();
    let sizes: Vec<usize> = endpoint_slices(&service(&json!({})), &pods)
        .iter()
        .map(|s| s["endpoints"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn hints_follow_traffic_distribution_on_ready_endpoints() {
    let hints = |distribution: &str, ready: bool| {
        let spec = json!({"trafficDistribution": distribution});
        endpoint_slices(&service(&spec), &[pod("a").ready(ready)])[0]["endpoints"][0]["hints"]
            .clone()
    };
    let zone = json!({"forZones": [{"name": "zone-1"}]});
    assert_eq!(hints("PreferClose", true), zone);
    assert_eq!(hints("PreferSameZone", true), zone);
    assert_eq!(
        hints("PreferSameNode", true)["forNodes"],
        json!([{"name": "node-1"}])
    );
    assert_eq!(hints("PreferClose", false), Value::Null);
}

#[test]
fn names_depend_on_the_ports_alone() {
    let names = |pods: &[Pod]| -> Vec<String> {
        let slices = endpoint_slices(&service(&json!({})), pods);
        slices
            .iter()
            .map(|s| s["metadata"]["name"].to_string())
            .collect()
    };
    assert_eq!(names(&[pod("a")]), names(&[pod("b"), pod("c")]));
}

#[test]
fn mirrored_subsets_become_slices() {
    let endpoints = json!({
        "metadata": {"namespace": "default", "name": "manual"},
        "subsets": [
            {"addresses": [{"ip": "10.244.1.2"}], "ports": [{"name": "a", "port": 8090}]},
            {
                "addresses": [{"ip": "10.244.1.2"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.244.1.3"}],
                "ports": [{"name": "b", "port": 9090}],
            },
        ],
    });
    let slices = mirrored_slices(&endpoints);
    let shape: Vec<_> = slices
        .iter()
        .map(|s| {
            let endpoints = s["endpoints"].as_array().unwrap();
            let ready = endpoints
                .iter()
                .filter(|e| e["conditions"]["ready"] == true)
                .count();
            (
                s["addressType"].as_str().unwrap(),
                s["ports"][0]["port"].clone(),
                endpoints.len(),
                ready,
            )
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("IPv4", json!(8090), 1, 1),
            ("IPv4", json!(9090), 2, 1),
            ("IPv6", json!(9090), 1, 1)
        ]
    );
}

#[test]
fn topology_mode_auto_gives_hints_while_zones_have_equally_many_endpoints() {
    let hints = |mode: &str, zones: &[&str]| {
        let mut service = service(&json!({}));
        service["metadata"]["annotations"]["service.kubernetes.io/topology-mode"] = json!(mode);
        let pods = zones.iter().enumerate().map(|(number, zone)| Pod {
            zone: (*zone).to_owned(),
            ..pod(&format!("pod-{number}"))
        });
        let pods: Vec<Pod> = pods.collect();
        endpoint_slices(&service, &pods)[0]["endpoints"][0]["hints"]["forZones"].clone()
    };
    assert_eq!(hints("Auto", &["a", "b"]), json!([{"name": "a"}]));
    assert_eq!(hints("Disabled", &["a", "b"]), Value::Null);
    assert_eq!(hints("Auto", &["a", "b", "b"]), Value::Null);
    assert_eq!(hints("Auto", &["a", "a"]), Value::Null);
    assert_eq!(hints("Auto", &["a", ""]), Value::Null);
}
