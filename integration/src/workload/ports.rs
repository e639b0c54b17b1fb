//! Service ports resolved against one pod.

use serde_json::{Value, json};

use super::Pod;

/// The slice ports of `pod` for the given Service ports, in their order. A named targetPort that
/// the pod does not declare for the protocol yields no port.
pub(super) fn resolved(service_ports: &[Value], pod: &Pod) -> Vec<Value> {
    service_ports
        .iter()
        .filter_map(|port| resolve(port, pod))
        .collect()
}

fn resolve(port: &Value, pod: &Pod) -> Option<Value> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let number = match &port["targetPort"] {
        Value::String(name) => {
            let declared = pod
                .ports
                .iter()
                .find(|p| p.name == *name && p.protocol == protocol)?;
            u64::from(declared.number)
        }
        Value::Number(number) => number
            .as_u64()
            .filter(|&n| n != 0)
            .or(port["port"].as_u64())?,
        _ => port["port"].as_u64()?,
    };
    let name = port["name"].as_str().unwrap_or_default();
    let mut resolved = json!({"name": name, "port": number, "protocol": protocol});
    if let Some(application) = port["appProtocol"].as_str() {
        resolved["appProtocol"] = json!(application);
    }
    Some(resolved)
}
