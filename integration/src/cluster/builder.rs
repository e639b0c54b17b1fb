//! Builds a [`Cluster`]: namespaces, the fabric between them, addresses, routes, cgroups, pins.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{
    Cluster, Families, PodNetwork,
    addresses::{GATEWAY_V4, GATEWAY_V6, node_v4, node_v6, pod_v4, pod_v6},
    node::Node,
};
use crate::{bpffs, cgroup, ip::Batch, netns::Netns, prefix::Prefix, teardown};

/// What the cluster should look like.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: u8,
    families: Families,
    pods: PodNetwork,
    zones: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            nodes: 2,
            families: Families::Dual,
            pods: PodNetwork::Routed,
            zones: Vec::new(),
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

    /// How pods are attached.
    #[must_use]
    pub fn pod_network(mut self, pods: PodNetwork) -> Self {
        self.pods = pods;
        self
    }

    /// The zones of the nodes, by turns; without this call node n is in `zone-n`.
    #[must_use]
    pub fn zones(mut self, zones: &[&str]) -> Self {
        self.zones = zones.iter().map(|&zone| zone.to_owned()).collect();
        self
    }

    /// Builds it, after sweeping what dead runs left behind.
    pub fn build(self) -> Result<Cluster> {
        ensure!(
            (1..=200).contains(&self.nodes),
            "a cluster has 1 to 200 nodes"
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
        self.wire_fabric(&fabric, &namespaces)?;
        let root = cgroup::mount_point()?.join(prefix.as_str());
        let mut nodes = Vec::new();
        for (n, netns) in numbers.iter().copied().zip(namespaces) {
            let zone = match self.zones.len() {
                0 => format!("zone-{n}"),
                count => self.zones[usize::from(n - 1) % count].clone(),
            };
            self.wire_node(n, &netns)?;
            nodes.push(Arc::new(Node::new(prefix, &root, n, netns, zone, self)?));
        }
        let families = self.families;
        Ok(Cluster {
            prefix: prefix.clone(),
            fabric,
            nodes,
            families,
            kept: false,
        })
    }

    /// A bridge with one port per node; its address is the nodes' default gateway. It knows the
    /// way to pods, so that its "network unreachable" reaches them.
    fn wire_fabric(&self, fabric: &Netns, nodes: &[Netns]) -> Result<()> {
        let mut batch = Batch::new();
        batch.add("link add br0 type bridge mcast_snooping 0");
        for (n, node) in (1..).zip(nodes) {
            let peer = node.name();
            batch.add(format!(
                "link add node-{n} type veth peer name eth0 netns {peer}"
            ));
            batch.add(format!("link set node-{n} master br0 up"));
        }
        batch.add(format!("addr add {GATEWAY_V4}/24 dev br0"));
        if self.families.has_v6() {
            batch.add(format!("addr add {GATEWAY_V6}/64 dev br0 nodad"));
        }
        batch.add("link set br0 up");
        for n in 1..=self.nodes {
            batch.add(format!("route add {}/24 via {}", pod_v4(n, 0), node_v4(n)));
            if self.families.has_v6() {
                batch.add(format!("route add {}/64 via {}", pod_v6(n, 0), node_v6(n)));
            }
        }
        fabric.ip(&batch)?;
        enable_forwarding(fabric)
    }

    /// Node addresses, the default route, routes to other nodes' pods, and the pod bridge.
    fn wire_node(&self, n: u8, netns: &Netns) -> Result<()> {
        enable_forwarding(netns)?;
        let mut batch = Batch::new();
        let (v4, v6) = (node_v4(n), node_v6(n));
        batch.add(format!("addr add {v4}/24 dev eth0"));
        if self.families.has_v6() {
            batch.add(format!("addr add {v6}/64 dev eth0 nodad"));
        }
        batch.add("link set eth0 up");
        batch.add(format!("route add default via {GATEWAY_V4}"));
        if self.families.has_v6() {
            batch.add(format!("route add default via {GATEWAY_V6}"));
        }
        for other in (1..=self.nodes).filter(|&other| other != n) {
            batch.add(format!(
                "route add {}/24 via {}",
                pod_v4(other, 0),
                node_v4(other)
            ));
            if self.families.has_v6() {
                batch.add(format!(
                    "route add {}/64 via {}",
                    pod_v6(other, 0),
                    node_v6(other)
                ));
            }
        }
        if self.pods == PodNetwork::Bridged {
            batch.add("link add cni0 type bridge mcast_snooping 0");
            batch.add(format!("addr add {}/24 dev cni0", pod_v4(n, 1)));
            if self.families.has_v6() {
                batch.add(format!("addr add {}/64 dev cni0 nodad", pod_v6(n, 1)));
            }
            batch.add("link set cni0 up");
        }
        netns.ip(&batch)
    }

    pub(super) fn families_in_use(&self) -> Families {
        self.families
    }

    pub(super) fn pod_network_in_use(&self) -> PodNetwork {
        self.pods
    }
}

fn enable_forwarding(netns: &Netns) -> Result<()> {
    netns.set_sysctls(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
    ])
}
