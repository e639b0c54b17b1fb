//! What kube-proxy measures of its syncs, under its names (rules J19–J22, J24).

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{datapath::now_unix_ns, desired::NoLocal, model::Family, reconcile::Outcome};

pub(super) const DURATION: &str = "kubeproxy_sync_proxy_rules_duration_seconds";
pub(super) const FULL_DURATION: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds";
pub(super) const PARTIAL_DURATION: &str = "kubeproxy_sync_partial_proxy_rules_duration_seconds";
pub(super) const NETWORK_PROGRAMMING: &str = "kubeproxy_network_programming_duration_seconds";
const TIMESTAMP: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
const QUEUED_TIMESTAMP: &str = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";
const SERVICE_CHANGES: &str = "kubeproxy_sync_proxy_rules_service_changes_total";
const SERVICES_PENDING: &str = "kubeproxy_sync_proxy_rules_service_changes_pending";
const ENDPOINT_CHANGES: &str = "kubeproxy_sync_proxy_rules_endpoint_changes_total";
const ENDPOINTS_PENDING: &str = "kubeproxy_sync_proxy_rules_endpoint_changes_pending";
const NO_LOCAL_ENDPOINTS: &str = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";

/// Values of the label `ip_family`, as in [`Family::ALL`].
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => FAMILIES[0],
        Family::V6 => FAMILIES[1],
    }
}

/// From a quarter of a second to five minutes (rule J21).
pub(super) fn network_programming_buckets() -> Vec<f64> {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    let seconds = seconds.map(|second: i32| f64::from(second));
    [0.25, 0.5].into_iter().chain(seconds).collect()
}

pub(super) fn describe() {
    describe_histogram!(DURATION, "Time that one reconciliation took, in seconds");
    describe_histogram!(
        FULL_DURATION,
        "The same, where every Service was reconciled"
    );
    describe_histogram!(
        PARTIAL_DURATION,
        "The same, where some Services were reconciled"
    );
    describe_histogram!(
        NETWORK_PROGRAMMING,
        "Time from the change of a Service or pod until its endpoints were in force, in seconds"
    );
    describe_gauge!(
        TIMESTAMP,
        "When the last reconciliation succeeded, in Unix seconds"
    );
    describe_gauge!(
        QUEUED_TIMESTAMP,
        "When the last change arrived, in Unix seconds"
    );
    describe_counter!(SERVICE_CHANGES, "Events about Services");
    describe_gauge!(
        SERVICES_PENDING,
        "Events about Services that are not in force yet"
    );
    describe_counter!(ENDPOINT_CHANGES, "Events about EndpointSlices");
    describe_gauge!(
        ENDPOINTS_PENDING,
        "Events about EndpointSlices that are not in force yet"
    );
    describe_gauge!(
        NO_LOCAL_ENDPOINTS,
        "Service ports that serve elsewhere only, because of a traffic policy"
    );
    for name in [SERVICE_CHANGES, ENDPOINT_CHANGES] {
        counter!(name).increment(0);
    }
    settled();
    no_local(NoLocal::default());
}

/// A change arrived.
pub(crate) fn observed(service: bool) {
    let (total, pending) = if service {
        (SERVICE_CHANGES, SERVICES_PENDING)
    } else {
        (ENDPOINT_CHANGES, ENDPOINTS_PENDING)
    };
    counter!(total).increment(1);
    gauge!(pending).increment(1.0);
    let now = now_unix_ns() as f64 / 1e9;
    for family in FAMILIES {
        gauge!(QUEUED_TIMESTAMP, "ip_family" => family).set(now);
    }
}

/// Nothing that arrived waits any more.
pub(crate) fn settled() {
    for pending in [SERVICES_PENDING, ENDPOINTS_PENDING] {
        gauge!(pending).set(0.0);
    }
}

/// A reconciliation ended. Families are programmed together, so both labels carry the same
/// figures where they measure time.
pub(super) fn reconciled(took: Duration, outcome: &Outcome, ok: bool) {
    let now = now_unix_ns();
    let kind = if outcome.full {
        FULL_DURATION
    } else {
        PARTIAL_DURATION
    };
    for family in FAMILIES {
        for name in [DURATION, kind] {
            histogram!(name, "ip_family" => family).record(took.as_secs_f64());
        }
        if ok {
            gauge!(TIMESTAMP, "ip_family" => family).set(now as f64 / 1e9);
        }
    }
    for (family, began) in &outcome.triggers {
        let took = now.saturating_sub(*began) as f64 / 1e9;
        histogram!(NETWORK_PROGRAMMING, "ip_family" => family_name(*family)).record(took);
    }
    if ok {
        settled();
        no_local(outcome.no_local);
    }
}

fn no_local(ports: NoLocal) {
    for (policy, counts) in [("internal", ports.internal), ("external", ports.external)] {
        for (family, count) in FAMILIES.into_iter().zip(counts) {
            let labels = [("traffic_policy", policy), ("ip_family", family)];
            gauge!(NO_LOCAL_ENDPOINTS, &labels).set(f64::from(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_kube_proxys() {
        let buckets = network_programming_buckets();
        assert_eq!(buckets[..4], [0.25, 0.5, 1.0, 2.0]);
        assert_eq!(buckets[60..64], [59.0, 60.0, 65.0, 70.0]);
        assert_eq!(
            buckets[72..],
            [115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
        );
    }
}
