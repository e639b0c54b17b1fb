//! What an operator can choose.

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::RangeInclusive, time::Duration};

use ipnet::IpNet;

use super::{LocalDetector, NodePortAddresses, Patterns};
use crate::{
    config::ConntrackArgs,
    conntrack::{Lifetimes, lifetimes},
};

/// Choices about devices, addresses and packets.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which devices are uplinks.
    pub uplinks: Patterns,
    /// Which devices lead to pods.
    pub pods: Patterns,
    /// Addresses of this node, at most one a family; empty: found out.
    pub node_ips: Vec<IpAddr>,
    /// Where NodePorts are served.
    pub node_ports: NodePortAddresses,
    /// Whether they are served at loopback addresses, too (rule E11).
    pub localhost_node_ports: bool,
    /// Whether XDP is used.
    pub xdp: XdpMode,
    /// The same for single devices, by name.
    pub xdp_devices: BTreeMap<String, XdpMode>,
    /// Source ports of flows to remote backends.
    pub snat_ports: RangeInclusive<u16>,
    /// How long flows of another proxy are left to the kernel.
    pub takeover: Duration,
    /// Rejections per CPU and tick.
    pub rejects_per_tick: u32,
    /// Whether ClusterIPs are served to clients outside the cluster (rule E2).
    pub external_cluster_ip: bool,
    /// Who counts as a pod of this node (rule F9).
    pub local: LocalDetector,
    /// `spec.podCIDRs` of this node, once they are known.
    pub pod_cidrs: Box<[IpNet]>,
    /// Lifetimes of flows in ticks.
    pub lifetimes: Lifetimes,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uplinks: Patterns::default(),
            pods: Patterns::default(),
            node_ips: Vec::new(),
            node_ports: NodePortAddresses::All,
            localhost_node_ports: true,
            xdp: XdpMode::Auto,
            xdp_devices: BTreeMap::new(),
            snat_ports: 20_000..=29_999,
            takeover: Duration::ZERO,
            rejects_per_tick: 1000,
            external_cluster_ip: true,
            local: LocalDetector::Devices,
            pod_cidrs: Box::default(),
            lifetimes: lifetimes(&ConntrackArgs::default()),
        }
    }
}

/// Ways to use XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum XdpMode {
    /// Native where the driver takes it, never on a veth; otherwise TC does the work.
    Auto,
    /// Never.
    Off,
    /// In the kernel's generic path, after a packet has got its buffer.
    Generic,
    /// In the driver.
    Native,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Generic => "generic",
            Self::Native => "native",
        })
    }
}
