//! One endpoint of a slice: address, conditions, place, hints.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Pod;

/// What a Service says about its endpoints' conditions and hints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publishing<'a> {
    /// `spec.publishNotReadyAddresses`.
    pub(super) not_ready: bool,
    /// `spec.trafficDistribution`.
    pub(super) distribution: Option<&'a str>,
}

/// The endpoint of `pod` at `address`. A terminating pod may go on serving; it is "ready" only
/// if the Service publishes addresses that are not.
pub(super) fn endpoint(pod: &Pod, address: IpAddr, publishing: Publishing<'_>) -> Value {
    let ready = publishing.not_ready || (pod.ready && !pod.terminating);
    let mut endpoint = json!({
        "addresses": [address.to_string()],
        "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.terminating},
        "nodeName": pod.node,
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
    });
    if !pod.zone.is_empty() {
        endpoint["zone"] = json!(pod.zone);
    }
    if let (true, Some(distribution)) = (ready, publishing.distribution) {
        let hints = hints(pod, distribution);
        if hints.as_object().is_some_and(|map| !map.is_empty()) {
            endpoint["hints"] = hints;
        }
    }
    endpoint
}

/// The endpoint's own zone for every preference, and its node where that is preferred (rule D9).
fn hints(pod: &Pod, distribution: &str) -> Value {
    let mut hints = json!({});
    let zonal = matches!(
        distribution,
        "PreferClose" | "PreferSameZone" | "PreferSameNode"
    );
    if zonal && !pod.zone.is_empty() {
        hints["forZones"] = json!([{"name": pod.zone}]);
    }
    if distribution == "PreferSameNode" {
        hints["forNodes"] = json!([{"name": pod.node}]);
    }
    hints
}
