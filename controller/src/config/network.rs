//! Flags about devices, addresses and packets.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use clap::{ArgAction, Args};
use ipnet::IpNet;

use super::duration;
use crate::devices::{LocalDetector, NodePortAddresses, Options, Patterns, XdpMode};

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
    /// How pods of this node are told from others, whose traffic externalTrafficPolicy Local
    /// restricts. `devices`: by the device that their packets come from (--pod-devices).
    /// `ClusterCIDR`, `NodeCIDR`: by the source of their packets, in --cluster-cidr or in the
    /// podCIDRs of this node. `BridgeInterface`, `InterfaceNamePrefix`: by device, with the
    /// names that --pod-bridge-interface or --pod-interface-name-prefix give.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value_t = DetectLocalMode::Devices,
        requires_ifs = [
            ("BridgeInterface", "pod_bridge_interface"),
            ("InterfaceNamePrefix", "pod_interface_name_prefix"),
        ]
    )]
    pub detect_local_mode: DetectLocalMode,
    /// Networks of pods; the first of each family counts. Without one, no source of the
    /// family is a pod of this node. For --detect-local-mode ClusterCIDR.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Name of the bridge of pods, for --detect-local-mode BridgeInterface.
    #[arg(long, value_name = "NAME", conflicts_with = "pod_devices")]
    pub pod_bridge_interface: Option<String>,
    /// What names of pods' devices begin with, for --detect-local-mode InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", conflicts_with = "pod_devices")]
    pub pod_interface_name_prefix: Option<String>,
    /// Serve ClusterIPs to clients outside the cluster.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub external_cluster_ip: bool,
}

impl NetworkArgs {
    /// What was chosen.
    pub fn options(&self) -> Options {
        Options {
            uplinks: self.uplink_devices.clone(),
            pods: self.pods(),
            local: self.local(),
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

/// Ways to tell pods of this node from others; named as kube-proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum DetectLocalMode {
    /// By device.
    #[value(name = "devices")]
    Devices,
    /// By source address, in one network for the whole cluster.
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// By source address, in this node's network.
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// By device: the ports of a bridge.
    BridgeInterface,
    /// By device: its name.
    InterfaceNamePrefix,
}

impl NetworkArgs {
    fn local(&self) -> LocalDetector {
        match self.detect_local_mode {
            DetectLocalMode::ClusterCidr => LocalDetector::Sources(self.cluster_cidr.clone()),
            DetectLocalMode::NodeCidr => LocalDetector::NodeCidr,
            DetectLocalMode::Devices
            | DetectLocalMode::BridgeInterface
            | DetectLocalMode::InterfaceNamePrefix => LocalDetector::Devices,
        }
    }

    fn pods(&self) -> Patterns {
        let named = match self.detect_local_mode {
            DetectLocalMode::BridgeInterface => self.pod_bridge_interface.clone(),
            DetectLocalMode::InterfaceNamePrefix => {
                let prefix = self.pod_interface_name_prefix.as_ref();
                prefix.map(|prefix| format!("{prefix}*"))
            }
            _ => None,
        };
        // Any text is a list of patterns.
        let patterns = named.and_then(|names| names.parse().ok());
        patterns.unwrap_or_else(|| self.pod_devices.clone())
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

    fn parsed(args: &[&str]) -> Result<Options, clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            network: NetworkArgs,
        }
        let line = ["lb"].iter().chain(args);
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.network.options())
    }

    #[test]
    fn f9_modes_are_those_of_kube_proxy() {
        let local = |args: &[&str]| parsed(args).unwrap().local;
        assert_eq!(local(&[]), LocalDetector::Devices);
        let mode = "--detect-local-mode";
        assert_eq!(local(&[mode, "NodeCIDR"]), LocalDetector::NodeCidr);
        assert_eq!(
            local(&[mode, "ClusterCIDR"]),
            LocalDetector::Sources(vec![])
        );
        let cidrs = ["--cluster-cidr", "10.244.0.0/16,fd00:244::/48"];
        let networks = ["10.244.0.0/16", "fd00:244::/48"].map(|n| n.parse().unwrap());
        assert_eq!(
            local(&[&[mode, "ClusterCIDR"], &cidrs[..]].concat()),
            LocalDetector::Sources(networks.to_vec())
        );
        let pods = |args: &[&str]| parsed(args).unwrap().pods;
        let patterns = |text: &str| text.parse::<Patterns>().unwrap();
        let bridge = [mode, "BridgeInterface", "--pod-bridge-interface", "cni0"];
        assert_eq!(pods(&bridge), patterns("cni0"));
        let prefix = [
            mode,
            "InterfaceNamePrefix",
            "--pod-interface-name-prefix",
            "cali",
        ];
        assert_eq!(pods(&prefix), patterns("cali*"));
    }

    #[test]
    fn f9_modes_that_need_a_name_do_not_go_without() {
        for mode in ["BridgeInterface", "InterfaceNamePrefix"] {
            assert!(parsed(&["--detect-local-mode", mode]).is_err(), "{mode}");
        }
    }

    #[test]
    fn port_ranges_have_two_ends_in_order() {
        assert_eq!(ports("20000-29999"), Ok(20_000..=29_999));
        for wrong in ["", "1", "2-1", "0-5", "1-70000"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
