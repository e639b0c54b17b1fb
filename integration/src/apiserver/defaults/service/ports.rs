//! Node ports and the health check node port.

use serde_json::Value;

use super::{Type, addresses::Refusal};
use crate::apiserver::{allocator::Allocator, object::Key};

/// True when kube-proxy must serve a health check for the Service.
pub(super) fn wants_health_check(spec: &Value, ty: Type) -> bool {
    ty == Type::LoadBalancer && spec["externalTrafficPolicy"] == "Local"
}

/// Ports without a node port take that of the old port of the same name,
/// unless another port of the new Service claims it.
pub(super) fn carry_over(ports: &mut Value, old: &Value) {
    let Some(ports) = ports.as_array_mut() else {
        return;
    };
    let mut claimed: Vec<u16> = ports.iter().map(node_port).collect();
    for index in 0..ports.len() {
        if claimed[index] != 0 {
            continue;
        }
        let same_name = |port: &&Value| port["name"] == ports[index]["name"];
        let earlier = old
            .as_array()
            .into_iter()
            .flatten()
            .find(same_name)
            .map_or(0, node_port);
        if earlier != 0 && !claimed.contains(&earlier) {
            ports[index]["nodePort"] = earlier.into();
            claimed[index] = earlier;
        }
    }
}

/// A new Service has one node port for two protocols only where these have one port number, as in
/// DNS (later it may get it).
pub(super) fn check_shared(spec: &Value) -> Result<(), Refusal> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    let mut holders: Vec<&Value> = Vec::new();
    for port in ports.filter(|port| node_port(port) != 0) {
        let other = holders
            .iter()
            .find(|held| node_port(held) == node_port(port));
        if other.is_some_and(|held| held["port"] != port["port"]) {
            let reason = format!("{}: provided port is already allocated", node_port(port));
            return Err(("spec.ports[].nodePort", reason));
        }
        holders.push(port);
    }
    Ok(())
}

/// Checks ports and allocates what the type needs.
pub(super) fn fill(
    spec: &mut Value,
    key: &Key,
    ty: Type,
    allocator: &mut Allocator,
) -> Result<(), Refusal> {
    let automatic = ty == Type::NodePort
        || (ty == Type::LoadBalancer && spec["allocateLoadBalancerNodePorts"] != false);
    let Some(ports) = spec["ports"].as_array_mut() else {
        return fill_health_check(spec, key, ty, allocator);
    };
    if let Some(port) = ports
        .iter()
        .find(|port| !(1..=65_535).contains(&port["port"].as_u64().unwrap_or(0)))
    {
        let reason = format!("{}: must be between 1 and 65535, inclusive", port["port"]);
        return Err(("spec.ports[].port", reason));
    }
    let mut taken: Vec<u16> = ports
        .iter()
        .map(node_port)
        .filter(|port| *port != 0)
        .collect();
    if let Some(port) = taken
        .iter()
        .find(|port| !allocator.port_is_free(**port, key))
    {
        return Err((
            "spec.ports[].nodePort",
            format!("{port}: provided port is already allocated or out of range"),
        ));
    }
    for index in 0..ports.len() {
        if !automatic || node_port(&ports[index]) != 0 {
            continue;
        }
        // The same port number over another protocol shares the node port (DNS).
        let number = ports[index]["port"].clone();
        let protocol = ports[index]["protocol"].clone();
        let shared = ports
            .iter()
            .find(|p| p["port"] == number && p["protocol"] != protocol && node_port(p) != 0)
            .map(node_port);
        let port = match shared {
            Some(port) => port,
            None => allocator
                .choose_port(&taken)
                .ok_or_else(|| ("spec.ports[].nodePort", "no free node port".to_owned()))?,
        };
        taken.push(port);
        ports[index]["nodePort"] = port.into();
    }
    fill_health_check(spec, key, ty, allocator)
}

fn fill_health_check(
    spec: &mut Value,
    key: &Key,
    ty: Type,
    allocator: &mut Allocator,
) -> Result<(), Refusal> {
    if !wants_health_check(spec, ty) {
        return Ok(());
    }
    let taken: Vec<u16> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(node_port)
        .collect();
    let given = spec["healthCheckNodePort"].as_u64().unwrap_or(0) as u16;
    if given == 0 {
        let port = allocator
            .choose_port(&taken)
            .ok_or_else(|| ("spec.healthCheckNodePort", "no free node port".to_owned()))?;
        spec["healthCheckNodePort"] = port.into();
    } else if !allocator.port_is_free(given, key) {
        return Err((
            "spec.healthCheckNodePort",
            format!("{given}: provided port is already allocated or out of range"),
        ));
    }
    Ok(())
}

/// `nodePort`, 0 when not set.
fn node_port(port: &Value) -> u16 {
    port["nodePort"]
        .as_u64()
        .and_then(|p| u16::try_from(p).ok())
        .unwrap_or(0)
}
