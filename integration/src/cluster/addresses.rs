//! The address plan. Index `n` counts nodes from 1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which address families a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// IPv4 and IPv6.
    #[default]
    Dual,
}

impl Families {
    /// Whether IPv4 addresses are assigned.
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 addresses are assigned.
    pub fn has_v6(self) -> bool {
        self != Self::V4
    }

    /// Whether the family of `address` is in use.
    pub fn has(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.has_v4(),
            IpAddr::V6(_) => self.has_v6(),
        }
    }

    /// Those of these addresses whose family is in use, in their order.
    pub fn in_use<const N: usize>(self, addresses: [IpAddr; N]) -> Vec<IpAddr> {
        let mut used = addresses.to_vec();
        used.retain(|&address| self.has(address));
        used
    }

    /// Keeps an IPv6 address only where the family is in use.
    pub fn v6(self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        self.has_v6().then_some(address)
    }
}

/// The gateway of the node network, held by the fabric.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 254);
/// The IPv6 gateway of the node network.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 0xfe);

/// 172.30.0.(10 + n), in a /24.
pub const fn node_v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + n)
}

/// fd00:30::(10 + n), in a /64.
pub const fn node_v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 10 + n as u16)
}

/// 10.244.n.host; the pod network of a node is the /24. Host 1 is the bridge, if there is one.
pub const fn pod_v4(n: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, n, host)
}

/// fd00:244:n::host; the pod network of a node is the /64.
pub const fn pod_v6(n: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x244, n as u16, 0, 0, 0, 0, host as u16)
}

/// 198.51.100.host (TEST-NET-2): clients outside; host 1 is the fabric's end.
pub const fn outside_v4(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, network * 4 + host)
}

/// 2001:db8:100:network::host (documentation range): clients outside.
pub const fn outside_v6(network: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, network as u16, 0, 0, 0, host as u16)
}

/// The address as an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`); IPv6 stays as it is.
pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
