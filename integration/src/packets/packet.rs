//! Frames built field by field; every checksum is computed from scratch, so that a frame
//! built with other addresses is what an incremental update has to give.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, TcpHeader,
    checksum::Sum16BitWords,
};

use lb_ebpf::abi::Protocol;

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

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut out = [self.macs.0, self.macs.1].concat();
        out.extend(ethertype.to_be_bytes());
        out.extend(self.ip());
        out
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let mut segment = self.segment();
        if let Some(piece) = self.piece {
            let (from, len) = (usize::from(piece.offset), usize::from(piece.len));
            segment = segment[from..(from + len).min(segment.len())].to_vec();
        }
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), &segment),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), &segment),
            _ => panic!("{self:?} has addresses of two families"),
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], segment: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Header {
            total_len: (20 + self.ip_options.len() + segment.len()) as u16,
            identification: self.piece.map_or(self.id, |piece| piece.id as u16),
            dont_fragment: self.dont_fragment,
            more_fragments: self.piece.is_some_and(|piece| piece.more),
            fragment_offset: self.offset(),
            time_to_live: self.hops,
            protocol: IpNumber(self.protocol()),
            source: src,
            destination: dst,
            options: Ipv4Options::try_from(self.ip_options.as_slice()).expect("4n bytes"),
            ..Ipv4Header::default()
        };
        header.header_checksum = header.calc_header_checksum();
        [header.to_bytes().as_slice(), segment].concat()
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], segment: &[u8]) -> Vec<u8> {
        let mut chain = Vec::new();
        let mut next = self.protocol();
        if let Some(piece) = self.piece {
            let header = Ipv6FragmentHeader {
                next_header: IpNumber(next),
                fragment_offset: self.offset(),
                more_fragments: piece.more,
                identification: piece.id,
            };
            chain = header.to_bytes().to_vec();
            next = 44;
        }
        for (number, rest) in self.extensions.iter().rev() {
            let words = u8::try_from((rest.len() + 2) / 8 - 1).expect("a short header");
            chain = [&[next, words], rest.as_slice(), &chain].concat();
            next = *number;
        }
        let header = Ipv6Header {
            payload_length: (chain.len() + segment.len()) as u16,
            next_header: IpNumber(next),
            hop_limit: self.hops,
            source: src,
            destination: dst,
            ..Ipv6Header::default()
        };
        [header.to_bytes().as_slice(), &chain, segment].concat()
    }

    fn offset(&self) -> IpFragOffset {
        let bytes = self.piece.map_or(0, |piece| piece.offset);
        IpFragOffset::try_new(bytes / 8).expect("13 bits")
    }

    /// Transport header and payload.
    pub fn segment(&self) -> Vec<u8> {
        let mut out = self.transport_header();
        out.extend(&self.payload);
        let at = match &self.body {
            Body::Tcp { .. } => 16,
            Body::Udp(true) => 6,
            Body::Icmp(..) => 2,
            Body::Sctp(_) => {
                let crc = crc32c(&out).to_le_bytes();
                out[8..12].copy_from_slice(&crc);
                return out;
            }
            Body::Udp(false) | Body::Raw(_) => return out,
        };
        let mut sum = self.checksum(&out);
        if at == 6 && sum == 0 {
            sum = 0xffff;
        }
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn transport_header(&self) -> Vec<u8> {
        let ports = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        match &self.body {
            Body::Tcp {
                flags,
                seq,
                ack,
                window,
                options,
            } => {
                let mut header = TcpHeader::new(self.src.port(), self.dst.port(), *seq, *window);
                header.acknowledgment_number = *ack;
                (header.fin, header.syn) = (flags & 1 != 0, flags & 2 != 0);
                (header.rst, header.ack) = (flags & 4 != 0, flags & 16 != 0);
                header.set_options_raw(options).expect("4n bytes");
                header.to_bytes().to_vec()
            }
            Body::Udp(_) => {
                let len = (8 + self.payload.len()) as u16;
                [ports.as_slice(), &len.to_be_bytes(), &[0, 0]].concat()
            }
            Body::Sctp(chunk) => {
                let len = (4 + self.payload.len()) as u16;
                let tag_and_checksum = [0xca, 0xfe, 0, 1, 0, 0, 0, 0];
                let chunk = [*chunk, 0];
                [
                    ports.as_slice(),
                    &tag_and_checksum,
                    &chunk,
                    &len.to_be_bytes(),
                ]
                .concat()
            }
            Body::Icmp(kind, code, second) => {
                [&[*kind, *code, 0, 0], second.to_be_bytes().as_slice()].concat()
            }
            Body::Raw(_) => Vec::new(),
        }
    }

    /// The Internet checksum of a segment whose checksum field is zero.
    fn checksum(&self, segment: &[u8]) -> u16 {
        let len = segment.len() as u32;
        let pseudo = match (self.src.ip(), self.dst.ip()) {
            // ICMP over IPv4 has no pseudo header.
            (IpAddr::V4(_), _) if self.protocol() == 1 => Sum16BitWords::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => Sum16BitWords::new()
                .add_4bytes(src.octets())
                .add_4bytes(dst.octets())
                .add_2bytes([0, self.protocol()])
                .add_4bytes(len.to_be_bytes()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Sum16BitWords::new()
                .add_16bytes(src.octets())
                .add_16bytes(dst.octets())
                .add_2bytes([0, self.protocol()])
                .add_4bytes(len.to_be_bytes()),
            _ => panic!("{self:?} has addresses of two families"),
        };
        pseudo.add_slice(segment).ones_complement().to_be()
    }

    /// An ICMP error about `about` from `from`, with as much of it as `quoted` bytes are.
    pub fn error(from: IpAddr, kind: (u8, u8), second: u32, to: IpAddr, quoted: &[u8]) -> Self {
        let (src, dst) = (SocketAddr::new(from, 0), SocketAddr::new(to, 0));
        let body = Body::Icmp(kind.0, kind.1, second);
        let mut error = Self::new(src, dst, body).payload(quoted);
        error.id = 0;
        error
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

/// CRC32c of an SCTP packet whose checksum field is zero, bit by bit (RFC 9260, appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
