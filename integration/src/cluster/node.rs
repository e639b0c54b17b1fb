//! A node: a namespace with its own cgroup, pin directory, addresses and pods.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Builder, Families, PodNetwork,
    addresses::{node_v4, node_v6, pod_v4, pod_v6},
};
use crate::{
    bpffs, cgroup,
    control::Control,
    netns::Netns,
    prefix::Prefix,
    process::{Output, Placement, Process, log_directory},
};

/// One node of a cluster.
#[derive(Debug)]
pub struct Node {
    name: String,
    zone: String,
    number: u8,
    families: Families,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    netns: Netns,
    cgroup: PathBuf,
    pins: PathBuf,
    prefix: Prefix,
    pod_network: PodNetwork,
    pod_hosts: Mutex<PodHosts>,
}

/// The host parts of pod addresses in use, and the one to try next: addresses are reused as late
/// as possible, so that no neighbour entry of a former pod is in the way.
#[derive(Debug)]
struct PodHosts {
    used: BTreeSet<u8>,
    next: u8,
}

// === impl Node ===

impl Node {
    pub(super) fn new(
        prefix: &Prefix,
        cgroups: &Path,
        number: u8,
        netns: Netns,
        zone: String,
        builder: &Builder,
    ) -> Result<Self> {
        let name = builder.node_name(number);
        let cgroup = cgroups.join(&name);
        let pins = Path::new(bpffs::MOUNT_POINT)
            .join(prefix.as_str())
            .join(&name);
        cgroup::create(&cgroup.join("host"))?;
        cgroup::create(&cgroups.join("system"))?;
        cgroup::create(&cgroups.join("no-hooks").join(&name))?;
        fs::create_dir_all(&pins).with_context(|| format!("creating {}", pins.display()))?;
        Ok(Self {
            name,
            zone,
            number,
            families: builder.families_in_use(),
            v4: node_v4(number),
            v6: builder.families_in_use().v6(node_v6(number)),
            netns,
            cgroup,
            pins,
            prefix: prefix.clone(),
            pod_network: builder.pod_network_in_use(),
            pod_hosts: Mutex::new(PodHosts {
                used: BTreeSet::new(),
                next: 2,
            }),
        })
    }

    /// The Kubernetes node name, `node-<n>` unless the builder was told otherwise.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of its `topology.kubernetes.io/zone` label.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Counted from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Which families its addresses are of.
    pub fn families(&self) -> Families {
        self.families
    }

    /// Its IPv4 address, in a cluster that has the family.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address, in a cluster that has the family.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.v6
    }

    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.families.has_v4().then_some(IpAddr::V4(self.v4));
        [v4, self.v6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The cgroup its socket hooks attach to: every pod and host process of the node is below.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its own directory on a bpffs.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// How its pods are attached.
    pub fn pod_network(&self) -> PodNetwork {
        self.pod_network
    }

    /// The ranges of all nodes' pods, in the families in use.
    pub fn cluster_cidrs(&self) -> Vec<&'static str> {
        let v4 = self.families.has_v4().then_some("10.244.0.0/16");
        let v6 = self.families.has_v6().then_some("fd00:244::/32");
        v4.into_iter().chain(v6).collect()
    }

    /// Where host-network processes run: the node's namespace, cgroup `<node>/host`.
    pub fn host(&self) -> Placement {
        self.placement(self.cgroup.join("host"))
    }

    /// Where the node's agents run: the node's namespace, but outside the cgroup that the socket
    /// hooks judge (cgroup `system` beside the nodes').
    pub fn system(&self) -> Placement {
        let root = self.cgroup.parent().unwrap_or(&self.cgroup);
        self.placement(root.join("system"))
    }

    /// Starts a host-network process.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        self.host().spawn(command)
    }

    /// Runs a host-network process to its end.
    pub fn output(&self, command: Command, limit: Duration) -> Result<Output> {
        self.host().output(command, limit)
    }

    /// A long-lived client among the host-network processes.
    pub fn control(&self) -> Result<Control> {
        Control::start(&self.host())
    }

    /// The node as a Kubernetes object: name, zone, addresses, pod CIDRs.
    pub fn object(&self) -> Value {
        let addresses: Vec<Value> = self
            .addresses()
            .iter()
            .map(|a| json!({"type": "InternalIP", "address": a.to_string()}))
            .collect();
        let v4 = self.families.has_v4();
        let v4 = v4.then(|| format!("{}/24", pod_v4(self.number, 0)));
        let v6 = self.v6.map(|_| format!("{}/64", pod_v6(self.number, 0)));
        let cidrs: Vec<String> = v4.into_iter().chain(v6).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": {
                    "kubernetes.io/hostname": self.name,
                    "topology.kubernetes.io/zone": self.zone,
                },
            },
            "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
            "status": {"addresses": addresses},
        })
    }

    /// GET over HTTP from within the node's namespace (and outside its hooks): the status code
    /// and the body.
    pub fn http_get(&self, address: SocketAddr, path: &str) -> Result<(u16, String)> {
        self.netns
            .run(|| crate::agent::http::get(address, path, Duration::from_secs(5)))?
    }

    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    pub(super) fn placement(&self, cgroup: PathBuf) -> Placement {
        let logs = log_directory(&self.prefix);
        Placement {
            netns: self.netns.clone(),
            cgroup,
            logs,
        }
    }

    /// Takes a free host part of the pod network.
    pub(super) fn take_pod_host(&self) -> Result<u8> {
        let mut hosts = self
            .pod_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let first = hosts.next;
        let host = (first..=254)
            .chain(2..first)
            .find(|host| !hosts.used.contains(host))
            .context("the node's pod network is full")?;
        hosts.used.insert(host);
        hosts.next = if host == 254 { 2 } else { host + 1 };
        Ok(host)
    }

    /// Takes this host part, free or not: two pods may have had one address after each other.
    pub(super) fn reserve_pod_host(&self, host: u8) {
        self.pod_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .used
            .insert(host);
    }

    pub(super) fn release_pod_host(&self, host: u8) {
        self.pod_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .used
            .remove(&host);
    }
}
