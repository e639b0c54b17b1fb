//! Who counts as a pod of this node (rules F1–F4, F9). Pure.

use ipnet::IpNet;
use lb_ebpf::abi::{Addr, AddressRange};

/// How pods of this node are told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// By the device that their packets come from; sockets are pods' or the host's.
    #[default]
    Devices,
    /// By the source of their packets: the first network of each family counts; a family
    /// without one has no local pods.
    Sources(Vec<IpNet>),
    /// The same with the podCIDRs of this node; by device until they are known.
    NodeCidr,
}

impl LocalDetector {
    /// The networks whose addresses are pods, given the podCIDRs of this node; `None` if
    /// devices tell.
    pub fn networks<'a>(&'a self, pod_cidrs: &'a [IpNet]) -> Option<&'a [IpNet]> {
        match self {
            Self::Devices => None,
            Self::Sources(networks) => Some(networks),
            Self::NodeCidr => (!pod_cidrs.is_empty()).then_some(pod_cidrs),
        }
    }
}

/// The first network of a family as programs compare it.
pub(super) fn range(networks: &[IpNet], v4: bool) -> AddressRange {
    let first = networks
        .iter()
        .find(|network| network.addr().is_ipv4() == v4);
    first.map_or(AddressRange::NONE, |network| {
        let mapping = if v4 { 96 } else { 0 };
        AddressRange::new(
            Addr::from(network.addr()),
            mapping + u32::from(network.prefix_len()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn f9_the_first_network_of_each_family_counts() {
        let list = networks(&["10.244.0.0/16", "fd00:244::/48", "10.245.0.0/16"]);
        let v4 = range(&list, true);
        let contains = |ip: &str| v4.contains(&Addr::from(ip.parse::<std::net::IpAddr>().unwrap()));
        assert!(contains("10.244.9.9") && !contains("10.245.0.1") && !contains("fd00:244::1"));
        let v6 = range(&list, false);
        assert!(v6.contains(&Addr::from(
            "fd00:244::9".parse::<std::net::IpAddr>().unwrap()
        )));
        assert_eq!(range(&list[1..2], true), AddressRange::NONE);
    }

    #[test]
    fn l5_node_cidrs_count_once_they_are_known() {
        let known = networks(&["10.244.1.0/24"]);
        let detector = LocalDetector::NodeCidr;
        assert_eq!(detector.networks(&[]), None);
        assert_eq!(detector.networks(&known), Some(&known[..]));
        assert_eq!(LocalDetector::Devices.networks(&known), None);
        let none = LocalDetector::Sources(Vec::new());
        assert_eq!(none.networks(&known), Some(&[][..]));
    }
}
