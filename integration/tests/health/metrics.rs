//! Metrics under kube-proxy's names (rules J19–J25): what dashboards and alerts rely on.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use super::{
    ask::{answers, eventually},
    stage::{From, Stage},
};

/// Name, type, labels, in order.
const SNAPSHOT: &str = "\
kubeproxy_conntrack_reconciler_deleted_entries_total counter ip_family
kubeproxy_conntrack_reconciler_sync_duration_seconds histogram ip_family,le
kubeproxy_network_programming_duration_seconds histogram ip_family,le
kubeproxy_proxy_healthz_total counter code
kubeproxy_proxy_livez_total counter code
kubeproxy_sync_full_proxy_rules_duration_seconds histogram ip_family,le
kubeproxy_sync_partial_proxy_rules_duration_seconds histogram ip_family,le
kubeproxy_sync_proxy_rules_duration_seconds histogram ip_family,le
kubeproxy_sync_proxy_rules_endpoint_changes_pending gauge 
kubeproxy_sync_proxy_rules_endpoint_changes_total counter 
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds gauge ip_family
kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge ip_family
kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge ip_family,traffic_policy
kubeproxy_sync_proxy_rules_service_changes_pending gauge 
kubeproxy_sync_proxy_rules_service_changes_total counter ";

/// The same from the text format.
fn snapshot(text: &str) -> String {
    let mut types = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name, kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let names = rest.split("\",").filter_map(|pair| pair.split('=').next());
            let base = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| types.contains_key(base))
                .unwrap_or(name);
            labels.entry(base).or_default().extend(names);
        }
    }
    let ours = types
        .iter()
        .filter(|(name, _)| name.starts_with("kubeproxy_"));
    let lines = ours.map(|(name, kind)| {
        let of_name: Vec<_> = labels.get(name).into_iter().flatten().copied().collect();
        format!("{name} {kind} {}", of_name.join(","))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn names_types_and_labels_are_kube_proxys() {
    let mut stage = Stage::new(1, From::Api, &["--conntrack-gc-interval", "1s"]);
    let host = stage.cluster.node(0).host();
    answers(&[&host], &[stage.healthz()], "/livez", 200);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(0, "server");
    let other = Stage::checked().object().clone();
    stage.control_plane.apply(&renamed(other)).unwrap();
    let changes = "kubeproxy_sync_proxy_rules_service_changes";
    eventually("both Services are in force", || {
        stage.count(&format!("{changes}_total"), "") == 2
            && stage.count(&format!("{changes}_pending"), "") == 0
    });
    stamp(&stage);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut found = String::new();
    while found != SNAPSHOT && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
        found = snapshot(&stage.operator("/metrics").1);
    }
    assert_eq!(found, SNAPSHOT);
    let count = |name: &str, labels: &str| stage.count(name, labels);
    let programming = "kubeproxy_network_programming_duration_seconds";
    assert_eq!(count(&format!("{programming}_count"), "IPv4"), 1);
    assert_eq!(count(&format!("{programming}_count"), "IPv6"), 0);
    let seconds = stage.metric(&format!("{programming}_sum"), "IPv4");
    assert!((0.0..30.0).contains(&seconds), "{seconds}");
    let pending = "kubeproxy_sync_proxy_rules_endpoint_changes_pending";
    eventually("nothing is pending", || count(pending, "") == 0);
    assert!(count("kubeproxy_proxy_healthz_total", "\"200\"") >= 1);
}

/// A Service with addresses of its own that nobody serves.
fn renamed(mut service: serde_json::Value) -> serde_json::Value {
    service["metadata"]["name"] = "other".into();
    let spec = &mut service["spec"];
    *spec = serde_json::json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.101", "clusterIPs": ["10.96.0.101"],
        "ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP"}],
    });
    service["status"] = serde_json::json!({});
    service
}

/// A slice that another pod joins, with the time at which the controller saw the reason.
fn stamp(stage: &Stage) {
    let api = stage.api.clone().unwrap();
    let slices = api.list("endpointslices", Some("default")).unwrap();
    let of_web = |slice: &&serde_json::Value| {
        slice["addressType"] == "IPv4"
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    };
    let name = slices.iter().find(of_web).unwrap()["metadata"]["name"].clone();
    let now = jiff::Timestamp::now().to_string();
    let change = |slice: &mut serde_json::Value| {
        let annotations = &mut slice["metadata"]["annotations"];
        annotations["endpoints.kubernetes.io/last-change-trigger-time"] = now.into();
        let mut endpoint = slice["endpoints"][0].clone();
        endpoint["addresses"] = serde_json::json!(["10.244.1.250"]);
        slice["endpoints"].as_array_mut().unwrap().push(endpoint);
    };
    let name = name.as_str().unwrap().to_owned();
    api.edit("endpointslices", "default", &name, change)
        .unwrap();
}

#[test]
fn j24_ports_without_local_endpoints_are_counted_by_policy() {
    let mut stage = Stage::new(2, From::Files, &[]);
    stage
        .control_plane
        .apply(Stage::checked().object())
        .unwrap();
    stage.serve(1, "elsewhere");
    let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    let external = |stage: &Stage| stage.count(name, "\"external\"");
    // Both families of the port.
    eventually("the ports count", || external(&stage) == 2);
    assert_eq!(stage.count(name, "\"internal\""), 0);
    stage.serve(0, "here");
    eventually("they do not any more", || external(&stage) == 0);
}
