//! What each device is for, from what the kernel says of it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_ebpf::abi::DeviceClass;

use super::{
    Address, Inventory, Link, LinkKind, Options, Route, inventory::is_link_local, patterns::Verdict,
};

/// A device that traffic of Services passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDevice {
    /// Its ifindex.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub class: DeviceClass,
    /// What it is made of.
    pub kind: LinkKind,
    /// Its MTU.
    pub mtu: u32,
    /// Why no program is attached to it, if none is.
    pub obstacle: Option<Obstacle>,
    /// Source of IPv4 flows that are SNATed out here.
    pub snat_v4: Option<Ipv4Addr>,
    /// Source of IPv6 flows that are SNATed out here.
    pub snat_v6: Option<Ipv6Addr>,
}

/// Why no program is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The programs parse Ethernet headers.
    NoEthernet,
    /// The ports of a pod bridge have the programs: there, a packet is seen also when it
    /// goes from port to port.
    PortsDoIt,
}

impl Obstacle {
    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoEthernet => "it has no Ethernet header",
            Self::PortsDoIt => "the programs are at its ports",
        }
    }
}

/// Classifies all devices; those that are none of our business are left out.
pub fn classify(inventory: &Inventory, options: &Options) -> Vec<NodeDevice> {
    let primary_v4 = node_address(inventory, options, IpAddr::is_ipv4);
    let primary_v6 = node_address(inventory, options, IpAddr::is_ipv6);
    let device = |link: &Link| {
        let class = class(inventory, link, options)?;
        let snat = |family: fn(&IpAddr) -> bool, fallback| {
            own_address(inventory, link.index, family).or(fallback)
        };
        Some(NodeDevice {
            index: link.index,
            name: link.name.clone(),
            class,
            kind: link.kind,
            mtu: link.mtu,
            obstacle: obstacle(link, class),
            snat_v4: snat(IpAddr::is_ipv4, primary_v4).and_then(v4),
            snat_v6: snat(IpAddr::is_ipv6, primary_v6).and_then(v6),
        })
    };
    inventory.links.iter().filter_map(device).collect()
}

fn obstacle(link: &Link, class: DeviceClass) -> Option<Obstacle> {
    if !link.ethernet {
        Some(Obstacle::NoEthernet)
    } else if link.kind == LinkKind::Bridge && class == DeviceClass::PodFacing {
        Some(Obstacle::PortsDoIt)
    } else {
        None
    }
}

/// What the operator says, else what the device looks like.
fn class(inventory: &Inventory, link: &Link, options: &Options) -> Option<DeviceClass> {
    if link.loopback {
        return None;
    }
    let uplink = options.uplinks.verdict(&link.name);
    if uplink == Verdict::Included {
        return Some(DeviceClass::Uplink);
    }
    let pods = options.pods.verdict(&link.name);
    if pods == Verdict::Included {
        return Some(DeviceClass::PodFacing);
    }
    let class = looks_like(inventory, link)?;
    let refused = match class {
        DeviceClass::Uplink => uplink != Verdict::Automatic,
        // A list of ports need not name their bridge.
        DeviceClass::PodFacing if link.kind == LinkKind::Bridge => pods == Verdict::Excluded,
        // A bridge in the list stands for its ports.
        DeviceClass::PodFacing if pods == Verdict::Unlisted => {
            let bridge = link.master.and_then(|master| inventory.link(master));
            bridge.is_none_or(|b| options.pods.verdict(&b.name) != Verdict::Included)
        }
        DeviceClass::PodFacing => pods != Verdict::Automatic,
        DeviceClass::BackendRoute => uplink == Verdict::Excluded || pods == Verdict::Excluded,
    };
    (!refused).then_some(class)
}

fn looks_like(inventory: &Inventory, link: &Link) -> Option<DeviceClass> {
    use DeviceClass::{BackendRoute, PodFacing, Uplink};
    if inventory.routes_of(link.index).any(Route::is_default) {
        return Some(Uplink);
    }
    if let Some(master) = link.master.and_then(|master| inventory.link(master)) {
        return match (master.kind, link.kind) {
            (LinkKind::Bridge, LinkKind::Pair | LinkKind::Tap) => Some(PodFacing),
            (LinkKind::Bridge, LinkKind::Tunnel) => Some(BackendRoute),
            // The bridge or bond has the addresses, and sees what is meant for them.
            (LinkKind::Bridge | LinkKind::Bond, _) => None,
            _ => looks_alone(inventory, link),
        };
    }
    looks_alone(inventory, link)
}

/// A device that is nobody's port and has no default route.
fn looks_alone(inventory: &Inventory, link: &Link) -> Option<DeviceClass> {
    use DeviceClass::{BackendRoute, PodFacing, Uplink};
    let addresses = || inventory.addresses_of(link.index);
    let reachable = addresses().any(Address::is_global);
    // Some CNIs give the host's end of each veth the pods' gateway, as a host address.
    let networked = addresses().any(|address| address.is_global() && address.has_network());
    let routed = inventory.routes_of(link.index).any(leads_elsewhere);
    match link.kind {
        LinkKind::Silent => None,
        LinkKind::Nic | LinkKind::Bond if reachable => Some(Uplink),
        LinkKind::Pair if networked => Some(Uplink),
        LinkKind::Pair if link.peer_elsewhere => Some(PodFacing),
        LinkKind::Bridge => {
            let mut ports = inventory
                .links
                .iter()
                .filter(|port| port.master == Some(link.index));
            if ports.any(|port| matches!(port.kind, LinkKind::Nic | LinkKind::Bond)) {
                reachable.then_some(Uplink)
            } else {
                Some(PodFacing)
            }
        }
        LinkKind::Nic | LinkKind::Bond | LinkKind::Pair | LinkKind::Tap | LinkKind::Tunnel => {
            routed.then_some(BackendRoute)
        }
    }
}

fn leads_elsewhere(route: &Route) -> bool {
    let (network, _) = route.destination;
    !is_link_local(network) && !network.is_multicast() && !network.is_loopback()
}

/// The address of a device that new flows should have.
fn own_address(inventory: &Inventory, link: u32, family: fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let usable = inventory
        .addresses_of(link)
        .filter(|address| address.is_global() && family(&address.ip));
    // The first of those that are equally good.
    let best = usable.min_by_key(|address| !address.preferred);
    best.map(|address| address.ip)
}

/// The address of this node: as told, else the source of the default route, else that of
/// its device, else any.
pub(super) fn node_address(
    inventory: &Inventory,
    options: &Options,
    family: fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    // An address that others know this node by need not be one of its own.
    let is_here = |ip: &&IpAddr| inventory.addresses.iter().any(|a| a.ip == **ip);
    let mut told = options.node_ips.iter().filter(|ip| family(ip));
    if let Some(told) = told.find(is_here) {
        return Some(*told);
    }
    let defaults = inventory
        .routes
        .iter()
        .filter(|route| route.is_default() && family(&route.destination.0));
    let default = defaults.min_by_key(|route| route.metric);
    default
        .and_then(|route| route.source)
        .or_else(|| own_address(inventory, default?.link, family))
        .or_else(|| {
            let mut uplinks = inventory
                .links
                .iter()
                .filter(|link| class(inventory, link, options) == Some(DeviceClass::Uplink));
            uplinks.find_map(|link| own_address(inventory, link.index, family))
        })
        .or_else(|| {
            // A node whose addresses are on the loopback device (routed to it by BGP).
            let mut loopbacks = inventory.links.iter().filter(|link| link.loopback);
            loopbacks.find_map(|link| own_address(inventory, link.index, family))
        })
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;
