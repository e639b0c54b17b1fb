//! The configuration of the kind cluster: no kube-proxy, three zones, the families of the run.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Families;

/// Workers, each in a zone of its own: cases about topology need three.
pub const WORKERS: u8 = 3;

/// ClusterIPs and pods, by family; IPv4 first.
pub const SERVICE_SUBNETS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
const POD_SUBNETS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];

/// What kind is told.
pub fn cluster(families: Families, node_image: Option<&str>) -> Result<String> {
    let node = |role: &str, zone: Option<u8>| {
        let mut node = json!({ "role": role });
        if let Some(image) = node_image {
            node["image"] = image.into();
        }
        if let Some(zone) = zone {
            node["labels"] = json!({ "topology.kubernetes.io/zone": format!("zone-{zone}") });
        }
        node
    };
    let workers = (1..=WORKERS).map(|zone| node("worker", Some(zone)));
    let nodes: Vec<Value> = [node("control-plane", None)]
        .into_iter()
        .chain(workers)
        .collect();
    let family = match families {
        Families::V4 => "ipv4",
        Families::V6 => "ipv6",
        Families::Dual => "dual",
    };
    let config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "kubeProxyMode": "none",
            "ipFamily": family,
            "serviceSubnet": of_families(families, SERVICE_SUBNETS),
            "podSubnet": of_families(families, POD_SUBNETS),
        },
        "nodes": nodes,
    });
    Ok(serde_norway::to_string(&config)?)
}

fn of_families(families: Families, [v4, v6]: [&str; 2]) -> String {
    let mut subnets = Vec::new();
    if families.has_v4() {
        subnets.push(v4);
    }
    if families.has_v6() {
        subnets.push(v6);
    }
    subnets.join(",")
}
