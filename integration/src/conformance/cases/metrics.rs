//! kube-proxy's metrics: what dashboards and alerts of clusters rely on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::conformance::{
    case::cases,
    scenario::{Client, Scenario, tcp},
};

cases! {
    j19_metrics_have_kube_proxys_names_and_labels: own "the proxy counts syncs, changes and health checks under kube-proxy's names and labels",
        rules [J17 J19 J20 J22 J23 J24];
    j21_programming_time_is_measured_from_the_annotation_of_slices: own "the time from a change of endpoints to its being in force is measured from the annotation of slices",
        rules [J21];
}

/// Those that have a sample in each family.
const BY_FAMILY: [&str; 4] = [
    "sync_proxy_rules_duration_seconds_count",
    "sync_proxy_rules_duration_seconds_bucket",
    "sync_proxy_rules_last_timestamp_seconds",
    "sync_proxy_rules_last_queued_timestamp_seconds",
];
/// The others, with a label.
const OTHERS: [(&str, &str); 8] = [
    ("sync_proxy_rules_service_changes_total", ""),
    ("sync_proxy_rules_service_changes_pending", ""),
    ("sync_proxy_rules_endpoint_changes_total", ""),
    ("sync_proxy_rules_endpoint_changes_pending", ""),
    ("proxy_healthz_total", "code=\"200\""),
    ("proxy_livez_total", "code=\"200\""),
    (
        "sync_proxy_rules_no_local_endpoints_total",
        "traffic_policy=\"internal\"",
    ),
    (
        "sync_proxy_rules_no_local_endpoints_total",
        "traffic_policy=\"external\"",
    ),
];

/// The metrics of the first node's proxy, as its host reads them.
struct Metrics(Client);

// === impl Metrics ===

impl Metrics {
    /// Waits until there are samples that are right.
    fn until(&mut self, name: &str, label: &str, right: impl Fn(f64) -> bool) -> f64 {
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);
        let found = |text: &str| sample(text, name, label).filter(|value| right(*value));
        let reply = self.0.gets(at, "/metrics", |reply| {
            reply.status == 200 && found(&reply.body).is_some()
        });
        found(&reply.body).unwrap()
    }
}

/// The sum of a metric's samples with a label.
fn sample(text: &str, name: &str, label: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("kubeproxy_")?.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        (is_it && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    samples.reduce(|sum, value| sum + value)
}

fn family_labels(s: &Scenario) -> Vec<&'static str> {
    let v4 = s.families().has_v4().then_some("ip_family=\"IPv4\"");
    let v6 = s.families().has_v6().then_some("ip_family=\"IPv6\"");
    v4.into_iter().chain(v6).collect()
}

fn j19_metrics_have_kube_proxys_names_and_labels(s: &Scenario) {
    let mut host = s.host_client(0);
    let healthz = s.at_node(0, 10_256)[0];
    host.gets_status(healthz, "/healthz", 200);
    host.gets_status(healthz, "/livez", 200);
    let mut metrics = Metrics(host);
    let changes =
        ["service", "endpoint"].map(|kind| format!("sync_proxy_rules_{kind}_changes_total"));
    let before = changes
        .clone()
        .map(|name| metrics.until(&name, "", |_| true));
    let service = s.service("svc").port("", 80, 80, "TCP");
    s.apply(service.object());
    let _pods = s.published_backends("svc", &["server"]);
    for (name, before) in changes.iter().zip(before) {
        metrics.until(name, "", |value| value > before);
    }
    for (name, label) in OTHERS {
        metrics.until(name, label, |_| true);
    }
    for label in family_labels(s) {
        for name in BY_FAMILY {
            metrics.until(name, label, |value| value > 0.0);
        }
        let name = "sync_proxy_rules_no_local_endpoints_total";
        metrics.until(name, label, |_| true);
    }
}

fn j21_programming_time_is_measured_from_the_annotation_of_slices(s: &Scenario) {
    let mut metrics = Metrics(s.host_client(0));
    let service = s.service("svc").port("", 80, 80, "TCP");
    let service = service.spec("selector", Value::Null);
    s.apply(service.object());
    // A slice that comes before its Service changes nothing yet.
    let mut client = s.client(0);
    client.is_refused(&tcp(service.first(80)));
    let backend = s.backend(1, "server", &[80], &[]);
    let label = family_labels(s)[0];
    let now = jiff::Timestamp::now().to_string();
    s.apply(&json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": s.namespace(),
            "name": "svc-1",
            "labels": {"kubernetes.io/service-name": "svc"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now},
        },
        "addressType": if s.families().has_v4() { "IPv4" } else { "IPv6" },
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [backend.address()]}],
    }));
    client.reaches(&tcp(service.first(80)), &["server"]);
    let name = "network_programming_duration_seconds";
    let count = metrics.until(&format!("{name}_count"), label, |count| count > 0.0);
    let sum = metrics.until(&format!("{name}_sum"), label, |_| true);
    assert!(
        (0.0..count * 30.0).contains(&sum),
        "{count} changes took {sum} s"
    );
}
