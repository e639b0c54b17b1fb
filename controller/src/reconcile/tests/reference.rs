//! What clients must meet, read off the objects as they are on the wire.
//!
//! Written from the rules alone, and naive on purpose: no step is shared, nothing is cached,
//! nothing of the controller is used. It is an answer of its own to compare with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde_json::Value;

/// What a connection meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// One of these.
    Backends(BTreeSet<SocketAddr>),
    /// A refusal (rule C11).
    Reject,
    /// Silence (rule C12).
    Drop,
}

/// What clients on this node meet, and those elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meets {
    pub(super) inside: Answer,
    pub(super) outside: Answer,
}

/// Where clients dial: an address, or any of the node's for a NodePort; port; protocol.
pub(super) type Dialled = (Option<IpAddr>, bool, u16, String);

/// Service, port name, protocol, whether IPv6: to what is dialled there.
pub(super) type Expected = BTreeMap<(String, String, String, bool), BTreeMap<Dialled, Meets>>;

/// This node.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) zone: &'a str,
    pub(super) external_ips: bool,
}

pub(super) fn name_of(object: &Value) -> String {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    format!("{namespace}/{}", metadata["name"].as_str().unwrap_or(""))
}

fn text<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().unwrap_or(default)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn has_label(object: &Value, label: &str) -> bool {
    object["metadata"]["labels"].get(label).is_some()
}

fn addresses(values: &[Value], v6: bool) -> Vec<IpAddr> {
    let parsed = values.iter().filter_map(|ip| ip.as_str()?.parse().ok());
    parsed.filter(|ip: &IpAddr| ip.is_ipv6() == v6).collect()
}

/// What `services` and `slices`, sorted by name, promise at `node`.
pub(super) fn expected(services: &[Value], slices: &[Value], node: Node<'_>) -> Expected {
    let mut all = Expected::new();
    for service in services {
        let spec = &service["spec"];
        // Rules A1, A3, A5.
        if has_label(service, "service.kubernetes.io/service-proxy-name")
            || matches!(text(&spec["clusterIP"], ""), "" | "None")
            || !matches!(
                text(&spec["type"], "ClusterIP"),
                "ClusterIP" | "NodePort" | "LoadBalancer"
            )
        {
            continue;
        }
        for v6 in [false, true] {
            let Some(cluster_ip) = cluster_ip(spec, v6) else {
                continue;
            };
            for port in list(&spec["ports"]) {
                let protocol = text(&port["protocol"], "TCP");
                let number = port["port"].as_u64().unwrap_or(0);
                if !["TCP", "UDP", "SCTP"].contains(&protocol) || !(1..=65535).contains(&number) {
                    continue;
                }
                let key = (
                    name_of(service),
                    text(&port["name"], "").to_owned(),
                    protocol.to_owned(),
                    v6,
                );
                all.insert(key, of_port(service, port, cluster_ip, slices, node));
            }
        }
    }
    all
}

/// Rule A7.
fn cluster_ip(spec: &Value, v6: bool) -> Option<IpAddr> {
    let family = if v6 { "IPv6" } else { "IPv4" };
    let families = list(&spec["ipFamilies"]);
    let place = families.iter().position(|listed| listed == family)?;
    list(&spec["clusterIPs"]).get(place)?.as_str()?.parse().ok()
}

fn of_port(
    service: &Value,
    port: &Value,
    cluster_ip: IpAddr,
    slices: &[Value],
    node: Node<'_>,
) -> BTreeMap<Dialled, Meets> {
    let v6 = cluster_ip.is_ipv6();
    let spec = &service["spec"];
    let number = port["port"].as_u64().unwrap_or(0) as u16;
    let node_port = port["nodePort"].as_u64().unwrap_or(0) as u16;
    let protocol = text(&port["protocol"], "TCP").to_owned();
    // Rule A13.
    let all_external = if node.external_ips {
        list(&spec["externalIPs"])
    } else {
        &[]
    };
    let external = addresses(all_external, v6);
    // Rule E18.
    let ingress = list(&service["status"]["loadBalancer"]["ingress"]).iter();
    let vips = ingress.filter(|one| text(&one["ipMode"], "VIP") == "VIP");
    let vips: Vec<Value> = vips.map(|one| one["ip"].clone()).collect();
    let vips = addresses(&vips, v6);

    // Rules C1, C2, C3.
    let accessible = node_port != 0 || !vips.is_empty() || !external.is_empty();
    let honoured = match text(&spec["type"], "ClusterIP") {
        "LoadBalancer" | "NodePort" => true,
        _ => !all_external.is_empty(),
    };
    let internal_local = text(&spec["internalTrafficPolicy"], "") == "Local";
    let external_local = text(&spec["externalTrafficPolicy"], "") == "Local" && honoured;
    let uses_local = internal_local || external_local && accessible;

    let endpoints = endpoints(&name_of(service), port, slices, v6, node.name);
    let cluster = cluster_set(&endpoints, node);
    let local = local_set(&endpoints);
    let serves = |one: &&Endpoint| one.ready || one.serving && one.terminating;
    // Rule C9.
    let any = !cluster.is_empty() || uses_local && endpoints.iter().any(|one| serves(&one));
    let answer = |set: &BTreeSet<SocketAddr>| {
        if !any {
            Answer::Reject
        } else if set.is_empty() {
            Answer::Drop
        } else {
            Answer::Backends(set.clone())
        }
    };

    // Rules C10, F1, F2, F3, F6, F7.
    let internal = answer(if internal_local { &local } else { &cluster });
    let internal = Meets {
        inside: internal.clone(),
        outside: internal,
    };
    let external_meets = Meets {
        inside: answer(&cluster),
        outside: answer(if external_local { &local } else { &cluster }),
    };
    let mut all = BTreeMap::new();
    for ip in external.into_iter().chain(vips) {
        all.insert(
            (Some(ip), v6, number, protocol.clone()),
            external_meets.clone(),
        );
    }
    if node_port != 0 {
        all.insert((None, v6, node_port, protocol.clone()), external_meets);
    }
    all.insert((Some(cluster_ip), v6, number, protocol), internal);
    all
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the conditions are independent of each other"
)]
struct Endpoint {
    at: SocketAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    nodes: Vec<String>,
    zones: Vec<String>,
}

