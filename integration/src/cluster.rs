//! A cluster of nodes and pods out of network namespaces.
//!
//! ```text
//!  outside ── fabric (bridge between nodes, and their default gateway)
//!               ├── node-1 ── pods 10.244.1.0/24, fd00:244:1::/64
//!               └── node-2 ── pods 10.244.2.0/24, fd00:244:2::/64
//! ```
//!
//! Fixed address ranges are safe: they exist inside the namespaces of one cluster only, so any
//! number of clusters may stand at once. Nothing routes the Service range: an untranslated
//! packet to a ClusterIP ends at the fabric with "network unreachable" (a client sees that or a
//! time-out, never a refusal).

pub mod addresses;
mod builder;
mod netfilter;
mod node;
mod offload;
mod outside;
mod pod;
mod relay;
mod wiring;

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

pub use addresses::Families;
use anyhow::{Context, Result};
pub use builder::Builder;
pub use netfilter::CniRules;
pub use node::Node;
pub use outside::Outside;
pub use pod::{Pod, PodBuilder};
pub use wiring::Cable;
use wiring::Wiring;

use crate::{
    apiserver::{ApiServer, Listen, Options},
    ip::Batch,
    netns::Netns,
    objects::Directory,
    prefix::Prefix,
    teardown,
};

/// How pods are attached to their node: the two kinds of CNI plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// A /32 (/128) route per pod to the host end of its veth; no bridge (as Calico does).
    #[default]
    Routed,
    /// All pods of a node on one bridge, which holds the gateway address (as flannel does).
    Bridged,
}

/// Where the stand-in API server listens in the fabric.
const API_SERVER_PORT: u16 = 6443;

/// A running cluster; dropping it removes every trace.
#[derive(Debug)]
pub struct Cluster {
    prefix: Prefix,
    fabric: Netns,
    nodes: Vec<Arc<Node>>,
    wiring: Wiring,
    /// How many outside clients there are.
    outsides: AtomicU8,
    kept: bool,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster yet to be described; two nodes, dual-stack, routed pods unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The name everything of this cluster starts with.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The namespace between the nodes; 172.30.0.254 and fd00:30::fe on the node network.
    pub fn fabric(&self) -> &Netns {
        &self.fabric
    }

    /// All nodes, in order of their index.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The node with this index, counted from 0 (its name is `node-<index + 1>`).
    pub fn node(&self, index: usize) -> &Arc<Node> {
        &self.nodes[index]
    }

    /// The address families in use.
    pub fn families(&self) -> Families {
        self.wiring.families
    }

    /// Describes a pod on the node with this index.
    pub fn pod(&self, node: usize, name: &str) -> PodBuilder {
        PodBuilder::new(Arc::clone(&self.nodes[node]), name)
    }

    /// Adds a client outside the cluster: a namespace that reaches nodes through the fabric.
    pub fn outside(&self, name: &str) -> Result<Outside> {
        let number = self.outsides.fetch_add(1, Ordering::Relaxed);
        let families = self.families();
        Outside::attach(&self.prefix, &self.fabric, families, number, name)
    }

    /// Makes the fabric route a virtual address to the node with this index, as a router does
    /// that learned it from that node; from whichever node it had before, it moves.
    pub fn route_vip(&self, vip: IpAddr, node: usize) -> Result<()> {
        let addresses = self.nodes[node].addresses();
        let same_family = |a: &&IpAddr| a.is_ipv4() == vip.is_ipv4();
        let via = addresses.iter().find(same_family);
        let via =
            via.with_context(|| format!("the nodes have no address of the family of {vip}"))?;
        // A bare address is a host route, in both families.
        let command = format!("route replace {vip} via {via}");
        self.fabric.ip(Batch::new().add(command))
    }

    /// Pulls the cable of a node: its uplink disappears, with all addresses and routes on it.
    pub fn unplug(&self, node: usize) -> Result<Cable> {
        let node = &self.nodes[node];
        Wiring::unplug(&self.fabric, node.number(), node.netns())
    }

    /// Plugs a node in again: a new device with the old name, addresses and routes.
    pub fn plug(&self, node: usize, cable: &Cable) -> Result<()> {
        let node = &self.nodes[node];
        self.wiring.plug(&self.fabric, cable, node.netns())
    }

    /// A new, empty directory of manifests; it goes with the cluster.
    pub fn manifests(&self) -> Result<Directory> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let root = teardown::working_directory(&self.prefix).join(format!("objects-{number}"));
        Directory::create(&root)
    }

    /// Starts a stand-in API server that nodes reach at the fabric's address, and writes a
    /// kubeconfig for it. Both go with the cluster, unless the server is dropped before.
    pub fn api_server(&self, options: Options) -> Result<(Arc<ApiServer>, PathBuf)> {
        let address = (self.gateway(), API_SERVER_PORT);
        let socket = self.fabric.run(|| TcpListener::bind(address))??;
        let options = Options {
            listen: Listen::Socket(socket),
            ..options
        };
        let server = ApiServer::start_on_thread(options).context("starting the API server")?;
        let kubeconfig = teardown::working_directory(&self.prefix).join("kubeconfig");
        fs::create_dir_all(teardown::working_directory(&self.prefix))?;
        fs::write(&kubeconfig, server.kubeconfig())?;
        Ok((Arc::new(server), kubeconfig))
    }

    /// Makes a server on this machine's own network, or beyond, reachable from the nodes, and
    /// returns the address under which it is.
    pub fn relay(&self, server: SocketAddr) -> Result<SocketAddr> {
        let at = SocketAddr::new(self.gateway(), API_SERVER_PORT);
        relay::start(&self.fabric, at, server)?;
        Ok(at)
    }

    /// The fabric's address of the first family.
    fn gateway(&self) -> IpAddr {
        if self.families().has_v4() {
            IpAddr::V4(addresses::GATEWAY_V4)
        } else {
            IpAddr::V6(addresses::GATEWAY_V6)
        }
    }

    /// Leaves the cluster standing when this value is dropped and the process ends;
    /// [`teardown::remove`] takes it down.
    pub fn keep(mut self) -> Result<()> {
        self.kept = true;
        teardown::keep(&self.prefix)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = teardown::remove(&self.prefix) {
            tracing::error!(prefix = %self.prefix, "teardown: {error:#}");
            eprintln!("teardown of {}: {error:#}", self.prefix);
        }
    }
}
