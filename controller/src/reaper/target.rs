//! A socket to be told, however it was found.

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::FoundSocket;

/// Address family of a socket; mapped addresses occur with the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

/// A UDP socket that is connected to a backend that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The socket's family.
    pub(crate) family: Family,
    /// Its own address and port, unmapped.
    pub(crate) source: SocketAddr,
    /// The backend's, unmapped.
    pub(crate) backend: SocketAddr,
    /// The device that it is bound to; 0 is none.
    pub(crate) device: u32,
    /// Its cookie, if the kernel tells.
    pub(crate) cookie: Option<u64>,
    /// Cookie of its network namespace; 0 is unknown.
    pub(crate) netns: u64,
}

impl Target {
    /// An address as the kernel has it in a socket of this family.
    pub(crate) fn of_family(&self, ip: IpAddr) -> IpAddr {
        match (self.family, ip) {
            (Family::V6, IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
            _ => ip,
        }
    }
}

impl From<&FoundSocket> for Target {
    fn from(found: &FoundSocket) -> Self {
        Self {
            family: if found.family == FoundSocket::AF_INET6 {
                Family::V6
            } else {
                Family::V4
            },
            source: SocketAddr::new(found.source.to_ip(), found.source_port.get()),
            backend: SocketAddr::new(found.destination.to_ip(), found.destination_port.get()),
            device: found.device,
            cookie: (found.cookie != 0).then_some(found.cookie),
            netns: found.flow.netns,
        }
    }
}
