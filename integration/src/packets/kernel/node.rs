//! A namespace becomes the node of the [`topology`](super::super::topology).

use anyhow::Result;

use super::super::topology::{Family, GATEWAY, NARROW, NODE, Net, Port, known, leaves};
use crate::{ip::Batch, netns::Netns};

/// Makes the namespace be the node.
pub(super) fn build(netns: &Netns) -> Result<()> {
    let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut batch = Batch::new();
    for port in Port::ALL {
        let (name, index, mtu) = (port.name(), port.ifindex(), port.mtu());
        let mac = text(port.mac());
        batch.add(format!(
            "link add {name} index {index} mtu {mtu} address {mac} type veth peer name {name}-far"
        ));
        batch.add(format!("link set {name}-far up"));
        batch.add(format!("link set {name} up"));
    }
    netns.ip(&batch)?;
    netns.set_sysctls(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    let mut batch = Batch::new();
    for family in Family::ALL {
        let bits = family.pick(24, 64);
        let nodad = family.pick("", "nodad");
        for (net, host, port) in [
            (Net::Uplink, NODE, Port::Uplink),
            (Net::Pods(1), 1, Port::Pods),
        ] {
            let address = net.host(family, host);
            batch.add(format!(
                "addr add {address}/{bits} dev {} {nodad}",
                port.name()
            ));
        }
        // Neighbours on devices without an address of ours live in the link-local range.
        let far = |host: u8| family.pick(format!("169.254.0.{host}"), format!("fe80::{host}"));
        let neighbour = |port: Port, host: u8| match port {
            Port::Uplink => Net::Uplink.host(family, host).to_string(),
            Port::Pods => Net::Pods(1).host(family, host).to_string(),
            Port::Second | Port::Tunnel => far(host),
        };
        for port in Port::ALL {
            for host in known(port) {
                let (address, mac) = (neighbour(port, *host), text(port.to(*host).0));
                let name = port.name();
                batch.add(format!(
                    "neigh add {address} lladdr {mac} dev {name} nud permanent"
                ));
            }
        }
        for node in 2..=6 {
            let (port, host) = leaves(Net::Pods(node));
            let via = neighbour(port, host.unwrap_or(GATEWAY));
            let mtu = if node == 6 {
                format!("mtu lock {NARROW}")
            } else {
                String::new()
            };
            batch.add(format!(
                "route add {} via {via} dev {} onlink {mtu}",
                Net::Pods(node).prefix(family),
                port.name()
            ));
        }
        batch.add(format!(
            "route add blackhole {}",
            Net::Pods(9).prefix(family)
        ));
        let (all, gateway) = (
            family.pick("0.0.0.0/0", "::/0"),
            Net::Uplink.host(family, GATEWAY),
        );
        batch.add(format!("route add {all} via {gateway} dev up0"));
    }
    netns.ip(&batch)
}
