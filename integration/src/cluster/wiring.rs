//! The wires of a cluster: the fabric's ports, the nodes' uplinks, pod networks and tunnels.

use anyhow::Result;

use super::{
    Families, PodNetwork,
    addresses::{GATEWAY_V4, GATEWAY_V6, node_v4, node_v6, pod_v4, pod_v6},
    offload,
};
use crate::{ip::Batch, netns::Netns};

/// The tunnel device of an overlay.
const TUNNEL: &str = "vxlan1";
const TUNNEL_PORT: u16 = 8472;

/// What is wired; enough to unplug a node and to plug it in again.
#[derive(Clone, Debug)]
pub(super) struct Wiring {
    pub(super) nodes: u8,
    pub(super) families: Families,
    pub(super) pods: PodNetwork,
    /// Pods of other nodes are reached through a tunnel.
    pub(super) overlay: bool,
    /// Packets reach nodes with complete checksums; see [`offload`].
    pub(super) complete_checksums: bool,
}

/// The cable of an unplugged node, and what its agents will restore when it is back.
#[derive(Debug)]
pub struct Cable {
    n: u8,
    routes: Batch,
}

// === impl Wiring ===

impl Wiring {
    /// A bridge with one port per node; its address is the nodes' default gateway. It knows the
    /// way to pods, so that its "network unreachable" reaches them.
    pub(super) fn fabric(&self, fabric: &Netns, nodes: &[Netns]) -> Result<()> {
        let mut batch = Batch::new();
        batch.add("link add br0 type bridge mcast_snooping 0");
        for (n, node) in (1..).zip(nodes) {
            Self::port(&mut batch, n, node);
        }
        if self.families.has_v4() {
            batch.add(format!("addr add {GATEWAY_V4}/24 dev br0"));
        }
        if self.families.has_v6() {
            batch.add(format!("addr add {GATEWAY_V6}/64 dev br0 nodad"));
        }
        batch.add("link set br0 up");
        for n in 1..=self.nodes {
            if self.families.has_v4() {
                batch.add(format!("route add {}/24 via {}", pod_v4(n, 0), node_v4(n)));
            }
            if self.families.has_v6() {
                batch.add(format!("route add {}/64 via {}", pod_v6(n, 0), node_v6(n)));
            }
        }
        fabric.ip(&batch)?;
        for n in 1..=self.nodes {
            self.offloads(fabric, n)?;
        }
        enable_forwarding(fabric)
    }

    /// Node addresses, routes to other nodes' pods, and the pod bridge.
    pub(super) fn node(&self, n: u8, netns: &Netns) -> Result<()> {
        enable_forwarding(netns)?;
        let mut batch = Batch::new();
        self.uplink(&mut batch, n);
        if self.overlay {
            self.tunnel(&mut batch, n);
        }
        if self.pods == PodNetwork::Bridged {
            batch.add("link add cni0 type bridge mcast_snooping 0");
            if self.families.has_v4() {
                batch.add(format!("addr add {}/24 dev cni0", pod_v4(n, 1)));
            }
            if self.families.has_v6() {
                batch.add(format!("addr add {}/64 dev cni0 nodad", pod_v6(n, 1)));
            }
            batch.add("link set cni0 up");
        }
        netns.ip(&batch)?;
        if self.overlay {
            self.tunnel_ends(n, netns)?;
        }
        Ok(())
    }

    /// Pulls the cable of a node: its uplink disappears, with all addresses and routes on it.
    pub(super) fn unplug(fabric: &Netns, n: u8, node: &Netns) -> Result<Cable> {
        // With the node's address go the routes to its pods, whose preferred source it is.
        let mut routes = Batch::new();
        for family in ["-4", "-6"] {
            let shown = node.tool_output("ip", &[family, "route", "show"])?;
            for route in shown.lines().filter(|route| route.contains(" src ")) {
                if !route.contains(" proto kernel ") {
                    routes.add(format!("route replace {route}"));
                }
            }
        }
        fabric.ip(Batch::new().add(format!("link del node-{n}")))?;
        Ok(Cable { n, routes })
    }