/// Rules B1 to B11.
fn endpoints(service: &str, port: &Value, slices: &[Value], v6: bool, this: &str) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = Vec::new();
    for slice in slices {
        let namespace = text(&slice["metadata"]["namespace"], "default");
        let owner = text(
            &slice["metadata"]["labels"]["kubernetes.io/service-name"],
            "",
        );
        let family = if v6 { "IPv6" } else { "IPv4" };
        if format!("{namespace}/{owner}") != service
            || has_label(slice, "service.kubernetes.io/headless")
            || slice["addressType"] != family
        {
            continue;
        }
        for slice_port in list(&slice["ports"]) {
            let number = slice_port["port"].as_u64().unwrap_or(0) as u16;
            let same_name = slice_port["name"].as_str() == Some(text(&port["name"], ""));
            let protocol = text(&slice_port["protocol"], "TCP");
            if number == 0 || !same_name || protocol != text(&port["protocol"], "TCP") {
                continue;
            }
            for endpoint in list(&slice["endpoints"]) {
                let Some(ip) = list(&endpoint["addresses"]).first() else {
                    continue;
                };
                let Some(Ok(ip)) = ip.as_str().map(str::parse::<IpAddr>) else {
                    continue;
                };
                let condition =
                    |name: &str, default| endpoint["conditions"][name].as_bool().unwrap_or(default);
                let hints = |name: &str| {
                    let hints = list(&endpoint["hints"][name]).iter();
                    hints
                        .map(|hint| text(&hint["name"], "").to_owned())
                        .collect()
                };
                let found = Endpoint {
                    at: SocketAddr::new(ip, number),
                    ready: condition("ready", true),
                    serving: condition("serving", true),
                    terminating: condition("terminating", false),
                    local: !this.is_empty() && endpoint["nodeName"].as_str() == Some(this),
                    nodes: hints("forNodes"),
                    zones: hints("forZones"),
                };
                // Rule B11.
                match all.iter_mut().find(|known| known.at == found.at) {
                    Some(known) if !found.terminating => *known = found,
                    Some(_) => {}
                    None => all.push(found),
                }
            }
        }
    }
    all
}

fn at(endpoints: &[&Endpoint]) -> BTreeSet<SocketAddr> {
    endpoints.iter().map(|one| one.at).collect()
}

/// Rules C4, D2, D3, D4, D6.
fn cluster_set(endpoints: &[Endpoint], node: Node<'_>) -> BTreeSet<SocketAddr> {
    let ready: Vec<&Endpoint> = endpoints.iter().filter(|one| one.ready).collect();
    let all_have_nodes = ready.iter().all(|one| !one.nodes.is_empty());
    let all_have_zones = ready.iter().all(|one| !one.zones.is_empty());
    let for_node = |one: &&&Endpoint| one.nodes.iter().any(|hint| hint == node.name);
    let for_zone =
        |one: &&&Endpoint| !node.zone.is_empty() && one.zones.iter().any(|hint| hint == node.zone);
    let usable: Vec<&Endpoint> = if all_have_nodes && ready.iter().any(|one| for_node(&one)) {
        ready.iter().filter(for_node).copied().collect()
    } else if all_have_zones && ready.iter().any(|one| for_zone(&one)) {
        ready.iter().filter(for_zone).copied().collect()
    } else {
        ready
    };
    if !usable.is_empty() {
        return at(&usable);
    }
    let leaving = endpoints
        .iter()
        .filter(|one| one.serving && one.terminating);
    at(&leaving.collect::<Vec<_>>())
}

/// Rule C5.
fn local_set(endpoints: &[Endpoint]) -> BTreeSet<SocketAddr> {
    let local = || endpoints.iter().filter(|one| one.local);
    let ready: Vec<_> = local().filter(|one| one.ready).collect();
    if !ready.is_empty() {
        return at(&ready);
    }
    let leaving = local().filter(|one| one.serving && one.terminating);
    at(&leaving.collect::<Vec<_>>())
}
