//! Defaults and allocations of Services.
//!
//! Follows kube-apiserver's order: values allocated earlier are carried over,
//! plain defaults, fields of other types dropped, addresses, node ports
//! (`pkg/registry/core/service` and `pkg/apis/core/v1/defaults.go`, 1.34).

mod addresses;
mod ports;

use serde_json::{Value, json};

use super::{Context, remove, set_default};
use crate::apiserver::{
    error::ApiError,
    object::{invalid, map_mut, unset},
};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` when not given: 3 hours, in seconds.
const AFFINITY_SECONDS: u64 = 10_800;

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl Type {
    fn of(service: &Value) -> Option<Self> {
        match service["spec"]["type"].as_str() {
            None | Some("" | "ClusterIP") => Some(Self::ClusterIp),
            Some("NodePort") => Some(Self::NodePort),
            Some("LoadBalancer") => Some(Self::LoadBalancer),
            Some("ExternalName") => Some(Self::ExternalName),
            Some(_) => None,
        }
    }

    fn has_node_ports(self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

/// Completes a Service.
pub(super) fn fill(service: &mut Value, context: Context<'_>) -> Result<(), ApiError> {
    let Context {
        kind,
        key,
        before,
        allocator,
    } = context;
    let refuse = |field: &str, reason: String| invalid(kind, key, field, reason);
    map_mut(service, "spec");
    let Some(ty) = Type::of(service) else {
        let given = service["spec"]["type"].to_string();
        return Err(refuse("spec.type", format!("{given}: unsupported")));
    };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    if !ports.all(Value::is_object) {
        return Err(refuse("spec.ports", "expected objects".into()));
    }
    if let Some(before) = before {
        carry_over(&mut service["spec"], ty, before);
    }
    plain_defaults(&mut service["spec"], ty);
    drop_foreign_fields(&mut service["spec"], ty);
    if ty != Type::ExternalName {
        let mut choice = addresses::Choice {
            key,
            before,
            allocator,
        };
        addresses::fill(&mut service["spec"], &mut choice)
            .map_err(|(f, reason)| refuse(f, reason))?;
    }
    if before.is_none() {
        ports::check_shared(&service["spec"]).map_err(|(f, reason)| refuse(f, reason))?;
    }
    ports::fill(&mut service["spec"], key, ty, allocator)
        .map_err(|(f, reason)| refuse(f, reason))?;
    status_defaults(service, ty);
    Ok(())
}

/// An update that leaves out an allocated value keeps it.
fn carry_over(spec: &mut Value, ty: Type, before: &Value) {
    let old_type = Type::of(before).unwrap_or(Type::ClusterIp);
    let old = &before["spec"];
    if ty != Type::ExternalName && old_type != Type::ExternalName {
        if unset(&spec["clusterIP"]) && unset(&spec["clusterIPs"]) {
            spec["clusterIP"] = old["clusterIP"].clone();
            spec["clusterIPs"] = old["clusterIPs"].clone();
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            set_default(spec, field, || old[field].clone());
        }
    }
    if ty.has_node_ports() && old_type.has_node_ports() {
        ports::carry_over(&mut spec["ports"], &old["ports"]);
        if ports::wants_health_check(spec, ty) {
            set_default(spec, "healthCheckNodePort", || {
                old["healthCheckNodePort"].clone()
            });
        }
    }
}

fn plain_defaults(spec: &mut Value, ty: Type) {
    set_default(spec, "type", || "ClusterIP".into());
    set_default(spec, "sessionAffinity", || "None".into());
    if spec["sessionAffinity"] == "ClientIP" {
        let config = map_mut(spec, "sessionAffinityConfig");
        let client_ip = config.entry("clientIP").or_insert(json!({}));
        if unset(&client_ip["timeoutSeconds"]) {
            *client_ip = json!({"timeoutSeconds": AFFINITY_SECONDS});
        }
    } else {
        remove(spec, "sessionAffinityConfig");
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        set_default(port, "protocol", || "TCP".into());
        let number = port["port"].clone();
        if unset(&port["targetPort"]) || port["targetPort"] == 0 {
            port["targetPort"] = number;
        }
    }
    if ty != Type::ExternalName {
        set_default(spec, "internalTrafficPolicy", || "Cluster".into());
    }
    if ty.has_node_ports() || !unset(&spec["externalIPs"]) {
        set_default(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    if ty == Type::LoadBalancer && spec["allocateLoadBalancerNodePorts"].is_null() {
        spec["allocateLoadBalancerNodePorts"] = true.into();
    }
}

/// A change of type forgets what only the old type has.
fn drop_foreign_fields(spec: &mut Value, ty: Type) {
    let mut foreign: Vec<&str> = Vec::new();
    if ty == Type::ExternalName {
        foreign.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
        foreign.push("internalTrafficPolicy");
    }
    if ty != Type::LoadBalancer {
        foreign.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if !ports::wants_health_check(spec, ty) {
        foreign.push("healthCheckNodePort");
    }
    if !ty.has_node_ports() {
        if unset(&spec["externalIPs"]) {
            foreign.push("externalTrafficPolicy");
        }
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            remove(port, "nodePort");
        }
    }
    for field in foreign {
        remove(spec, field);
    }
}

fn status_defaults(service: &mut Value, ty: Type) {
    let balancer = map_mut(service, "status")
        .entry("loadBalancer")
        .or_insert(json!({}));
    if ty != Type::LoadBalancer || balancer.is_null() {
        *balancer = json!({});
    }
    let ingress = balancer.get_mut("ingress").and_then(Value::as_array_mut);
    for ingress in ingress.into_iter().flatten() {
        if !unset(&ingress["ip"]) {
            set_default(ingress, "ipMode", || "VIP".into());
        }
    }
}

#[cfg(test)]
mod tests;
