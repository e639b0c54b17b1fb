//! A pod: a namespace with a veth to its node, or a host-network pod in the node's namespace.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;

use super::{
    Node, PodNetwork,
    addresses::{pod_v4, pod_v6},
};
use crate::{
    agent::{self, ServeOptions},
    cgroup,
    control::Control,
    ip::Batch,
    netns::Netns,
    process::{Output, Placement, Process},
};

/// The hardware address of every pod's gateway; fe80::ecee:eeff:feee:eeee follows from it.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
const GATEWAY_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";
/// The gateway in a routed pod's table; no device holds it, its neighbour entry is fixed.
const GATEWAY_V4: &str = "169.254.1.1";

/// A pod; dropping it kills its processes and removes its namespace.
#[derive(Debug)]
pub struct Pod {
    name: String,
    node: Arc<Node>,
    placement: Placement,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    /// The node's end of its veth.
    device: String,
    /// The host part of its address; none for host-network pods.
    host: Option<u8>,
}

/// A pod yet to be created.
#[derive(Debug)]
pub struct PodBuilder {
    node: Arc<Node>,
    name: String,
    host_network: bool,
    socket_hooks: bool,
    host: Option<u8>,
}

// === impl PodBuilder ===

impl PodBuilder {
    pub(super) fn new(node: Arc<Node>, name: &str) -> Self {
        let name = name.to_owned();
        Self {
            node,
            name,
            host_network: false,
            socket_hooks: true,
            host: None,
        }
    }

    /// Runs in the node's namespace with the node's addresses, in a cgroup of its own.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Stands in for a runtime whose sockets the node's hooks do not see (Kata, gVisor, KubeVirt):
    /// its processes are in no cgroup of the node.
    #[must_use]
    pub fn without_socket_hooks(mut self) -> Self {
        self.socket_hooks = false;
        self
    }

    /// Takes the address with this host part, such as that of a pod that is gone.
    #[must_use]
    pub fn host_part(mut self, host: u8) -> Self {
        self.host = Some(host);
        self
    }

    /// Creates it.
    pub fn create(self) -> Result<Pod> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let node = Arc::clone(&self.node);
        let parent = if self.socket_hooks {
            node.cgroup().to_owned()
        } else {
            let root = node.cgroup().parent().unwrap_or(node.cgroup());
            root.join("no-hooks").join(node.name())
        };
        let cgroup = parent.join(format!("pod-{}-{number}", self.name));
        cgroup::create(&cgroup)?;
        if self.host_network {
            let placement = node.placement(cgroup);
            let (v4, v6) = (node.v4(), node.v6());
            let device = String::new();
            return Ok(Pod {
                name: self.name,
                node,
                placement,
                v4,
                v6,
                device,
                host: None,
            });
        }
        let host = match self.host {
            Some(host) => {
                node.reserve_pod_host(host);
                host
            }
            None => node.take_pod_host()?,
        };
        let netns = format!("{}-{}-{}-{number}", node.prefix(), node.name(), self.name);
        let netns = Netns::create_all(&[netns])?.remove(0);
        let v4 = pod_v4(node.number(), host);
        let v6 = node.v6().map(|_| pod_v6(node.number(), host));
        let placement = Placement {
            netns,
            ..node.placement(cgroup)
        };
        let device = format!("veth{number}");
        let pod = Pod {
            name: self.name,
            node,
            placement,
            v4,
            v6,
            device,
            host: Some(host),
        };
        pod.wire()?;
        Ok(pod)
    }
}

// === impl Pod ===

