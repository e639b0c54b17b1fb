//! What the kernel says of links, addresses and routes, as far as it matters here.

use std::net::IpAddr;

/// Everything at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses, in the kernel's order: the first of a link is its primary one.
    pub addresses: Vec<Address>,
    /// Unicast routes of all tables.
    pub routes: Vec<Route>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its ifindex.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: LinkKind,
    /// Whether frames have an Ethernet header.
    pub ethernet: bool,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Whether its other end is in another network namespace.
    pub peer_elsewhere: bool,
}

/// Kinds of devices, as far as they are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A network card, or what stands for one: bond, VLAN, macvlan.
    Nic,
    /// Bond or team: its ports carry nothing of their own.
    Bond,
    /// An end of a veth or netkit pair.
    Pair,
    /// A bridge.
    Bridge,
    /// A tun or tap device: a virtual machine or a VPN.
    Tap,
    /// A device that encapsulates.
    Tunnel,
    /// A device through which nothing comes: it holds addresses, or mirrors.
    Silent,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The ifindex of its device.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
    /// Whether it should be the source of new flows: neither secondary, temporary,
    /// deprecated nor tentative.
    pub preferred: bool,
}

/// A unicast route to a device; one for each of several next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The ifindex of the device.
    pub link: u32,
    /// Network and prefix length; a length of 0 is a default route.
    pub destination: (IpAddr, u8),
    /// The source it asks for.
    pub source: Option<IpAddr>,
    /// Lower ones win.
    pub metric: u32,
}

impl Inventory {
    /// The link with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The addresses of a device.
    pub fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |a| a.link == link)
    }

    /// The routes through a device.
    pub fn routes_of(&self, link: u32) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |route| route.link == link)
    }
}

impl Address {
    /// Whether others can use it to reach this host: not link-local, not loopback.
    pub fn is_global(&self) -> bool {
        !is_link_local(self.ip) && !self.ip.is_loopback()
    }

    /// Whether it stands for a network on the link, not for itself alone.
    pub fn has_network(&self) -> bool {
        self.prefix_len < if self.ip.is_ipv4() { 32 } else { 128 }
    }
}

impl Route {
    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.1 == 0
    }
}

/// 169.254.0.0/16 and fe80::/10.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