    /// Plugs a node in again: a new device with the old name, addresses and routes.
    pub(super) fn plug(&self, fabric: &Netns, cable: &Cable, node: &Netns) -> Result<()> {
        let mut batch = Batch::new();
        Self::port(&mut batch, cable.n, node);
        fabric.ip(&batch)?;
        self.offloads(fabric, cable.n)?;
        let mut batch = Batch::new();
        self.uplink(&mut batch, cable.n);
        node.ip(&batch)?;
        node.ip(&cable.routes)
    }

    fn port(batch: &mut Batch, n: u8, node: &Netns) {
        let peer = node.name();
        // A node that is plugged in again has its old hardware address: neighbours know it.
        batch.add(format!(
            "link add node-{n} type veth peer name eth0 address 0e:00:00:00:01:{n:02x} netns {peer}"
        ));
        batch.add(format!("link set node-{n} master br0 up"));
    }

    fn offloads(&self, fabric: &Netns, n: u8) -> Result<()> {
        if self.complete_checksums {
            offload::complete_checksums(fabric, &format!("node-{n}"))?;
        }
        Ok(())
    }

    fn uplink(&self, batch: &mut Batch, n: u8) {
        if self.families.has_v4() {
            batch.add(format!("addr add {}/24 dev eth0", node_v4(n)));
        }
        if self.families.has_v6() {
            batch.add(format!("addr add {}/64 dev eth0 nodad", node_v6(n)));
        }
        batch.add("link set eth0 up");
        if self.families.has_v4() {
            batch.add(format!("route add default via {GATEWAY_V4}"));
        }
        if self.families.has_v6() {
            batch.add(format!("route add default via {GATEWAY_V6}"));
        }
        if self.overlay {
            return;
        }
        for other in self.others(n) {
            if self.families.has_v4() {
                let (pods, via) = (pod_v4(other, 0), node_v4(other));
                batch.add(format!("route add {pods}/24 via {via}"));
            }
            if self.families.has_v6() {
                let (pods, via) = (pod_v6(other, 0), node_v6(other));
                batch.add(format!("route add {pods}/64 via {via}"));
            }
        }
    }

    /// One tunnel device with a fixed hardware address per node, as flannel has it. The other
    /// nodes' pod networks are routed through their network addresses (host part 0).
    fn tunnel(&self, batch: &mut Batch, n: u8) {
        batch.add(format!(
            "link add {TUNNEL} address {} type vxlan id 1 local {} dstport {TUNNEL_PORT} nolearning",
            tunnel_mac(n),
            node_v4(n)
        ));
        batch.add(format!("link set {TUNNEL} mtu 1450 up"));
        batch.add(format!("addr add {}/32 dev {TUNNEL}", pod_v4(n, 0)));
        if self.families.has_v6() {
            batch.add(format!("addr add {}/128 dev {TUNNEL} nodad", pod_v6(n, 0)));
        }
        for other in self.others(n) {
            let (v4, v6, mac) = (pod_v4(other, 0), pod_v6(other, 0), tunnel_mac(other));
            batch.add(format!(
                "neigh add {v4} lladdr {mac} dev {TUNNEL} nud permanent"
            ));
            batch.add(format!("route add {v4}/24 via {v4} dev {TUNNEL} onlink"));
            if self.families.has_v6() {
                batch.add(format!(
                    "neigh add {v6} lladdr {mac} dev {TUNNEL} nud permanent"
                ));
                batch.add(format!("route add {v6}/64 via {v6} dev {TUNNEL} onlink"));
            }
        }
    }

    /// Where the tunnel's packets to each other node go.
    fn tunnel_ends(&self, n: u8, netns: &Netns) -> Result<()> {
        self.others(n).try_for_each(|other| {
            let (mac, end) = (tunnel_mac(other), node_v4(other).to_string());
            netns.tool("bridge", &["fdb", "add", &mac, "dev", TUNNEL, "dst", &end])
        })
    }

    fn others(&self, n: u8) -> impl Iterator<Item = u8> + use<> {
        (1..=self.nodes).filter(move |&other| other != n)
    }
}

fn tunnel_mac(n: u8) -> String {
    format!("0e:00:00:00:00:{n:02x}")
}

fn enable_forwarding(netns: &Netns) -> Result<()> {
    netns.set_sysctls(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
    ])
}
