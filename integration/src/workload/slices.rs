//! The slices of one Service.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use serde_json::{Map, Value, json};

use super::{
    HEADLESS, MANAGED_BY, Pod, SERVICE_NAME,
    conditions::{Publishing, endpoint},
    ports::resolved,
};

/// The controller's default for `--max-endpoints-per-slice`.
const ENDPOINTS_PER_SLICE: usize = 100;

/// The EndpointSlices of `service`, of all families, for those `pods` that its selector matches.
///
/// None for a Service without a selector (its slices are the user's) or of type ExternalName.
pub fn endpoint_slices(service: &Value, pods: &[Pod]) -> Vec<Value> {
    let selector = service["spec"]["selector"]
        .as_object()
        .filter(|map| !map.is_empty());
    let Some(selector) = selector else {
        return Vec::new();
    };
    if service["spec"]["type"] == "ExternalName" {
        return Vec::new();
    }
    let namespace = service["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default");
    let mut chosen: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.namespace == namespace && matches(selector, pod))
        .collect();
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    families(service)
        .into_iter()
        .flat_map(|family| of_family(service, family, &chosen))
        .collect()
}

/// `IPv4` and `IPv6`, as the Service has them.
fn families(service: &Value) -> Vec<&'static str> {
    let listed: Vec<&'static str> = service["spec"]["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            Some("IPv4") => Some("IPv4"),
            Some("IPv6") => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let v6 = service["spec"]["clusterIP"]
        .as_str()
        .is_some_and(|ip| ip.contains(':'));
    vec![if v6 { "IPv6" } else { "IPv4" }]
}

fn matches(selector: &Map<String, Value>, pod: &Pod) -> bool {
    selector
        .iter()
        .all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str())
}

fn of_family(service: &Value, family: &str, pods: &[&Pod]) -> Vec<Value> {
    let spec = &service["spec"];
    let publishing = Publishing {
        not_ready: spec["publishNotReadyAddresses"] == true,
        distribution: spec["trafficDistribution"]
            .as_str()
            .or_else(|| is_balanced(service, pods).then_some("PreferSameZone")),
    };
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    // Keyed by the text of the resolved ports: pods that resolve alike share slices.
    let mut groups: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let of_family = |address: &&IpAddr| address.is_ipv4() == (family == "IPv4");
        let Some(address) = pod.addresses.iter().find(of_family) else {
            continue;
        };
        let ports = resolved(ports, pod);
        let key = Value::from(ports.clone()).to_string();
        let group = groups.entry(key).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(pod, *address, publishing));
    }
    if groups.is_empty() {
        groups.insert("placeholder".to_owned(), (Vec::new(), Vec::new()));
    }
    let mut slices = Vec::new();
    for (key, (ports, endpoints)) in groups {
        let mut chunks: Vec<&[Value]> = endpoints.chunks(ENDPOINTS_PER_SLICE).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for (number, chunk) in chunks.into_iter().enumerate() {
            let suffix = format!(
                "{}-{:06x}-{number}",
                family.to_lowercase(),
                short_hash(&key)
            );
            slices.push(slice(service, family, &suffix, &ports, chunk));
        }
    }
    slices
}

/// Whether topology-mode Auto makes each endpoint serve its own zone: if zones have equally many
/// ready ones. (The controller's other way, to share out by the processors of zones, is not here.)
fn is_balanced(service: &Value, pods: &[&Pod]) -> bool {
    let mut zones = BTreeMap::<&str, usize>::new();
    for pod in pods.iter().filter(|pod| pod.ready && !pod.terminating) {
        *zones.entry(&pod.zone).or_default() += 1;
    }
    let mut counts = zones.values();
    let first = counts.next();
    service["metadata"]["annotations"]["service.kubernetes.io/topology-mode"] == "Auto"
        && zones.len() > 1
        && !zones.contains_key("")
        && counts.all(|count| Some(count) == first)
}

fn slice(
    service: &Value,
    family: &str,
    suffix: &str,
    ports: &[Value],
    endpoints: &[Value],
) -> Value {
    let metadata = &service["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), json!(name));
    labels.insert(
        MANAGED_BY.to_owned(),
        json!("endpointslice-controller.k8s.io"),
    );
    if service["spec"]["clusterIP"] == "None" {
        labels.insert(HEADLESS.to_owned(), json!(""));
    } else {
        labels.remove(HEADLESS);
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": metadata["namespace"].as_str().unwrap_or("default"),
            "name": format!("{name}-{suffix}"),
            "labels": labels,
        },
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// Tells port sets apart in names; six hex digits suffice for one Service's few.
fn short_hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() & 0x00ff_ffff
}
