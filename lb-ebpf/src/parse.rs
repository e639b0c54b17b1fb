//! Bytes → tuple: the only place that knows header layouts.
#![forbid(unsafe_code)]

mod upper;

use crate::{
    abi::{Addr, ConntrackKey, FragmentKey},
    fault::{Fault, on},
    packet::Packet,
};

/// Protocol numbers that are no transport of services.
pub mod number {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
}

/// TCP flags.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
}

/// Extension headers that are walked; more are left to the kernel.
const MAX_EXTENSIONS: usize = 4;

/// What an IP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IpHeader {
    /// Where it starts.
    pub at: usize,
    /// Where the upper-layer header starts.
    pub upper: usize,
    /// IPv4 or IPv6.
    pub v4: bool,
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes from the start of this header, as the header says if it can.
    pub len: usize,
    /// Its place in a fragmented datagram.
    pub fragment: Fragment,
}

/// Place in a fragmented datagram; the identification is as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment, which has the ports.
    First(u32),
    /// A later one.
    Later(u32),
}

impl IpHeader {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        at: 0,
        upper: 0,
        v4: false,
        src: Addr::UNSPECIFIED,
        dst: Addr::UNSPECIFIED,
        protocol: 0,
        hop_limit: 0,
        len: 0,
        fragment: Fragment::Whole,
    };

    /// Bytes of this header and its extensions.
    #[inline(always)]
    pub const fn header_len(&self) -> usize {
        self.upper - self.at
    }

    /// The datagram that this fragment belongs to; `None` for a whole packet.
    #[inline(always)]
    pub const fn fragment_key(&self) -> Option<FragmentKey> {
        let id = match self.fragment {
            Fragment::Whole => return None,
            Fragment::First(id) | Fragment::Later(id) => id,
        };
        Some(FragmentKey {
            src: self.src,
            dst: self.dst,
            id,
            protocol: self.protocol,
            reserved: [0; 3],
        })
    }
}

/// What the upper-layer header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// TCP: flags, sequence and acknowledgement numbers, bytes of sequence space used.
    Tcp(Tcp),
    /// UDP, also when its header is not in this fragment.
    Udp,
    /// SCTP, with the type of its first chunk; the greatest number where there is none.
    Sctp(u8),
    /// An ICMP error, see [`Parsed::embedded`]. The tuple is that of a packet which goes the
    /// same way as the error does: what is embedded, turned round.
    IcmpError,
}

/// Fields of a TCP header, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Payload bytes, plus one for each of SYN and FIN.
    pub seq_len: u32,
}

impl Tcp {
    /// Whether this opens a connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }
}

/// A packet that may concern a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its (outer) IP header.
    pub ip: IpHeader,
    /// What comes after it.
    pub upper: Upper,
    /// The tuple under which a flow would know it. A fragment without ports has ports 0.
    pub key: ConntrackKey,
    /// The IP header that an ICMP error embeds.
    pub embedded: IpHeader,
    /// What the packet came in.
    pub outer: Outer,
}

/// The outer header of IP in IP, which may be that of a DSR packet: everything else is about
/// what is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Its length in bytes; 0 if there is none.
    pub len: usize,
    /// Its destination.
    pub dst: Addr,
}

impl Outer {
    /// No tunnel.
    pub const NONE: Self = Self {
        len: 0,
        dst: Addr::UNSPECIFIED,
    };
}

impl Parsed {
    /// Follows a packet in which everything moved back by `bytes` (modulo 2^64).
    #[inline(always)]
    pub(crate) const fn shift(&mut self, bytes: usize) {
        self.ip.at = self.ip.at.wrapping_add(bytes);
        self.ip.upper = self.ip.upper.wrapping_add(bytes);
        self.embedded.at = self.embedded.at.wrapping_add(bytes);
        self.embedded.upper = self.embedded.upper.wrapping_add(bytes);
    }

    /// Nothing parsed yet.
    pub const EMPTY: Self = Self {
        ip: IpHeader::EMPTY,
        upper: Upper::Udp,
        key: ConntrackKey::EMPTY,
        embedded: IpHeader::EMPTY,
        outer: Outer::NONE,
    };
}

/// Why a packet is none of ours, or cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NotOurs {
    /// No IP, or a protocol that services do not have.
    Foreign = 1,
    /// IPv6 extension headers that are not walked.
    Extensions = 2,
    /// Headers beyond the end of the frame, or longer than the header says.
    Truncated = 3,
}

impl NotOurs {
    /// A result as a number, for the border of a subprogram; 0 is success.
    #[inline(always)]
    pub const fn number(result: Result<(), Self>) -> u32 {
        match result {
            Ok(()) => 0,
            Err(why) => why as u32,
        }
    }

    /// The result behind a number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Result<(), Self> {
        match number {
            0 => Ok(()),
            2 => Err(Self::Extensions),
            3 => Err(Self::Truncated),
            _ => Err(Self::Foreign),
        }
    }
}

/// First and second half of a word.
#[inline(always)]
const fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
}

