//! A KubeProxyConfiguration for a node, as kube-proxy and proxies that took over its file format
//! read it.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{cluster::Node, teardown::working_directory};

/// Writes the file of `node` into the cluster's working directory and returns its path.
pub(super) fn write(
    node: &Node,
    kubeconfig: &str,
    healthz: SocketAddr,
    metrics: SocketAddr,
) -> Result<PathBuf> {
    let directory = working_directory(node.prefix());
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("kube-proxy-{}.yaml", node.name()));
    let text = serde_norway::to_string(&configuration(node, kubeconfig, healthz, metrics))?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn configuration(node: &Node, kubeconfig: &str, healthz: SocketAddr, metrics: SocketAddr) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "hostnameOverride": node.name(),
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": node.cluster_cidrs().join(","),
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": healthz.to_string(),
        "metricsBindAddress": metrics.to_string(),
        // The size of the kernel's table is no matter of a namespace: writing it fails.
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}
