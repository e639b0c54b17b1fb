//! What `kubectl` and docker print as JSON, as cases know it. Pure.

use std::net::IpAddr;

use anyhow::{Result, bail};
use serde_json::Value;

use super::commands::ObjectPath;
use crate::{cluster::Families, conformance::site::SiteNode};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Which object this is.
pub(super) fn object_path(object: &Value) -> Result<ObjectPath<'_>> {
    let metadata = &object["metadata"];
    let all = [&object["kind"], &metadata["namespace"], &metadata["name"]];
    let [Some(kind), Some(namespace), Some(name)] = all.map(Value::as_str) else {
        bail!("an object without kind, namespace or name: {object}");
    };
    Ok(ObjectPath {
        kind,
        namespace,
        name,
    })
}

/// The workers by name, each as cases know it.
pub(super) fn workers(list: &Value) -> Vec<SiteNode> {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let mut nodes: Vec<SiteNode> = items
        .iter()
        .filter(|node| node["metadata"]["labels"][CONTROL_PLANE].is_null())
        .map(|node| {
            let metadata = &node["metadata"];
            let zone = &metadata["labels"]["topology.kubernetes.io/zone"];
            let addresses = node["status"]["addresses"].as_array();
            let internal = addresses
                .into_iter()
                .flatten()
                .filter(|address| address["type"] == "InternalIP");
            SiteNode {
                name: metadata["name"].as_str().unwrap_or_default().to_owned(),
                zone: zone.as_str().unwrap_or_default().to_owned(),
                addresses: sorted(&mut internal.filter_map(|address| address["address"].as_str())),
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// `status.podIPs`.
pub(super) fn pod_addresses(pod: &Value) -> Vec<IpAddr> {
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    sorted(&mut ips.filter_map(|ip| ip["ip"].as_str()))
}

/// The addresses of docker's description of an attachment, of the families in use.
pub(super) fn outside_addresses(network: &Value, families: Families) -> Vec<IpAddr> {
    let all = [&network["IPAddress"], &network["GlobalIPv6Address"]];
    let mut addresses = sorted(&mut all.iter().filter_map(|value| value.as_str()));
    addresses.retain(|address| families.has(*address));
    addresses
}

/// Those that are addresses, IPv4 first.
fn sorted(texts: &mut dyn Iterator<Item = &str>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}
