//! Tells a socket by ICMP that its backend is not there.
//!
//! The kernel hands a port-unreachable to the connected socket whose datagram it
//! carries, and the application sees ECONNREFUSED (RFC 1122 section 4.1.3.3, RFC 4443
//! section 3.1). The message comes from the node itself, so no namespace is entered.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
};

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, PacketBuilder,
    icmpv4::DestUnreachableHeader, icmpv6::DestUnreachableCode,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    socket,
};

use super::target::Target;

/// Hop limit of the datagram that never was.
const HOPS: u8 = 64;

/// Raw sockets in the node's own network namespace.
#[derive(Debug)]
pub(crate) struct Notifier {
    v4: OwnedFd,
    /// `None` on a node without IPv6.
    v6: Option<OwnedFd>,
}

impl Notifier {
    /// In the calling thread's network namespace; needs CAP_NET_RAW.
    pub(crate) fn open() -> io::Result<Self> {
        let open = |family, protocol| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(family, SockType::Raw, flags, protocol)
        };
        Ok(Self {
            v4: open(AddressFamily::Inet, SockProtocol::Icmp)?,
            v6: open(AddressFamily::Inet6, SockProtocol::IcmpV6).ok(),
        })
    }

    /// Sends the message; whether it arrives is not known.
    pub(crate) fn notify(&self, target: &Target) -> io::Result<()> {
        let message = unreachable(target.source, target.backend)?;
        match target.source.ip() {
            IpAddr::V4(ip) => {
                let to = SockaddrIn::from(SocketAddrV4::new(ip, 0));
                sendto(self.v4.as_raw_fd(), &message, &to, MsgFlags::empty())?;
            }
            IpAddr::V6(ip) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0));
                let v6 = self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?;
                sendto(v6.as_raw_fd(), &message, &to, MsgFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// A port-unreachable for a datagram from `source` to `backend`, without IP header. The
/// checksum of ICMPv6 is left to the kernel, which fills it in on raw sockets.
fn unreachable(source: SocketAddr, backend: SocketAddr) -> io::Result<Vec<u8>> {
    let ip = match (source.ip(), backend.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut datagram = Vec::new();
    ip.udp(source.port(), backend.port())
        .write(&mut datagram, &[])
        .map_err(io::Error::other)?;
    let mut message = Vec::new();
    if source.is_ipv4() {
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
        message.extend(Icmpv4Header::with_checksum(kind, &datagram).to_bytes());
    } else {
        let kind = Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port);
        message.extend(Icmpv6Header::new(kind).to_bytes());
    }
    message.append(&mut datagram);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagram_inside_is_from_the_socket_to_the_backend() {
        let message = unreachable(
            "10.0.0.2:4000".parse().unwrap(),
            "10.1.0.9:53".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(message[..2], [3, 3], "type and code");
        assert_eq!(message[8] >> 4, 4, "IP version");
        assert_eq!(message[17], 17, "UDP");
        assert_eq!(message[20..28], [10, 0, 0, 2, 10, 1, 0, 9]);
        assert_eq!(message[28..32], [15, 160, 0, 53], "ports");
        assert_eq!(message.len(), 8 + 20 + 8);
    }

    #[test]
    fn families_are_not_mixed() {
        let mixed = unreachable(
            "10.0.0.2:1".parse().unwrap(),
            "[fd00::1]:2".parse().unwrap(),
        );
        assert_eq!(mixed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
