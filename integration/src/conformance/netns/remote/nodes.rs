//! The site's nodes as Node objects that a control plane believes in: ready, with addresses, and
//! with a Lease that is renewed.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Node},
    objects::Http,
    panics::note,
};

/// Marks everything of a run, for who has to clean up after a killed one.
pub(super) const RUN_LABEL: &str = "lb-conformance/run";
/// As kubelets do it: a lease of 40 seconds, renewed every ten.
const LEASE_SECONDS: u32 = 40;
const RENEWAL: Duration = Duration::from_secs(10);

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// The nodes' leases, renewed until this is dropped; then the nodes are deleted.
pub(super) struct Leases {
    http: Arc<Http>,
    names: Vec<String>,
    stop: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

// === impl Leases ===

impl Leases {
    /// Creates the nodes and their leases, and renews these.
    pub(super) fn start(http: &Arc<Http>, cluster: &Cluster) -> Result<Self> {
        let mut leases = Self {
            http: Arc::clone(http),
            names: Vec::new(),
            stop: None,
            renewing: None,
        };
        for node in cluster.nodes() {
            // Known before it is made: a failure half way leaves nothing behind.
            leases.names.push(node.name().to_owned());
            create(http, node, cluster.prefix().as_str())?;
        }
        let (stop, stopped) = channel();
        let (http, names) = (Arc::clone(http), leases.names.clone());
        let renew = move || {
            while stopped.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                for name in &names {
                    if let Err(error) = http.merge(&format!("{LEASES}/{name}"), &renewed()) {
                        note(&format!("renewing the lease of {name}: {error:#}"));
                    }
                }
            }
        };
        leases.stop = Some(stop);
        leases.renewing = Some(thread::spawn(renew));
        Ok(leases)
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewing) = self.renewing.take() {
            // It would have said why.
            let _ = renewing.join();
        }
        for path in [NODES, LEASES] {
            for name in &self.names {
                if let Err(error) = self.http.delete(&format!("{path}/{name}"), None) {
                    note(&format!("deleting {name}: {error:#}"));
                }
            }
        }
    }
}

fn create(http: &Http, node: &Node, run: &str) -> Result<()> {
    let mut object = node.object();
    object["metadata"]["labels"][RUN_LABEL] = json!(run);
    let mut status = object["status"].take();
    http.create(NODES, &object)?;
    let now = timestamp();
    status["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a namespace",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]);
    let path = format!("{NODES}/{}/status", node.name());
    http.merge(&path, &json!({"status": status}))?;
    let mut lease = renewed();
    lease["apiVersion"] = json!("coordination.k8s.io/v1");
    lease["kind"] = json!("Lease");
    lease["metadata"] = json!({"name": node.name(), "namespace": "kube-node-lease"});
    lease["spec"]["holderIdentity"] = json!(node.name());
    lease["spec"]["leaseDurationSeconds"] = json!(LEASE_SECONDS);
    http.create(LEASES, &lease).map(drop)
}

fn renewed() -> Value {
    json!({"spec": {"renewTime": format!("{:.6}", jiff::Timestamp::now())}})
}

fn timestamp() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_api_has_them() {
        // Time has whole seconds, MicroTime six digits.
        let (seconds, micros) = (timestamp(), renewed()["spec"]["renewTime"].clone());
        assert_eq!(seconds.len(), "2026-11-27T12:00:00Z".len(), "{seconds}");
        let micros = micros.as_str().unwrap();
        assert_eq!(
            micros.len(),
            "2026-11-27T12:00:00.000000Z".len(),
            "{micros}"
        );
    }
}
