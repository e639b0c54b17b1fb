//! The life of a kind cluster with lb on its nodes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    commands::{self, Kubectl},
    config,
    runner::Runner,
};
use crate::cluster::Families;

/// Where lb runs.
pub const NAMESPACE: &str = "kube-system";
/// Its DaemonSet.
pub const DAEMON_SET: &str = "lb";
/// The label of its pods.
pub const LABEL: &str = "app.kubernetes.io/name=lb";

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Its address families.
    pub families: Families,
    /// The image of its nodes; by default kind's.
    pub node_image: Option<String>,
    /// The archive with the images of lb and of the agent (`cargo xtask image --output`).
    pub archive: PathBuf,
    /// The kustomization of lb.
    pub manifests: PathBuf,
}

/// A kind cluster.
#[derive(Clone)]
pub struct KindCluster {
    runner: Arc<dyn Runner>,
    name: String,
}

// === impl KindCluster ===

impl KindCluster {
    /// One that exists.
    pub fn existing(runner: Arc<dyn Runner>, name: &str) -> Self {
        Self {
            runner,
            name: name.to_owned(),
        }
    }

    /// Creates the cluster and puts lb on it.
    pub fn create(runner: Arc<dyn Runner>, options: &Options) -> Result<Self> {
        let cluster = Self::existing(runner, &options.name);
        let config = config::cluster(options.families, options.node_image.as_deref())?;
        let create = commands::create(&options.name, config);
        cluster.runner.output(&create).context("the cluster")?;
        cluster.deploy(&options.archive, &options.manifests)?;
        Ok(cluster)
    }

    /// Loads the images, applies the manifests, and waits until lb is ready on all nodes.
    pub fn deploy(&self, archive: &Path, manifests: &Path) -> Result<()> {
        let kubectl = self.kubectl();
        let load = commands::load(&self.name, archive);
        self.runner.output(&load).context("the images")?;
        // Before anything serves ClusterIPs: docker's DNS knows the control plane's container.
        let address = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "lb-api-server", "namespace": NAMESPACE },
            "data": { "host": format!("{}-control-plane", self.name), "port": "6443" },
        });
        self.runner.output(&kubectl.apply(&address))?;
        let apply = kubectl.apply_kustomization(manifests);
        self.runner.output(&apply).context("the manifests")?;
        let ready = kubectl.rollout(NAMESPACE, DAEMON_SET);
        self.runner.output(&ready).context("lb is not ready")?;
        Ok(())
    }

    /// Ends lb's pods, as upstream's test of a restart does, and waits for new ones.
    pub fn restart_proxies(&self) -> Result<()> {
        let kubectl = self.kubectl();
        let delete = kubectl.delete_labelled(NAMESPACE, LABEL);
        self.runner.output(&delete)?;
        self.runner
            .output(&kubectl.rollout(NAMESPACE, DAEMON_SET))?;
        Ok(())
    }

    /// Deletes the cluster.
    pub fn delete(&self) -> Result<()> {
        self.runner.output(&commands::delete(&self.name)).map(drop)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `kubectl`.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.name)
    }

    /// What runs its commands.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }
}
