//! Rewriting a packet from one tuple to another, checksums included.
#![forbid(unsafe_code)]

use crate::{
    abi::{Addr, ConntrackKey, Protocol},
    checksum::{self, Delta},
    fault::{Fault, on},
    packet::Packet,
    parse::{Fragment, IpHeader, Parsed, Upper, joined},
};

/// The four address words that differ; IPv4 has one that counts.
#[inline(always)]
fn addr_diff(v4: bool, old: Addr, new: Addr) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (old.words(), new.words());
    let last = checksum::diff(d, h);
    if v4 {
        last
    } else {
        checksum::add(
            checksum::add(checksum::diff(a, e), checksum::diff(b, f)),
            checksum::add(checksum::diff(c, g), last),
        )
    }
}

/// Makes the packet have tuple `to`, and takes `hops` from its hop limit. `false` leaves it
/// in pieces: drop it.
#[inline(always)]
pub fn rewrite<P: Packet>(packet: &mut P, parsed: &Parsed, to: &ConntrackKey, hops: u8) -> bool {
    match parsed.upper {
        Upper::IcmpError => rewrite_error(packet, parsed, to, hops),
        _ => rewrite_plain(packet, parsed, to, hops),
    }
}

#[inline(always)]
fn rewrite_plain<P: Packet>(packet: &mut P, parsed: &Parsed, to: &ConntrackKey, hops: u8) -> bool {
    let (ip, from) = (&parsed.ip, &parsed.key);
    if !set_addresses(packet, ip, to.src, to.dst, hops) {
        return false;
    }
    if let Fragment::Later(_) = ip.fragment {
        // Ports and checksum were in the first one.
        return true;
    }
    let old_ports = joined(from.src_port.raw(), from.dst_port.raw());
    let new_ports = joined(to.src_port.raw(), to.dst_port.raw());
    let delta = Delta {
        pseudo: checksum::add(
            addr_diff(ip.v4, from.src, to.src),
            addr_diff(ip.v4, from.dst, to.dst),
        ),
        segment: checksum::diff(old_ports, new_ports),
    };
    if old_ports != new_ports && !packet.set_words(ip.upper, [new_ports]) {
        return false;
    }
    if on(Fault::ChecksumKept) {
        return true;
    }
    match Protocol::from_number(from.protocol) {
        Some(Protocol::Tcp) => packet.fix_checksum(ip.upper + 16, delta, false),
        Some(Protocol::Udp) => packet.fix_checksum(ip.upper + 6, delta, true),
        Some(Protocol::Sctp) => fix_crc(packet, ip, old_ports, new_ports),
        None => true,
    }
}

/// SCTP's checksum covers ports, but no addresses.
#[inline(always)]
fn fix_crc<P: Packet>(packet: &mut P, ip: &IpHeader, old: u32, new: u32) -> bool {
    if old == new {
        return true;
    }
    // The checksum of a fragment covers what is not here.
    if ip.fragment != Fragment::Whole {
        return false;
    }
    let Some([crc]) = packet.words(ip.upper + 8) else {
        return false;
    };
    // The checksum field itself counts as zeros.
    let after = ip.len.saturating_sub(ip.header_len() + 4) as u16;
    let crc = packet.updated_crc(u32::from_le_bytes(crc.to_ne_bytes()), old, new, after);
    packet.set_words(ip.upper + 8, [u32::from_ne_bytes(crc.to_le_bytes())])
}

/// Addresses, hop limit and (IPv4) header checksum.
#[inline(always)]
pub(crate) fn set_addresses<P: Packet>(
    packet: &mut P,
    ip: &IpHeader,
    src: Addr,
    dst: Addr,
    hops: u8,
) -> bool {
    if ip.v4 {
        let Some([word]) = packet.words(ip.at + 8) else {
            return false;
        };
        let [ttl, protocol, a, b] = word.to_ne_bytes();
        let changed = u32::from_ne_bytes([ttl.wrapping_sub(hops), protocol, 0, 0]);
        let delta = checksum::add(
            checksum::diff(u32::from_ne_bytes([ttl, protocol, 0, 0]), changed),
            checksum::add(addr_diff(true, ip.src, src), addr_diff(true, ip.dst, dst)),
        );
        let sum = checksum::updated(u16::from_ne_bytes([a, b]), delta).to_ne_bytes();
        let first = u32::from_ne_bytes([ttl.wrapping_sub(hops), protocol, sum[0], sum[1]]);
        packet.set_words(ip.at + 8, [first, src.v4_word(), dst.v4_word()])
    } else {
        let Some([word]) = packet.words(ip.at + 4) else {
            return false;
        };
        let [a, b, next, limit] = word.to_ne_bytes();
        let first = u32::from_ne_bytes([a, b, next, limit.wrapping_sub(hops)]);
        let ([c, d, e, f], [g, h, i, j]) = (src.words(), dst.words());
        packet.set_words(ip.at + 4, [first, c, d, e, f, g, h, i, j])
    }
}

/// An ICMP error: the outer header follows the flow, what is embedded is what the receiver
/// of the error once sent or would have sent (RFC 5508, section 4.2).
///
/// `to` is what a packet in the direction of the error becomes. A source that is not the
/// flow's end (a router) keeps its address unless the flow hides its source.
#[inline(always)]
fn rewrite_error<P: Packet>(packet: &mut P, parsed: &Parsed, to: &ConntrackKey, hops: u8) -> bool {
    let (ip, embedded, from) = (&parsed.ip, &parsed.embedded, &parsed.key);
    let hides_source = from.src != to.src;
    let src = if hides_source { to.src } else { ip.src };
    if !set_addresses(packet, ip, src, to.dst, hops)
        || !on(Fault::EmbeddedUntranslated) && !set_addresses(packet, embedded, to.dst, to.src, 0)
    {
        return false;
    }
    let old_ports = joined(from.dst_port.raw(), from.src_port.raw());
    let new_ports = joined(to.dst_port.raw(), to.src_port.raw());
    if old_ports != new_ports && !packet.set_words(embedded.upper, [new_ports]) {
        return false;
    }
    // The embedded IPv4 header sums up to the same as before: its own checksum took care.
    // The embedded transport checksum stays: receivers do not look at it.
    let ports = checksum::diff(old_ports, new_ports);
    let delta = if ip.v4 {
        Delta {
            pseudo: 0,
            segment: ports,
        }
    } else {
        let embedded_addresses = checksum::add(
            addr_diff(false, from.src, to.src),
            addr_diff(false, from.dst, to.dst),
        );
        Delta {
            pseudo: checksum::add(
                addr_diff(false, ip.src, src),
                addr_diff(false, ip.dst, to.dst),
            ),
            segment: checksum::add(ports, embedded_addresses),
        }
    };
    packet.fix_checksum(ip.upper + 2, delta, false)
}