/// A word out of two halves.
#[inline(always)]
pub(crate) const fn joined(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The bytes of a word.
#[inline(always)]
const fn bytes(word: u32) -> [u8; 4] {
    word.to_ne_bytes()
}

/// Takes a frame apart, and what is inside if it is IP in IP of one family.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), NotOurs> {
    let (at, v4) = packet.network().ok_or(NotOurs::Foreign)?;
    parsed.outer.len = 0;
    ip(packet, v4, at, &mut parsed.ip)?;
    if is_tunnel(&parsed.ip) {
        let outer = &parsed.ip;
        if outer.fragment != Fragment::Whole {
            return Err(NotOurs::Foreign);
        }
        let at = outer.upper;
        parsed.outer.len = outer.header_len();
        parsed.outer.dst = outer.dst;
        ip(packet, v4, at, &mut parsed.ip)?;
    }
    upper::upper(packet, parsed)
}

const fn is_tunnel(ip: &IpHeader) -> bool {
    ip.protocol == if ip.v4 { number::IPV4 } else { number::IPV6 }
}

#[inline(always)]
fn ip<P: Packet>(packet: &P, v4: bool, at: usize, ip: &mut IpHeader) -> Result<(), NotOurs> {
    if v4 {
        ipv4(packet, at, ip)
    } else {
        ipv6(packet, at, ip)
    }
}

/// Bytes from `at` to the end of the datagram. Merged segments may be more than the header can
/// state: it says 0 then (BIG TCP, Linux 5.19 for IPv6, 6.3 for IPv4).
#[inline(always)]
fn length<P: Packet>(packet: &P, at: usize, stated: usize) -> usize {
    if stated == 0 && packet.is_super_packet() {
        packet.len().saturating_sub(at)
    } else {
        stated
    }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: usize, ip: &mut IpHeader) -> Result<(), NotOurs> {
    let words: [u32; 5] = packet.words(at).ok_or(NotOurs::Truncated)?;
    let [version, _, _, _] = bytes(words[0]);
    let header = usize::from(version & 0xf) * 4;
    let stated = usize::from(u16::from_be(halves(words[0]).1));
    let len = length(packet, at, stated);
    if version >> 4 != 4 || header < 20 || len < header {
        return Err(NotOurs::Truncated);
    }
    let (id, place) = halves(words[1]);
    let place = u16::from_be(place);
    let [hop_limit, protocol, _, _] = bytes(words[2]);
    ip.at = at;
    ip.upper = at + header;
    ip.v4 = true;
    ip.src = Addr::from_v4_word(words[3]);
    ip.dst = Addr::from_v4_word(words[4]);
    ip.protocol = protocol;
    ip.hop_limit = hop_limit;
    ip.len = len;
    ip.fragment = match (place & 0x1fff, place & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First(u32::from(id)),
        _ => Fragment::Later(u32::from(id)),
    };
    Ok(())
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: usize, ip: &mut IpHeader) -> Result<(), NotOurs> {
    let words: [u32; 10] = packet.words(at).ok_or(NotOurs::Truncated)?;
    let [version, _, _, _] = bytes(words[0]);
    if version >> 4 != 6 {
        return Err(NotOurs::Truncated);
    }
    let stated = usize::from(u16::from_be(halves(words[1]).0));
    let len = 40 + length(packet, at + 40, stated);
    let [_, _, next, hop_limit] = bytes(words[1]);
    let src = Addr::from_words([words[2], words[3], words[4], words[5]]);
    let dst = Addr::from_words([words[6], words[7], words[8], words[9]]);
    if (src.is_v4() || dst.is_v4()) && !on(Fault::MappedOnWire) {
        // A v4-mapped address on the wire would pass for the IPv4 one (RFC 4942, 2.2).
        return Err(NotOurs::Foreign);
    }
    ip.at = at;
    ip.upper = at + 40;
    ip.v4 = false;
    ip.src = src;
    ip.dst = dst;
    ip.protocol = next;
    ip.hop_limit = hop_limit;
    ip.len = len;
    ip.fragment = Fragment::Whole;
    for _ in 0..MAX_EXTENSIONS {
        let size = match ip.protocol {
            number::FRAGMENT => {
                let [first, id] = packet.words(ip.upper).ok_or(NotOurs::Truncated)?;
                let [next, _, _, _] = bytes(first);
                let place = u16::from_be(halves(first).1);
                ip.protocol = next;
                ip.fragment = match (place & 0xfff8, place & 1) {
                    // An atomic fragment is no fragment (RFC 6946).
                    (0, 0) => Fragment::Whole,
                    (0, _) => Fragment::First(id),
                    _ => Fragment::Later(id),
                };
                8
            }
            // Hop-by-hop options, routing header, destination options.
            0 | 43 | 60 => {
                let [first] = packet.words(ip.upper).ok_or(NotOurs::Truncated)?;
                let [next, size, _, _] = bytes(first);
                ip.protocol = next;
                (usize::from(size) + 1) * 8
            }
            _ => return Ok(()),
        };
        ip.upper += size;
        if let Fragment::Later(_) = ip.fragment {
            // What follows is payload.
            return Ok(());
        }
    }
    match ip.protocol {
        number::FRAGMENT | 0 | 43 | 60 => Err(NotOurs::Extensions),
        _ => Ok(()),
    }
}
