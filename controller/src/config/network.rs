//! Flags about devices, addresses and packets.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use clap::{ArgAction, Args};

use super::duration;
use crate::devices::{NodePortAddresses, Options, Patterns, XdpMode};

/// Source ports of connections to backends on other nodes.
pub(super) const SNAT_PORTS: &str = "20000-29999";

/// Devices, addresses and packets.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Devices and packets")]
pub struct NetworkArgs {
    /// Devices through which traffic comes from outside, as patterns such as
    /// `eth*,bond0,!eth9`; by default those with the default route or an address of this
    /// node. A list of exclusions alone leaves the others to this choice.
    #[arg(
        long,
        value_name = "PATTERNS",
        default_value = "",
        hide_default_value = true
    )]
    pub uplink_devices: Patterns,
    /// Devices that lead to pods, as patterns; by default host ends of veths and the ports
    /// of bridges.
    #[arg(
        long,
        value_name = "PATTERNS",
        default_value = "",
        hide_default_value = true
    )]
    pub pod_devices: Patterns,
    /// Addresses of this node, at most one a family; by default those of its Node object,
    /// then those of the default route.
    #[arg(long, value_name = "IP", value_delimiter = ',', env = "NODE_IP")]
    pub node_ip: Vec<IpAddr>,
    /// Networks at whose addresses NodePorts are served, or `primary` for the node's
    /// primary addresses; by default all addresses of this node.
    #[arg(
        long,
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true
    )]
    pub nodeport_addresses: NodePortAddresses,
    /// Serve NodePorts at 127.0.0.1 and ::1 to processes of the host's network namespace.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub localhost_nodeports: bool,
    /// Whether packets from outside are handled by XDP. `auto`: in the driver where it can,
    /// never on a veth; what XDP does not do, TC does.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = XdpMode::Auto)]
    pub xdp: XdpMode,
    /// The same for one device; can be given several times.
    #[arg(long, value_name = "NAME=MODE", value_parser = device_mode)]
    pub xdp_device: Vec<(String, XdpMode)>,
    /// Source ports of connections to backends on other nodes; reserved in
    /// net.ipv4.ip_local_reserved_ports. Must be disjoint from NodePorts.
    #[arg(long, value_name = "FIRST-LAST", default_value = SNAT_PORTS, value_parser = ports)]
    pub snat_ports: RangeInclusive<u16>,
    /// Leave TCP connections that another service proxy may have made to the kernel for
    /// this long after start.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub takeover: Duration,
    /// Rejections (TCP RST, ICMP unreachable) that are sent per CPU and second.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rejects_per_second: u32,
    /// Serve ClusterIPs to clients outside the cluster.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub external_cluster_ip: bool,
}

impl NetworkArgs {
    /// What was chosen.
    pub fn options(&self) -> Options {
        Options {
            uplinks: self.uplink_devices.clone(),
            pods: self.pod_devices.clone(),
            node_ips: self.node_ip.clone(),
            node_ports: self.nodeport_addresses.clone(),
            localhost_node_ports: self.localhost_nodeports,
            xdp: self.xdp,
            xdp_devices: self.xdp_device.iter().cloned().collect(),
            snat_ports: self.snat_ports.clone(),
            takeover: self.takeover,
            // A tick is a little more than a second.
            rejects_per_tick: self.rejects_per_second,
            external_cluster_ip: self.external_cluster_ip,
            ..Options::default()
        }
    }
}

fn device_mode(text: &str) -> Result<(String, XdpMode), String> {
    let (name, mode) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("expected NAME=MODE, such as eth0=native")?;
    let mode = <XdpMode as clap::ValueEnum>::from_str(mode, false)
        .map_err(|_| format!("{mode:?} is no mode: auto, off, generic or native"))?;
    Ok((name.to_owned(), mode))
}

pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let numbers = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match numbers {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("expected FIRST-LAST, such as 20000-29999"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_given_by_device() {
        assert_eq!(
            device_mode("eth0=native"),
            Ok(("eth0".to_owned(), XdpMode::Native))
        );
        assert!(device_mode("eth0").is_err());
        assert!(device_mode("=off").is_err());
        assert!(device_mode("eth0=fast").is_err());
    }

    #[test]
    fn port_ranges_have_two_ends_in_order() {
        assert_eq!(ports("20000-29999"), Ok(20_000..=29_999));
        for wrong in ["", "1", "2-1", "0-5", "1-70000"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
