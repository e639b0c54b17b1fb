//! Answers of our own: TCP RST, ICMP and ICMPv6 errors, made out of the offending packet.
//!
//! Errors embed the IP header and as much of the transport header as its checksum field
//! needs, at least eight bytes (RFC 792, RFC 4443). Nothing answers an ICMP error, a
//! reset, or a fragment other than the first (RFC 1122, section 3.2.2).
#![forbid(unsafe_code)]

use crate::{
    abi::Addr,
    checksum,
    packet::{ETHERNET, Packet, Verdict},
    parse::{Fragment, IpHeader, Parsed, Tcp, Upper, joined, number, tcp},
    route::{Query, Route},
};

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody is there (TCP).
    Reset,
    /// Nobody is there (others).
    PortUnreachable,
    /// The next hop takes only so many bytes (RFC 1191, RFC 8201).
    TooBig(u16),
    /// Too many hops.
    HopLimit,
}

/// Hop limit of answers.
const HOPS: u8 = 64;

/// Turns the packet into its answer and sends it back; drops it where no answer is due.
#[inline(always)]
pub fn send<P: Packet>(packet: &mut P, parsed: &Parsed, answer: Answer) -> Verdict {
    if matches!(parsed.upper, Upper::IcmpError) || matches!(parsed.ip.fragment, Fragment::Later(_))
    {
        return Verdict::Drop;
    }
    let made = match (answer, parsed.upper) {
        (Answer::Reset, Upper::Tcp(header)) => reset(packet, parsed, &header),
        (Answer::Reset, _) => false,
        (_, _) if parsed.ip.v4 => icmp(packet, parsed, answer),
        _ => icmpv6(packet, parsed, answer),
    };
    if made {
        back(packet, parsed)
    } else {
        Verdict::Drop
    }
}

/// Towards the sender.
#[inline(always)]
fn back<P: Packet>(packet: &mut P, parsed: &Parsed) -> Verdict {
    if P::PLACE.egress {
        return if swap_macs(packet) {
            Verdict::Bounce
        } else {
            Verdict::Drop
        };
    }
    let key = &parsed.key;
    let query = Query {
        src: key.dst,
        dst: key.src,
        src_port: key.dst_port,
        dst_port: key.src_port,
        protocol: key.protocol,
    };
    match packet.route(&query) {
        Route::Hop(hop, _) => Verdict::Redirect(hop),
        Route::Local | Route::None => Verdict::Drop,
    }
}

/// The device drops what is not addressed to it.
#[inline(always)]
fn swap_macs<P: Packet>(packet: &mut P) -> bool {
    let Some(macs) = packet.words::<3>(0) else {
        return false;
    };
    let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (
        macs[0].to_ne_bytes(),
        macs[1].to_ne_bytes(),
        macs[2].to_ne_bytes(),
    );
    packet.set_words(
        0,
        [
            u32::from_ne_bytes([g, h, i, j]),
            u32::from_ne_bytes([k, l, a, b]),
            u32::from_ne_bytes([c, d, e, f]),
        ],
    )
}

/// RFC 9293, section 3.5.2: a reset takes its sequence number from the acknowledgement, or
/// acknowledges what it got.
#[inline(always)]
fn reset<P: Packet>(packet: &mut P, parsed: &Parsed, header: &Tcp) -> bool {
    const LEN: u16 = 20;
    let (ip, key) = (&parsed.ip, &parsed.key);
    let (seq, ack, flags) = if header.flags & tcp::ACK == 0 {
        (
            0,
            header.seq.wrapping_add(header.seq_len),
            tcp::RST | tcp::ACK,
        )
    } else {
        (header.ack, 0, tcp::RST)
    };
    let words = [
        joined(key.dst_port.raw(), key.src_port.raw()),
        seq.to_be(),
        ack.to_be(),
        u32::from_ne_bytes([5 << 4, flags, 0, 0]),
    ];
    let mut sum = pseudo_sum(ip, LEN, 6);
    for word in words {
        sum = checksum::add(sum, word);
    }
    let checksum = u32::from(!checksum::fold(sum));
    let [a, b, _, _] = checksum.to_ne_bytes();
    let last = u32::from_ne_bytes([a, b, 0, 0]);
    let upper = ETHERNET + if ip.v4 { 20 } else { 40 };
    packet.truncate(upper + usize::from(LEN))
        && set_ip(packet, ip, LEN, 6)
        && packet.set_words(upper, [words[0], words[1], words[2], words[3], last])
}

/// One's complement sum of the pseudo header (either family: they sum up alike).
#[inline(always)]
fn pseudo_sum(ip: &IpHeader, len: u16, protocol: u8) -> u32 {
    let (src, dst) = (ip.src.words(), ip.dst.words());
    let mut sum = checksum::add(
        u32::from(len.to_be()),
        u32::from_ne_bytes([0, protocol, 0, 0]),
    );
    let first = if ip.v4 { 3 } else { 0 };
    for i in 0..4 {
        if i >= first {
            sum = checksum::add(sum, checksum::add(src[i], dst[i]));
        }
    }
    sum
}

/// An IP header from the packet's destination to its source, over the old one.
#[inline(always)]
fn set_ip<P: Packet>(packet: &mut P, ip: &IpHeader, len: u16, protocol: u8) -> bool {
    let len = usize::from(len);
    if ip.v4 {
        packet.set_words(ETHERNET, ipv4(ip.dst, ip.src, len, protocol))
    } else {
        packet.set_words(ETHERNET, ipv6(ip.dst, ip.src, len, protocol))
    }
}

