//! Step 2: the objects.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::Value;

use crate::demo::{
    manifests::{Manifests, cluster_ips},
    scene::Scene,
    screen::Screen,
};

pub(in crate::demo) fn objects(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "Ordinary Kubernetes YAML",
        "Services and EndpointSlices from manifests/demo, copied as they are.",
    );
    let manifests = &scene.manifests;
    for (file, service) in manifests.of_kind("Service") {
        screen.line(described(manifests, file, service));
    }
    let mut unknown = Vec::new();
    let mut matched = 0;
    for (_, service) in manifests.of_kind("Service") {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        for endpoint in manifests.endpoints(name) {
            let pod = scene.pod(&endpoint.pod)?;
            let right =
                pod.addresses().contains(&endpoint.address) && pod.node().name() == endpoint.node;
            if right {
                matched += 1;
            } else {
                unknown.push(format!("{} at {}", endpoint.pod, endpoint.address));
            }
        }
    }
    screen.check(
        unknown.is_empty() && matched > 0,
        format!(
            "all {matched} endpoints are addresses of pods above {}",
            unknown.join(", ")
        ),
    );
    Ok(())
}

fn described(manifests: &Manifests, file: &str, service: &Value) -> String {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let spec = &service["spec"];
    let port = &spec["ports"][0];
    let addresses: Vec<String> = cluster_ips(service).iter().map(IpAddr::to_string).collect();
    let addresses = if addresses.is_empty() {
        "headless".to_owned()
    } else {
        addresses.join(", ")
    };
    let mut pods: Vec<String> = manifests
        .endpoints(name)
        .into_iter()
        .map(|endpoint| endpoint.pod)
        .collect();
    pods.sort();
    pods.dedup();
    let pods = match pods.as_slice() {
        [] => "no endpoints".to_owned(),
        [first, .., last] => format!("{first} … {last}"),
        [only] => only.clone(),
    };
    let affinity = match spec["sessionAffinity"].as_str() {
        Some("ClientIP") => ", affinity by client",
        _ => "",
    };
    let exposed = match spec["type"].as_str() {
        Some("LoadBalancer") => ", load balancer",
        Some("NodePort") => ", NodePort",
        _ => "",
    };
    format!(
        "{file:<10} {name:<5} {addresses:<26} {:<9} → {pods}{affinity}{exposed}",
        format!(
            "{}/{}",
            port["port"],
            port["protocol"].as_str().unwrap_or("TCP")
        ),
    )
}
