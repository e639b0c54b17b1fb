//! A KubeProxyConfiguration for a node, as kube-proxy and proxies that took over its file format
//! read it.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{cluster::Node, teardown::working_directory};

/// What differs between nodes.
pub(super) struct Configuration<'a> {
    pub(super) node: &'a Node,
    pub(super) kubeconfig: &'a str,
    pub(super) healthz: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) node_port_addresses: &'a [String],
}

// === impl Configuration ===

impl Configuration<'_> {
    /// Writes the file into the cluster's working directory and returns its path.
    pub(super) fn write(&self) -> Result<PathBuf> {
        let directory = working_directory(self.node.prefix());
        fs::create_dir_all(&directory)?;
        let file = directory.join(format!("kube-proxy-{}.yaml", self.node.name()));
        let text = serde_norway::to_string(&self.object())?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    fn object(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "hostnameOverride": self.node.name(),
            "clientConnection": {"kubeconfig": self.kubeconfig},
            "clusterCIDR": self.node.cluster_cidrs().join(","),
            "detectLocalMode": "ClusterCIDR",
            "healthzBindAddress": self.healthz.to_string(),
            "metricsBindAddress": self.metrics.to_string(),
            "nodePortAddresses": self.node_port_addresses,
            // The size of the kernel's table is no matter of a namespace: writing it fails.
            "conntrack": {"maxPerCore": 0, "min": 0},
        })
    }
}
