//! What rules depend on besides Services.

use std::str::FromStr;

use ipnet::IpNet;
use lb_controller::{
    model::{Family, NodeInfo},
    store::Store,
};

/// This node and the operator's choices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The Node object.
    pub node: NodeInfo,
    /// How packets of this node's pods are told from others (rule F9).
    pub local: LocalDetector,
    /// Ranges that ClusterIPs come from, beside those of ServiceCIDRs (rule E3).
    pub service_cidrs: Vec<IpNet>,
    /// Whether node ports are served at 127.0.0.0/8 (rule E11; iptables alone).
    pub localhost_node_ports: bool,
}

// === impl NodeFacts ===

impl NodeFacts {
    /// With what objects say of the node and of ClusterIPs.
    pub(super) fn with(mut self, store: &Store) -> Self {
        self.node = store.node().clone();
        self.service_cidrs.extend(store.service_cidrs());
        self.service_cidrs.sort_unstable();
        self.service_cidrs.dedup();
        self
    }
}

/// How packets of this node's pods are told from others (rule F9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// They are not: pods count as clients outside (rule F4).
    #[default]
    None,
    /// By their source, one range a family.
    ClusterCidr(Vec<IpNet>),
    /// By the device that they come through, whose name starts so.
    InterfacePrefix(String),
    /// By the bridge that they come through.
    Bridge(String),
}

/// A text that names no [`LocalDetector`].
#[derive(Debug, thiserror::Error)]
#[error("expected none, cidr:CIDR[,CIDR], interface-prefix:PREFIX or bridge:NAME")]
pub struct UnknownDetector;

impl FromStr for LocalDetector {
    type Err = UnknownDetector;

    fn from_str(text: &str) -> Result<Self, UnknownDetector> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("cidr", list)) => {
                let ranges: Result<Vec<IpNet>, _> = list.split(',').map(str::parse).collect();
                ranges.map(Self::ClusterCidr).map_err(|_| UnknownDetector)
            }
            Some(("interface-prefix", prefix)) => Ok(Self::InterfacePrefix(prefix.to_owned())),
            Some(("bridge", name)) => Ok(Self::Bridge(name.to_owned())),
            _ => Err(UnknownDetector),
        }
    }
}

impl LocalDetector {
    /// The range of `family`: the first one counts (rule F9).
    pub(super) fn cidr(ranges: &[IpNet], family: Family) -> Option<IpNet> {
        let mut ranges = ranges.iter().copied();
        ranges.find(|range| Family::of(range.addr()) == family)
    }
}