/// An IPv4 header; `len` is what follows it. Not to be fragmented.
#[inline(always)]
pub(crate) fn ipv4(src: Addr, dst: Addr, len: usize, protocol: u8) -> [u32; 5] {
    let [a, b] = statable(len + 20).to_be_bytes();
    let words = [
        u32::from_ne_bytes([0x45, 0, a, b]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([HOPS, protocol, 0, 0]),
        src.v4_word(),
        dst.v4_word(),
    ];
    let mut sum = 0;
    for word in words {
        sum = checksum::add(sum, word);
    }
    let [c, d] = (!checksum::fold(sum)).to_ne_bytes();
    let third = u32::from_ne_bytes([HOPS, protocol, c, d]);
    [words[0], words[1], third, words[3], words[4]]
}

/// An IPv6 header; `len` is what follows it.
#[inline(always)]
pub(crate) fn ipv6(src: Addr, dst: Addr, len: usize, protocol: u8) -> [u32; 10] {
    let ([c, d, e, f], [g, h, i, j]) = (src.words(), dst.words());
    let [a, b] = statable(len).to_be_bytes();
    let first = u32::from_ne_bytes([0x60, 0, 0, 0]);
    let second = u32::from_ne_bytes([a, b, protocol, HOPS]);
    [first, second, c, d, e, f, g, h, i, j]
}

/// A length as a header states it: 0 if it does not fit, as of merged segments.
#[inline(always)]
const fn statable(len: usize) -> u16 {
    if len <= u16::MAX as usize {
        len as u16
    } else {
        0
    }
}

/// Transport words that an error embeds: TCP's reach to its checksum field.
#[inline(always)]
const fn embedded_words(parsed: &Parsed) -> usize {
    if let Upper::Tcp(_) = parsed.upper {
        5
    } else {
        2
    }
}

/// One's complement sum of the embedded transport words.
#[inline(always)]
fn transport_sum<P: Packet>(packet: &P, parsed: &Parsed) -> Option<u32> {
    if embedded_words(parsed) == 5 {
        let words = packet.words::<5>(parsed.ip.upper)?;
        let mut sum = 0;
        for word in words {
            sum = checksum::add(sum, word);
        }
        Some(sum)
    } else {
        let words = packet.words::<2>(parsed.ip.upper)?;
        Some(checksum::add(words[0], words[1]))
    }
}

#[inline(always)]
fn icmp<P: Packet>(packet: &mut P, parsed: &Parsed, answer: Answer) -> bool {
    let ip = &parsed.ip;
    let (kind, code, mtu) = match answer {
        Answer::Reset => return false,
        Answer::PortUnreachable => (3, 3, 0),
        Answer::TooBig(mtu) => (3, 4, mtu),
        Answer::HopLimit => (11, 0, 0),
    };
    let Some(transport) = transport_sum(packet, parsed) else {
        return false;
    };
    let [a, b] = mtu.to_be_bytes();
    let second = u32::from_ne_bytes([0, 0, a, b]);
    // An IPv4 header with its checksum sums up to "minus zero".
    let mut sum = checksum::add(u32::from_ne_bytes([kind, code, 0, 0]), second);
    sum = checksum::add(sum, transport);
    let [c, d] = (!checksum::fold(sum)).to_ne_bytes();
    let embedded = ip.header_len() + embedded_words(parsed) * 4;
    let outer = ipv4(ip.dst, ip.src, 8 + embedded, number::ICMP);
    packet.truncate(ip.at + embedded)
        && packet.push_front(
            [
                outer[0],
                outer[1],
                outer[2],
                outer[3],
                outer[4],
                u32::from_ne_bytes([kind, code, c, d]),
                second,
            ],
            false,
        )
}

/// One's complement sum of an IPv6 header that an error embeds, with its fragment header if
/// it has one. Packets with other extension headers stay unanswered.
#[inline(always)]
fn header_sum<P: Packet>(packet: &P, ip: &IpHeader) -> Option<u32> {
    let fragment = match ip.header_len() {
        40 => [0; 2],
        48 if ip.fragment != Fragment::Whole => packet.words(ip.at + 40)?,
        _ => return None,
    };
    let mut sum = checksum::add(fragment[0], fragment[1]);
    for word in packet.words::<10>(ip.at)? {
        sum = checksum::add(sum, word);
    }
    Some(sum)
}

#[inline(always)]
fn icmpv6<P: Packet>(packet: &mut P, parsed: &Parsed, answer: Answer) -> bool {
    let ip = &parsed.ip;
    let (kind, code, mtu) = match answer {
        Answer::Reset => return false,
        Answer::PortUnreachable => (1, 4, 0),
        Answer::TooBig(mtu) => (2, 0, u32::from(mtu)),
        Answer::HopLimit => (3, 0, 0),
    };
    let (Some(header), Some(transport)) = (header_sum(packet, ip), transport_sum(packet, parsed))
    else {
        return false;
    };
    let embedded = ip.header_len() + embedded_words(parsed) * 4;
    let len = 8 + embedded;
    let mut sum = pseudo_sum(ip, len as u16, number::ICMPV6);
    sum = checksum::add(sum, u32::from_ne_bytes([kind, code, 0, 0]));
    sum = checksum::add(sum, mtu.to_be());
    sum = checksum::add(sum, checksum::add(header, transport));
    let [a, b] = (!checksum::fold(sum)).to_ne_bytes();
    let [c, d, e, f, g, h, i, j, k, l] = ipv6(ip.dst, ip.src, len, number::ICMPV6);
    let first = u32::from_ne_bytes([kind, code, a, b]);
    packet.truncate(ip.at + embedded)
        && packet.push_front([c, d, e, f, g, h, i, j, k, l, first, mtu.to_be()], false)
}
