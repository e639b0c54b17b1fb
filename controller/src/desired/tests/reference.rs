//! Semantics C and D once more, read off the rules sentence by sentence, with sets
//! instead of flags and no thought for speed. It shares no code with the real one.

use std::{collections::BTreeSet, net::IpAddr};

use super::build::*;

/// What the rules say about one port.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) cluster: BTreeSet<IpAddr>,
    pub(super) local: BTreeSet<IpAddr>,
    pub(super) has_any: bool,
}

/// `endpoints` must have distinct addresses.
pub(super) fn verdict(service: &Service, endpoints: &[Endpoint], zone: Option<&str>) -> Verdict {
    let mut accessible = service.ports[0].node_port != 0;
    for ip in service
        .load_balancer_ips
        .iter()
        .chain(&service.external_ips)
    {
        if ip.is_ipv4() {
            accessible = true;
        }
    }
    let mut external_local = service.external_policy == TrafficPolicy::Local;
    if service.service_type == ServiceType::ClusterIp && service.external_ips.is_empty() {
        external_local = false;
    }
    let internal_local = service.internal_policy == TrafficPolicy::Local;
    let uses_cluster = !internal_local || accessible;
    let uses_local = internal_local || (external_local && accessible);

    let ready: Vec<&Endpoint> = endpoints.iter().filter(|e| e.ready).collect();
    let draining: Vec<&Endpoint> = endpoints
        .iter()
        .filter(|e| e.serving && e.terminating)
        .collect();

    let mut cluster = BTreeSet::new();
    if uses_cluster {
        cluster = addresses(&hinted(&ready, zone));
        if cluster.is_empty() {
            cluster = addresses(&draining);
        }
    }
    let mut local = BTreeSet::new();
    if uses_local {
        local = addresses(&here(&ready));
        if local.is_empty() {
            local = addresses(&here(&draining));
        }
    }
    let mut has_any = !cluster.is_empty();
    if uses_local && (!ready.is_empty() || !draining.is_empty()) {
        has_any = true;
    }
    Verdict {
        cluster,
        local,
        has_any,
    }
}

fn hinted<'a>(ready: &[&'a Endpoint], zone: Option<&str>) -> Vec<&'a Endpoint> {
    let for_node: Vec<_> = ready
        .iter()
        .copied()
        .filter(|e| e.node_hint == NodeHint::This)
        .collect();
    let node_hinted = ready
        .iter()
        .filter(|e| e.node_hint != NodeHint::None)
        .count();
    if node_hinted == ready.len() && !for_node.is_empty() {
        return for_node;
    }
    let Some(zone) = zone else {
        return ready.to_vec();
    };
    let mut for_zone = Vec::new();
    let mut zone_hinted = 0;
    for endpoint in ready {
        if !endpoint.zone_hints.is_empty() {
            zone_hinted += 1;
        }
        if endpoint.zone_hints.contains(&zone.into()) {
            for_zone.push(*endpoint);
        }
    }
    if zone_hinted == ready.len() && !for_zone.is_empty() {
        return for_zone;
    }
    ready.to_vec()
}

fn here<'a>(endpoints: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    endpoints.iter().copied().filter(|e| e.local).collect()
}

fn addresses(endpoints: &[&Endpoint]) -> BTreeSet<IpAddr> {
    endpoints.iter().map(|e| e.addr).collect()
}
