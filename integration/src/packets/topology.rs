//! The one node that all rows happen at: devices, addresses, routes and neighbours. The
//! same facts are a namespace for the kernel and a function for the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_ebpf::{
    abi::{Addr, Device, DeviceClass, DeviceFlags, NextHop, NodeAddress},
    route::{Query, Route},
};

use super::packet::Macs;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// What belongs to this family.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// Networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// On the uplink.
    Uplink,
    /// Behind the default gateway.
    Clients,
    /// External IPs and load balancers' addresses.
    Vips,
    /// ClusterIPs.
    Services,
    /// Pods of one node. 1: this node. 2: behind a second device that XDP may redirect to.
    /// 3: behind a tunnel that it may not. 4: behind a neighbour on the uplink. 5: behind one
    /// whose MAC is not known. 6: as 4, through a narrow path. 9: a black hole.
    Pods(u8),
}

impl Net {
    /// Address of a host in it.
    pub fn host(self, family: Family, host: u8) -> IpAddr {
        let v6 = |third: u16, fourth: u16| {
            IpAddr::from(Ipv6Addr::from([
                0xfd00,
                third,
                fourth,
                0,
                0,
                0,
                0,
                u16::from(host),
            ]))
        };
        match (self, family) {
            (Self::Uplink, Family::V4) => Ipv4Addr::new(192, 0, 2, host).into(),
            (Self::Clients, Family::V4) => Ipv4Addr::new(198, 51, 100, host).into(),
            (Self::Vips, Family::V4) => Ipv4Addr::new(203, 0, 113, host).into(),
            (Self::Services, Family::V4) => Ipv4Addr::new(10, 96, 0, host).into(),
            (Self::Pods(node), Family::V4) => Ipv4Addr::new(10, 244, node, host).into(),
            (Self::Uplink, Family::V6) => v6(0x1, 0),
            (Self::Clients, Family::V6) => v6(0x2, 0),
            (Self::Vips, Family::V6) => v6(0x3, 0),
            (Self::Services, Family::V6) => v6(0x96, 0),
            (Self::Pods(node), Family::V6) => v6(0x244, u16::from(node)),
        }
    }

    /// A port of a host in it.
    pub fn at(self, family: Family, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(family, host), port)
    }

    pub(super) fn prefix(self, family: Family) -> String {
        format!("{}/{}", self.host(family, 0), family.pick(24, 64))
    }
}

/// Host number of this node on the uplink.
pub const NODE: u8 = 10;
/// Host number of the default gateway.
pub const GATEWAY: u8 = 1;
/// Host number of the neighbour behind which nodes 4 and 6 are.
pub const NEIGHBOUR: u8 = 40;
/// Host number of a neighbour whose MAC is not known.
pub const SILENT: u8 = 50;
/// MTU of the route to node 6.
pub const NARROW: u32 = 1300;

/// A device of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// To the world.
    Uplink,
    /// To node 2.
    Second,
    /// To node 3.
    Tunnel,
    /// To the pods of this node.
    Pods,
}

impl Port {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uplink, Self::Second, Self::Tunnel, Self::Pods];

    /// Its index, the same in each namespace.
    pub const fn ifindex(self) -> u32 {
        match self {
            Self::Uplink => 1011,
            Self::Second => 1012,
            Self::Tunnel => 1013,
            Self::Pods => 1014,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "up0",
            Self::Second => "up1",
            Self::Tunnel => "tun0",
            Self::Pods => "pods0",
        }
    }

    /// Its MTU.
    pub const fn mtu(self) -> u32 {
        match self {
            Self::Tunnel => 1400,
            Self::Uplink | Self::Second | Self::Pods => 1500,
        }
    }

    /// MACs of a frame that it sends to its neighbour `host`.
    pub const fn to(self, host: u8) -> Macs {
        ([2, 0, 0, 0, 1, host], self.mac())
    }

    pub(super) const fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.ifindex() as u8]
    }

    /// What the controller writes about it.
    pub fn described(self) -> Device {
        let (class, flags) = match self {
            Self::Uplink => (DeviceClass::Uplink, DeviceFlags::XDP_REDIRECT),
            Self::Second => (DeviceClass::BackendRoute, DeviceFlags::XDP_REDIRECT),
            Self::Tunnel => (DeviceClass::BackendRoute, 0),
            Self::Pods => (DeviceClass::PodFacing, 0),
        };
        let mut name = [0; 16];
        name[..self.name().len()].copy_from_slice(self.name().as_bytes());
        Device {
            class: class as u32,
            flags,
            mtu: self.mtu(),
            reserved: 0,
            snat_v4: Addr::from(self.source(Family::V4)),
            snat_v6: Addr::from(self.source(Family::V6)),
            name,
        }
    }

    /// The source address of what the node sends out here.
    pub fn source(self, family: Family) -> IpAddr {
        match self {
            Self::Uplink | Self::Second => Net::Uplink.host(family, NODE),
            Self::Tunnel | Self::Pods => Net::Pods(1).host(family, 1),
        }
    }
}

