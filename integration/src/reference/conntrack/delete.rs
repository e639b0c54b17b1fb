//! Deleting one tracked flow through ctnetlink.
//!
//! `conntrack -D` walks the whole table for each flow, which is tens of milliseconds; the kernel
//! finds a flow by its tuple at once.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use super::Flow;

/// A connection to ctnetlink of this namespace.
pub(super) struct Deleter(OwnedFd);

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 0x1 | 0x4;
const UDP: u8 = 17;
const NESTED: u16 = 0x8000;
const NETLINK_HEADER: usize = 16;

// === impl Deleter ===

impl Deleter {
    pub(super) fn open() -> Result<Self, Errno> {
        let netfilter = SockProtocol::NetlinkNetFilter;
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, netfilter).map(Self)
    }

    /// Whether the flow was there.
    pub(super) fn delete(&self, flow: &Flow) -> Result<bool, Errno> {
        send(self.0.as_raw_fd(), &message(flow), MsgFlags::empty())?;
        let mut answer = [0; 512];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let error = answer[..length].get(NETLINK_HEADER..NETLINK_HEADER + 4);
        let error = error.and_then(|bytes| bytes.try_into().ok());
        match Errno::from_raw(-i32::from_ne_bytes(error.ok_or(Errno::EBADMSG)?)) {
            Errno::UnknownErrno => Ok(true),
            Errno::ENOENT => Ok(false),
            other => Err(other),
        }
    }
}

fn message(flow: &Flow) -> Vec<u8> {
    let (from, to) = (flow.from, flow.to);
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [attribute(1, &from.octets()), attribute(2, &to.octets())]
        }
        (from, to) => [attribute(3, &octets(from)), attribute(4, &octets(to))],
    };
    let ports = [
        attribute(1, &[UDP]),
        attribute(2, &from.port().to_be_bytes()),
        attribute(3, &to.port().to_be_bytes()),
    ];
    let tuple = [
        attribute(1 | NESTED, &addresses.concat()),
        attribute(2 | NESTED, &ports.concat()),
    ];
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let mut body = vec![family as u8, 0, 0, 0];
    body.extend(attribute(1 | NESTED, &tuple.concat()));
    let length = (NETLINK_HEADER + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(DELETE.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and port: one request at a time needs neither.
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A netlink attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
