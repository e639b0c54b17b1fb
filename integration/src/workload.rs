//! EndpointSlices from a Service and its pods, as the Kubernetes EndpointSlice controller
//! computes them: a pure function from objects to objects.
//!
//! Followed: selector match, one set of slices per address family, slices split by resolved port
//! set (a named targetPort may mean different numbers in different pods), the conditions ready,
//! serving and terminating, `publishNotReadyAddresses`, node and zone, the labels copied from
//! the Service, the headless label, at most 100 endpoints per slice, an empty placeholder slice
//! where there is nothing else, and hints for `trafficDistribution`. Also the slices that the
//! mirroring controller makes of a user's Endpoints object.
//!
//! Not followed: slice names carry a hash instead of a random suffix, so that the same input
//! gives the same objects, and slices are packed anew each time instead of being kept stable.

mod conditions;
mod mirror;
mod ports;
mod service;
mod slices;

use std::{collections::BTreeMap, net::IpAddr};

pub use mirror::mirrored_slices;
use serde_json::{Value, json};
pub use service::Service;
pub use slices::endpoint_slices;

use crate::cluster;

/// A pod as the EndpointSlice controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels, which selectors match.
    pub labels: BTreeMap<String, String>,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// The node it runs on.
    pub node: String,
    /// The zone of that node; empty if it has none.
    pub zone: String,
    /// The ports its containers declare, which named targetPorts refer to.
    pub ports: Vec<ContainerPort>,
    /// Its Ready condition.
    pub ready: bool,
    /// Whether it has a deletion timestamp.
    pub terminating: bool,
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// The name.
    pub name: String,
    /// The number.
    pub number: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

// === impl Pod ===

impl Pod {
    /// A ready pod that runs as `pod` and carries the label `app=<app>`.
    pub fn of(pod: &cluster::Pod, namespace: &str, app: &str) -> Self {
        let node = pod.node();
        Self {
            namespace: namespace.to_owned(),
            name: pod.name().to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            addresses: pod.addresses(),
            node: node.name().to_owned(),
            zone: node.zone().to_owned(),
            ports: Vec::new(),
            ready: true,
            terminating: false,
        }
    }

    /// With a named port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16, protocol: &str) -> Self {
        let (name, protocol) = (name.to_owned(), protocol.to_owned());
        self.ports.push(ContainerPort {
            name,
            number,
            protocol,
        });
        self
    }

    /// With another Ready condition.
    #[must_use]
    pub fn ready(mut self, ready: bool) -> Self {
        self.ready = ready;
        self
    }

    /// What the controller makes of a Pod object; nothing while it has no address or when it has
    /// ended. `zones` are those of the nodes.
    pub fn from_object(object: &Value, zones: &BTreeMap<String, String>) -> Option<Self> {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        if status["phase"] == "Failed" || status["phase"] == "Succeeded" {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let addresses: Vec<IpAddr> = listed(&status["podIPs"])
            .iter()
            .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
            .collect();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let ports = listed(&spec["containers"])
            .iter()
            .flat_map(|container| listed(&container["ports"]))
            .filter_map(|port| {
                Some(ContainerPort {
                    name: text(&port["name"]),
                    number: port["containerPort"].as_u64()?.try_into().ok()?,
                    protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
                })
            })
            .collect();
        let is_ready =
            |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        let node = text(&spec["nodeName"]);
        (!addresses.is_empty()).then(|| Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            labels: labels
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            addresses,
            zone: zones.get(&node).cloned().unwrap_or_default(),
            node,
            ports,
            ready: listed(&status["conditions"]).iter().any(is_ready),
            terminating: !metadata["deletionTimestamp"].is_null(),
        })
    }

    /// The pod as a Kubernetes object, for API servers whose own controllers make the slices.
    pub fn object(&self) -> Value {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|p| json!({"name": p.name, "containerPort": p.number, "protocol": p.protocol}))
            .collect();
        let addresses: Vec<Value> = self
            .addresses
            .iter()
            .map(|a| json!({"ip": a.to_string()}))
            .collect();
        let ready = if self.ready { "True" } else { "False" };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels},
            "spec": {
                "nodeName": self.node,
                "containers": [{"name": "agent", "image": "lb-agent", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "podIP": self.addresses.first().map(ToString::to_string),
                "podIPs": addresses,
                "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }
}

/// Labels every slice carries.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of slices of headless Services, which proxies ignore (rule B2).
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// The label of Services that belong to another proxy (rule A1).
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

#[cfg(test)]
mod tests;