/// [`NodeAddress`] bits of the node's addresses.
pub fn addresses() -> Vec<(IpAddr, u32)> {
    let served = NodeAddress::LOCAL | NodeAddress::NODE_PORTS;
    let loopback = NodeAddress::LOCAL | NodeAddress::LOOPBACK;
    vec![
        (Net::Uplink.host(Family::V4, NODE), served),
        (Net::Uplink.host(Family::V6, NODE), served),
        (Net::Pods(1).host(Family::V4, 1), NodeAddress::LOCAL),
        (Net::Pods(1).host(Family::V6, 1), NodeAddress::LOCAL),
        (Ipv4Addr::LOCALHOST.into(), loopback),
        (Ipv6Addr::LOCALHOST.into(), loopback),
    ]
}

/// Where packets leave: device and neighbour on it; `None` beyond the gateway.
pub(super) fn leaves(net: Net) -> (Port, Option<u8>) {
    match net {
        Net::Pods(2) => (Port::Second, Some(2)),
        Net::Pods(3) => (Port::Tunnel, Some(3)),
        Net::Pods(4 | 6) => (Port::Uplink, Some(NEIGHBOUR)),
        Net::Pods(5) => (Port::Uplink, Some(SILENT)),
        _ => (Port::Uplink, None),
    }
}

/// What the FIB answers.
pub fn route(query: &Query) -> Route {
    let dst = query.dst.to_ip();
    let family = if dst.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    if addresses().iter().any(|(own, _)| *own == dst) {
        return Route::Local;
    }
    let in_net = |net: Net| match (net.host(family, 0), dst) {
        (IpAddr::V4(net), IpAddr::V4(dst)) => net.octets()[..3] == dst.octets()[..3],
        (IpAddr::V6(net), IpAddr::V6(dst)) => net.octets()[..8] == dst.octets()[..8],
        _ => false,
    };
    let last = Addr::from(dst).octets()[15];
    if in_net(Net::Pods(9)) {
        return Route::None;
    }
    if in_net(Net::Pods(1)) {
        return hop(Port::Pods, last, Port::Pods.mtu());
    }
    if in_net(Net::Uplink) {
        return hop(Port::Uplink, last, Port::Uplink.mtu());
    }
    let net = (2..=6).map(Net::Pods).find(|net| in_net(*net));
    let (port, neighbour) = leaves(net.unwrap_or(Net::Clients));
    let mtu = if net == Some(Net::Pods(6)) {
        NARROW
    } else {
        port.mtu()
    };
    hop(port, neighbour.unwrap_or(GATEWAY), mtu)
}

/// Neighbours of a device whose MACs are known.
pub(super) fn known(port: Port) -> &'static [u8] {
    match port {
        Port::Uplink => &[GATEWAY, NEIGHBOUR],
        Port::Second => &[2],
        Port::Tunnel => &[3],
        Port::Pods => &[5, 6],
    }
}

fn hop(port: Port, neighbour: u8, mtu: u32) -> Route {
    // Of a path whose neighbour is not resolved the helper does not tell the MTU.
    let ((dst_mac, src_mac), mtu) = if known(port).contains(&neighbour) {
        (port.to(neighbour), mtu)
    } else {
        (([0; 6], [0; 6]), 0)
    };
    let hop = NextHop {
        ifindex: port.ifindex(),
        dst_mac,
        src_mac,
    };
    Route::Hop(hop, mtu)
}
