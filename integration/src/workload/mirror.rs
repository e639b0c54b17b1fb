//! Slices of a user's Endpoints object, as the EndpointSliceMirroring controller makes them.

use serde_json::{Value, json};

use super::{MANAGED_BY, SERVICE_NAME};

/// One slice per subset and family. Addresses under `notReadyAddresses` become endpoints that
/// are not ready.
pub fn mirrored_slices(endpoints: &Value) -> Vec<Value> {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    subsets
        .enumerate()
        .flat_map(|(number, subset)| {
            ["IPv4", "IPv6"].map(|family| of_subset(endpoints, number, subset, family))
        })
        .flatten()
        .collect()
}

fn of_subset(endpoints: &Value, number: usize, subset: &Value, family: &str) -> Option<Value> {
    let listed = |key: &str, ready: bool| -> Vec<Value> {
        let addresses = subset[key].as_array().into_iter().flatten();
        addresses
            .filter(|a| {
                a["ip"]
                    .as_str()
                    .is_some_and(|ip| ip.contains(':') == (family == "IPv6"))
            })
            .map(|address| {
                let mut endpoint = json!({
                    "addresses": [address["ip"]],
                    "conditions": {"ready": ready},
                });
                if address["nodeName"].is_string() {
                    endpoint["nodeName"] = address["nodeName"].clone();
                }
                endpoint
            })
            .collect()
    };
    let mut all = listed("addresses", true);
    all.extend(listed("notReadyAddresses", false));
    if all.is_empty() {
        return None;
    }
    let ports: Vec<Value> = subset["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let name = port["name"].as_str().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            json!({"name": name, "port": port["port"], "protocol": protocol})
        })
        .collect();
    let metadata = &endpoints["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), json!(name));
    labels.insert(
        MANAGED_BY.to_owned(),
        json!("endpointslicemirroring-controller.k8s.io"),
    );
    Some(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": metadata["namespace"].as_str().unwrap_or("default"),
            "name": format!("{name}-mirror-{number}-{}", family.to_lowercase()),
            "labels": labels,
        },
        "addressType": family,
        "ports": ports,
        "endpoints": all,
    }))
}