impl Pod {
    /// Its name; also what its server answers to `hostname`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node it runs on.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Its IPv4 address (the node's, for a host-network pod), in a cluster that has the family.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address, in a cluster that has the family.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.v6
    }

    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.node.families().has_v4();
        let v4 = v4.then_some(IpAddr::V4(self.v4));
        [v4, self.v6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether it lives in its node's namespace.
    pub fn is_host_network(&self) -> bool {
        self.host.is_none()
    }

    /// The host part of its address; none for a host-network pod.
    pub fn host_part(&self) -> Option<u8> {
        self.host
    }

    /// Where its processes run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Makes its node's way to this routed pod one for packets of this size at most: larger
    /// ones are answered with an ICMP error.
    pub fn limit_path_mtu(&self, mtu: u32) -> Result<()> {
        let mut batch = Batch::new();
        let device = &self.device;
        for (pod, node) in self.addresses().iter().zip(self.node.addresses()) {
            batch.add(format!(
                "route replace {pod} dev {device} src {node} mtu {mtu}"
            ));
        }
        self.node.netns().ip(&batch)
    }

    /// The node's end of its veth; empty for a host-network pod.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Starts a process in the pod.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        self.placement.spawn(command)
    }

    /// Runs a process in the pod to its end.
    pub fn output(&self, command: Command, limit: Duration) -> Result<Output> {
        self.placement.output(command, limit)
    }

    /// A long-lived client in the pod.
    pub fn control(&self) -> Result<Control> {
        Control::start(&self.placement)
    }

    /// Starts a traffic server named after the pod on all its addresses, and waits until it
    /// listens.
    pub fn serve(&self, tcp: &[u16], udp: &[u16]) -> Result<Process> {
        self.serve_with(
            &ServeOptions {
                name: self.name.clone(),
                ..ServeOptions::default()
            },
            tcp,
            udp,
        )
    }

    /// As [`Pod::serve`], with the server's other options given.
    pub fn serve_with(&self, options: &ServeOptions, tcp: &[u16], udp: &[u16]) -> Result<Process> {
        let listen = |ports: &[u16]| -> Vec<SocketAddr> {
            let all = self.addresses();
            ports
                .iter()
                .flat_map(|&p| all.iter().map(move |&a| SocketAddr::new(a, p)))
                .collect()
        };
        let mut options = options.clone();
        options.tcp.extend(listen(tcp));
        options.udp.extend(listen(udp));
        agent::start_server(&self.placement, &options)
    }

    /// Creates the veth pair and the routes at both ends.
    fn wire(&self) -> Result<()> {
        let device = self.device.as_str();
        let netns = &self.placement.netns;
        let (mut node, mut pod) = (Batch::new(), Batch::new());
        let peer = netns.name();
        node.add(format!(
            "link add {device} type veth peer name eth0 netns {peer}"
        ));
        match self.node.pod_network() {
            PodNetwork::Routed => self.wire_routed(device, &mut node, &mut pod),
            PodNetwork::Bridged => self.wire_bridged(device, &mut node, &mut pod),
        }
        self.node.netns().ip(&node)?;
        netns.ip(&pod)
    }

    fn wire_routed(&self, device: &str, node: &mut Batch, pod: &mut Batch) {
        node.add(format!("link set {device} address {GATEWAY_MAC} up"));
        let v4 = self.node.families().has_v4();
        if v4 {
            let (address, from) = (self.v4, self.node.v4());
            node.add(format!("route add {address}/32 dev {device} src {from}"));
            pod.add(format!("addr add {address}/32 dev eth0"));
        }
        if let (Some(v6), Some(from)) = (self.v6, self.node.v6()) {
            node.add(format!("route add {v6}/128 dev {device} src {from}"));
            pod.add(format!("addr add {v6}/128 dev eth0 nodad"));
        }
        pod.add("link set eth0 up");
        if v4 {
            pod.add(format!("route add {GATEWAY_V4}/32 dev eth0"));
            pod.add(format!(
                "neigh add {GATEWAY_V4} lladdr {GATEWAY_MAC} dev eth0 nud permanent"
            ));
            let own = self.v4;
            pod.add(format!("route add default via {GATEWAY_V4} src {own}"));
        }
        if self.v6.is_some() {
            pod.add(format!(
                "route add default via {GATEWAY_LINK_LOCAL} dev eth0"
            ));
        }
    }

    fn wire_bridged(&self, device: &str, node: &mut Batch, pod: &mut Batch) {
        node.add(format!("link set {device} master cni0 up"));
        let v4 = self.node.families().has_v4();
        if v4 {
            pod.add(format!("addr add {}/24 dev eth0", self.v4));
        }
        if let Some(v6) = self.v6 {
            pod.add(format!("addr add {v6}/64 dev eth0 nodad"));
        }
        pod.add("link set eth0 up");
        let n = self.node.number();
        if v4 {
            pod.add(format!("route add default via {}", pod_v4(n, 1)));
        }
        if self.v6.is_some() {
            pod.add(format!("route add default via {}", pod_v6(n, 1)));
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Err(error) = cgroup::remove(&self.placement.cgroup) {
            tracing::warn!(pod = self.name, "removing its cgroup: {error:#}");
        }
        let Some(host) = self.host else { return };
        // A cluster dropped first has taken the namespace with it.
        if self.placement.netns.path().exists() {
            // The kernel frees namespaces later; the veth and its route must go at once, because
            // the address may be given to the next pod.
            let mut unplug = Batch::new();
            unplug.add(format!("link del {}", self.device));
            let gone = self
                .node
                .netns()
                .ip(&unplug)
                .and(self.placement.netns.delete());
            if let Err(error) = gone {
                tracing::warn!(pod = self.name, "removing its namespace: {error:#}");
            }
        }
        self.node.release_pod_host(host);
    }
}
