//! The proxies of a site: one on each node that takes part.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;

use crate::{
    Cluster,
    conformance::site::ProxySettings,
    proxy::{ProxyOptions, ProxyUnderTest, lbctl},
};

/// How long a proxy may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Those that run, by the index of their node.
pub(super) struct Proxies {
    options: ProxyOptions,
    running: Mutex<BTreeMap<usize, ProxyUnderTest>>,
}

// === impl Proxies ===

impl Proxies {
    /// None yet; all are started with these options.
    pub(super) fn new(options: ProxyOptions) -> Self {
        Self {
            options,
            running: Mutex::default(),
        }
    }

    /// Starts those of these nodes that do not run, and waits until they are healthy.
    pub(super) fn ensure(
        &self,
        cluster: &Cluster,
        nodes: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        let mut running = self.lock();
        let mut started = Vec::new();
        for node in nodes {
            if let Entry::Vacant(place) = running.entry(node) {
                place.insert(ProxyUnderTest::launch(cluster.node(node), &self.options)?);
                started.push(node);
            }
        }
        for node in started {
            if let Some(proxy) = running.get_mut(&node) {
                proxy.wait_healthy(cluster.node(node), START_LIMIT)?;
            }
        }
        Ok(())
    }

    /// Kills a node's proxy and starts it again.
    pub(super) fn restart(
        &self,
        cluster: &Cluster,
        node: usize,
        settings: &ProxySettings,
    ) -> Result<()> {
        let mut running = self.lock();
        drop(running.remove(&node));
        let options = ProxyOptions {
            node_port_addresses: settings.node_port_addresses.clone(),
            ..self.options.clone()
        };
        let mut proxy = ProxyUnderTest::launch(cluster.node(node), &options)?;
        proxy.wait_healthy(cluster.node(node), START_LIMIT)?;
        running.insert(node, proxy);
        Ok(())
    }

    /// Their last words, and their tables.
    pub(super) fn explain(&self, cluster: &Cluster, namespace: &str) -> String {
        let mut text = String::new();
        for (&node, proxy) in self.lock().iter() {
            let node = cluster.node(node);
            let (name, output) = (node.name(), proxy.recent_output(15));
            let _ = writeln!(text, "--- proxy of {name}:\n{output}");
            // Another proxy has no maps that it could show.
            if let Ok(table) = lbctl(node, &["list", "--by-service", "--namespace", namespace]) {
                let _ = writeln!(text, "--- lbctl list on {name}:\n{table}");
            }
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, ProxyUnderTest>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
