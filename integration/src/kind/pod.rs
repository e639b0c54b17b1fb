//! Pods of the agent, as the API server gets them.
//!
//! A pod runs before it is published: it has no label that a Service could select, and a readiness
//! gate that nobody but [`super::site`] opens.

use serde_json::{Value, json};

use crate::conformance::site::PodSpec;

/// The condition that makes a pod ready.
pub const GATE: &str = "lb-conformance/published";

/// Beyond the time for which a server serves on, until the kubelet kills it.
const GRACE: u64 = 30;

/// How long a pod's end may take, in seconds.
pub fn grace(spec: &PodSpec) -> u64 {
    spec.linger.as_secs() + GRACE
}

/// The manifest of a pod called `name` on `node`.
pub fn manifest(spec: &PodSpec, name: &str, node: &str, image: &str) -> Value {
    let mut arguments = vec!["serve".to_owned(), "--name".to_owned(), spec.name.clone()];
    // A reply leaves from the address a socket is bound to, so each is bound by itself.
    arguments.extend(["--address".to_owned(), "$(POD_IPS)".to_owned()]);
    for (option, ports) in [("--tcp-port", &spec.tcp), ("--udp-port", &spec.udp)] {
        let pairs = ports
            .iter()
            .flat_map(|port| [option.to_owned(), port.to_string()]);
        arguments.extend(pairs);
    }
    let linger = spec.linger.as_secs_f64().to_string();
    arguments.extend(["--delay-shutdown".to_owned(), linger]);
    let ports: Vec<Value> = spec
        .ports
        .iter()
        .map(|port| {
            json!({
                "name": port.name,
                "containerPort": port.number,
                "protocol": port.protocol,
            })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": spec.namespace },
        "spec": {
            // Chosen by the case, so no scheduler is asked.
            "nodeName": node,
            "hostNetwork": spec.host_network,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": grace(spec),
            "tolerations": [{ "operator": "Exists" }],
            "readinessGates": [{ "conditionType": GATE }],
            "containers": [{
                "name": "agent",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": arguments,
                "env": [{
                    "name": "POD_IPS",
                    "valueFrom": { "fieldRef": { "fieldPath": "status.podIPs" } },
                }],
                "ports": ports,
            }],
        },
    })
}

/// What opens the gate, or closes it.
pub fn gate(open: bool) -> Value {
    let status = if open { "True" } else { "False" };
    json!({ "status": { "conditions": [{ "type": GATE, "status": status }] } })
}

/// The change from one set of labels to another.
pub fn relabel<'a>(
    old: impl IntoIterator<Item = &'a String>,
    new: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Value {
    let mut labels = serde_json::Map::new();
    labels.extend(old.into_iter().map(|key| (key.clone(), Value::Null)));
    let kept = new
        .into_iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()));
    labels.extend(kept);
    json!({ "metadata": { "labels": labels } })
}
