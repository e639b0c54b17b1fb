//! Frames built field by field; every checksum is computed from scratch, so that a frame
//! built with other addresses is what an incremental update has to give.

mod wire;

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::Protocol;

pub use wire::crc32c;

/// Destination and source MAC of a frame.
pub type Macs = ([u8; 6], [u8; 6]);

/// Macs of frames as they arrive: nothing in the datapath looks at them.
pub const ARRIVING: Macs = ([2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xbb]);

/// What follows the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp {
        /// `FIN`, `SYN`, `RST`, `ACK` as `lb_ebpf::parse::tcp` numbers them.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Receive window.
        window: u16,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// A UDP datagram, with or without a checksum.
    Udp(bool),
    /// An SCTP packet with a first chunk of this type.
    Sctp(u8),
    /// ICMP or ICMPv6: type, code, second word; the rest is payload.
    Icmp(u8, u8, u32),
    /// Anything else: a protocol number and payload.
    Raw(u8),
}

/// A place in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Identification.
    pub id: u32,
    /// First byte, a multiple of eight.
    pub offset: u16,
    /// Number of bytes.
    pub len: u16,
    /// Whether more follow.
    pub more: bool,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet addresses.
    pub macs: Macs,
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// IPv4 options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers: numbers and contents from their third byte on.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4: must not be fragmented.
    pub dont_fragment: bool,
    /// The piece that this is, if it is one.
    pub piece: Option<Piece>,
    /// The IP header states no length, as that of merged segments that are too long for it.
    pub unstated: bool,
    /// What follows the IP header.
    pub body: Body,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet with `body` and no payload.
    pub fn new(src: SocketAddr, dst: SocketAddr, body: Body) -> Self {
        Self {
            macs: ARRIVING,
            src,
            dst,
            hops: 64,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            id: 0x1234,
            dont_fragment: true,
            piece: None,
            unstated: false,
            body,
            payload: Vec::new(),
        }
    }

    /// A TCP segment.
    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: u8, seq: u32, ack: u32) -> Self {
        let body = Body::Tcp {
            flags,
            seq,
            ack,
            window: 0xfaf0,
            options: Vec::new(),
        };
        Self::new(src, dst, body)
    }

    /// The packet that opens a flow of `protocol`.
    pub fn opening(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(src, dst, 2, 1000, 0),
            Protocol::Udp => Self::new(src, dst, Body::Udp(true)).payload(b"question"),
            Protocol::Sctp => Self::new(src, dst, Body::Sctp(1)).payload(&[7; 16]),
        }
    }

    /// What the backend says first in a flow of `protocol`.
    pub fn answering(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(src, dst, 0x12, 5000, 1001),
            Protocol::Udp => Self::new(src, dst, Body::Udp(true)).payload(b"answer"),
            Protocol::Sctp => Self::new(src, dst, Body::Sctp(11)).payload(&[]),
        }
    }

    /// What the client sends after [`Self::answering`]: proof that it received it.
    pub fn proving(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(src, dst, 0x10, 1001, 5001),
            Protocol::Udp => Self::new(src, dst, Body::Udp(true)).payload(b"once more"),
            Protocol::Sctp => Self::new(src, dst, Body::Sctp(0)).payload(b"chunk of data"),
        }
    }

    /// The same between other ends.
    #[must_use]
    pub fn between(mut self, src: SocketAddr, dst: SocketAddr) -> Self {
        (self.src, self.dst) = (src, dst);
        self
    }

    /// The same with one hop less to go.
    #[must_use]
    pub fn hop(mut self) -> Self {
        self.hops -= 1;
        self
    }

    /// The same with another hop limit.
    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The same with other Ethernet addresses.
    #[must_use]
    pub fn macs(mut self, macs: Macs) -> Self {
        self.macs = macs;
        self
    }

    /// The same with other data.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same with IPv4 options.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// The same with one more IPv6 extension header; `rest` is 8n + 6 bytes.
    #[must_use]
    pub fn extension(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    /// The same with TCP options.
    #[must_use]
    pub fn tcp_options(mut self, new: &[u8]) -> Self {
        if let Body::Tcp { options, .. } = &mut self.body {
            *options = new.to_vec();
        }
        self
    }

    /// A piece of it.
    #[must_use]
    pub fn piece(mut self, id: u32, offset: u16, len: u16, more: bool) -> Self {
        self.dont_fragment = false;
        self.piece = Some(Piece {
            id,
            offset,
            len,
            more,
        });
        self
    }

    /// Number of the transport protocol.
    pub fn protocol(&self) -> u8 {
        match (&self.body, self.src.is_ipv4()) {
            (Body::Tcp { .. }, _) => 6,
            (Body::Udp(_), _) => 17,
            (Body::Sctp(_), _) => 132,
            (Body::Icmp(..), true) => 1,
            (Body::Icmp(..), false) => 58,
            (Body::Raw(number), _) => *number,
        }
    }

    /// An ICMP error from `from` about the packet that `quoted` is the start of.
    pub fn error(from: IpAddr, kind: (u8, u8), second: u32, to: IpAddr, quoted: &[u8]) -> Self {
        let (src, dst) = (SocketAddr::new(from, 0), SocketAddr::new(to, 0));
        let body = Body::Icmp(kind.0, kind.1, second);
        let mut error = Self::new(src, dst, body).payload(quoted);
        error.id = 0;
        error
    }

    /// The same without a stated length.
    #[must_use]
    pub fn unstated(mut self) -> Self {
        self.unstated = true;
        self
    }

    /// `self` inside an IP packet of its own family.
    #[must_use]
    pub fn inside(&self, src: IpAddr, dst: IpAddr) -> Self {
        let number = if src.is_ipv4() { 4 } else { 41 };
        let (src, dst) = (SocketAddr::new(src, 0), SocketAddr::new(dst, 0));
        let mut outer = Self::new(src, dst, Body::Raw(number)).payload(&self.ip());
        (outer.macs, outer.id) = (self.macs, 0);
        outer
    }
}
