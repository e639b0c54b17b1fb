//! Which addresses are this node's, and where NodePorts are served (rules E7–E11). Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use lb_ebpf::abi::NodeAddress;

use super::{Inventory, Options, classify::node_address, inventory::is_link_local};

/// Where kube-proxy in its IPVS mode keeps the addresses of Services: they are no node's.
const IPVS: &str = "kube-ipvs0";

/// Where NodePorts are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// At every address of this node.
    #[default]
    All,
    /// At the node's primary addresses.
    Primary,
    /// At addresses in these networks; a family without a network is served everywhere.
    Networks(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Whether some addresses of a family are left out.
    fn restricts(&self, is_ipv4: bool) -> bool {
        match self {
            Self::All => false,
            Self::Primary => true,
            Self::Networks(networks) => {
                let mut family = networks
                    .iter()
                    .filter(|network| network.addr().is_ipv4() == is_ipv4)
                    .peekable();
                family.peek().is_some() && family.all(|network| network.prefix_len() != 0)
            }
        }
    }

    fn admits(&self, ip: IpAddr, primary: &[IpAddr]) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary.contains(&ip),
            Self::Networks(networks) => {
                let mut family = networks
                    .iter()
                    .filter(|network| network.addr().is_ipv4() == ip.is_ipv4())
                    .peekable();
                family.peek().is_none() || family.any(|network| network.contains(&ip))
            }
        }
    }
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(Self::All),
            ["primary"] => Ok(Self::Primary),
            words if words.contains(&"primary") => {
                Err("`primary` cannot be mixed with networks".into())
            }
            words => {
                let networks = words.iter().map(|word| {
                    word.parse()
                        .map_err(|_| format!("{word:?} is no network, such as 10.0.0.0/8"))
                });
                Ok(Self::Networks(networks.collect::<Result<_, _>>()?))
            }
        }
    }
}

/// Where health-check node ports are answered (rule J7): at the unspecified address of each
/// family that the host has, or at each address where NodePorts are served, if these are
/// restricted.
pub fn health_check_addresses(inventory: &Inventory, options: &Options) -> Vec<IpAddr> {
    let served = node_addresses(inventory, options);
    let served = |is_ipv4| {
        let bits = NodeAddress::NODE_PORTS | NodeAddress::LOOPBACK;
        let of_family = served.iter().filter(move |(ip, flags)| {
            ip.is_ipv4() == is_ipv4 && !ip.is_unspecified() && *flags & bits != 0
        });
        of_family.map(|(ip, _)| *ip).collect::<Vec<_>>()
    };
    [true, false]
        .into_iter()
        .flat_map(|is_ipv4| {
            let mut addresses = inventory.addresses.iter();
            if !addresses.any(|address| address.ip.is_ipv4() == is_ipv4) {
                Vec::new()
            } else if options.node_ports.restricts(is_ipv4) {
                served(is_ipv4)
            } else if is_ipv4 {
                vec![Ipv4Addr::UNSPECIFIED.into()]
            } else {
                vec![Ipv6Addr::UNSPECIFIED.into()]
            }
        })
        .collect()
}

/// The contents of `NODE_ADDRESSES`: addresses and their [`NodeAddress`] bits.
pub fn node_addresses(inventory: &Inventory, options: &Options) -> BTreeMap<IpAddr, u32> {
    let families: [fn(&IpAddr) -> bool; 2] = [IpAddr::is_ipv4, IpAddr::is_ipv6];
    let primary: Vec<_> = families
        .iter()
        .filter_map(|family| node_address(inventory, options, *family))
        .collect();
    let served = |ip| options.node_ports.admits(ip, &primary);
    let bits = |ip: IpAddr| {
        let loopback = options.localhost_node_ports && served(ip);
        if ip.is_loopback() {
            NodeAddress::LOCAL | if loopback { NodeAddress::LOOPBACK } else { 0 }
        } else if ip.is_ipv6() && is_link_local(ip) || !served(ip) {
            NodeAddress::LOCAL
        } else {
            NodeAddress::LOCAL | NodeAddress::NODE_PORTS
        }
    };
    let ipvs = inventory.links.iter().find(|link| link.name == IPVS);
    let ipvs = ipvs.map(|link| link.index);
    let mut all: BTreeMap<_, _> = inventory
        .addresses
        .iter()
        .filter(|address| Some(address.link) != ipvs)
        .map(|address| (address.ip, bits(address.ip)))
        .collect();
    // A connection to the unspecified address goes to the loopback device.
    for (unspecified, loopback) in [
        (
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    ] {
        let flags = all.get(&loopback).copied().unwrap_or_default();
        if flags & NodeAddress::LOOPBACK != 0 {
            all.insert(unspecified, NodeAddress::LOOPBACK);
        }
    }
    all
}

#[cfg(test)]
mod tests;
