//! Builds a [`Cluster`]: namespaces, the wires between them, cgroups, pins.

use std::sync::{Arc, atomic::AtomicU8};

use anyhow::{Context, Result, ensure};

use super::{Cluster, Families, PodNetwork, node::Node, wiring::Wiring};
use crate::{bpffs, cgroup, netns::Netns, prefix::Prefix, teardown};

/// What the cluster should look like.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: u8,
    families: Families,
    pods: PodNetwork,
    overlay: bool,
    complete_checksums: bool,
    zones: Vec<String>,
    node_names: String,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            nodes: 2,
            families: Families::Dual,
            pods: PodNetwork::Routed,
            overlay: false,
            complete_checksums: false,
            zones: Vec::new(),
            node_names: "node".to_owned(),
        }
    }
}

// === impl Builder ===

impl Builder {
    /// The number of nodes, 1 to 200.
    #[must_use]
    pub fn nodes(mut self, count: u8) -> Self {
        self.nodes = count;
        self
    }

    /// IPv4 and IPv6 (the default).
    #[must_use]
    pub fn dual_stack(mut self) -> Self {
        self.families = Families::Dual;
        self
    }

    /// IPv4 alone.
    #[must_use]
    pub fn single_stack(mut self) -> Self {
        self.families = Families::V4;
        self
    }

    /// These families.
    #[must_use]
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// How pods are attached.
    #[must_use]
    pub fn pod_network(mut self, pods: PodNetwork) -> Self {
        self.pods = pods;
        self
    }

    /// Pods of other nodes are reached through a VXLAN tunnel instead of the node network.
    #[must_use]
    pub fn overlay(mut self) -> Self {
        self.overlay = true;
        self
    }

    /// Packets reach nodes as a wire would bring them, with complete checksums, and nodes may
    /// send from native XDP programs. Without this, XDP cannot be used in the cluster.
    #[must_use]
    pub fn complete_checksums(mut self) -> Self {
        self.complete_checksums = true;
        self
    }

    /// The zones of the nodes, by turns; without this call node n is in `zone-n`.
    #[must_use]
    pub fn zones(mut self, zones: &[&str]) -> Self {
        self.zones = zones.iter().map(|&zone| zone.to_owned()).collect();
        self
    }

    /// What the names of nodes begin with; `node` unless told otherwise.
    #[must_use]
    pub fn node_names(mut self, start: &str) -> Self {
        start.clone_into(&mut self.node_names);
        self
    }

    /// Builds it, after sweeping what dead runs left behind.
    pub fn build(self) -> Result<Cluster> {
        ensure!(
            (1..=200).contains(&self.nodes),
            "a cluster has 1 to 200 nodes"
        );
        ensure!(
            self.families.has_v4() || !self.overlay,
            "the tunnel between nodes is an IPv4 one"
        );
        ensure!(
            nix::unistd::geteuid().is_root(),
            "building a cluster needs root"
        );
        teardown::sweep().context("sweeping what dead runs left behind")?;
        bpffs::ensure_mounted()?;
        let prefix = Prefix::new()?;
        teardown::register(&prefix);
        let built = self.assemble(&prefix);
        if built.is_err() {
            // A half-built cluster has no `Cluster` whose drop would remove it.
            let _ = teardown::remove(&prefix);
        }
        built.with_context(|| format!("building cluster {prefix}"))
    }

    fn assemble(&self, prefix: &Prefix) -> Result<Cluster> {
        let numbers: Vec<u8> = (1..=self.nodes).collect();
        let mut names = vec![format!("{prefix}-fabric")];
        names.extend(numbers.iter().map(|n| format!("{prefix}-node-{n}")));
        let mut namespaces = Netns::create_all(&names)?;
        let fabric = namespaces.remove(0);
        let wiring = self.wiring();
        wiring.fabric(&fabric, &namespaces)?;
        let root = cgroup::mount_point()?.join(prefix.as_str());
        let mut nodes = Vec::new();
        for (n, netns) in numbers.iter().copied().zip(namespaces) {
            let zone = match self.zones.len() {
                0 => format!("zone-{n}"),
                count => self.zones[usize::from(n - 1) % count].clone(),
            };
            wiring.node(n, &netns)?;
            nodes.push(Arc::new(Node::new(prefix, &root, n, netns, zone, self)?));
        }
        Ok(Cluster {
            prefix: prefix.clone(),
            fabric,
            nodes,
            wiring,
            outsides: AtomicU8::new(0),
            kept: false,
        })
    }

    fn wiring(&self) -> Wiring {
        Wiring {
            nodes: self.nodes,
            families: self.families,
            pods: self.pods,
            overlay: self.overlay,
            complete_checksums: self.complete_checksums,
        }
    }

    pub(super) fn node_name(&self, number: u8) -> String {
        format!("{}-{number}", self.node_names)
    }

    pub(super) fn families_in_use(&self) -> Families {
        self.families
    }

    pub(super) fn pod_network_in_use(&self) -> PodNetwork {
        self.pods
    }
}
