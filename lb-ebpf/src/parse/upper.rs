//! Headers of transports, and ICMP errors with the packets that they embed.
#![forbid(unsafe_code)]

use super::{Fragment, IpHeader, NotOurs, Parsed, Tcp, Upper, bytes, halves, number, tcp};
use crate::{
    abi::{Port, Protocol},
    fault::{Fault, on},
    packet::Packet,
};

/// What follows the IP header: completes the tuple.
#[inline(always)]
pub(super) fn upper<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), NotOurs> {
    let ip = &parsed.ip;
    let (ports, upper) = match ip.protocol {
        6 => tcp(packet, ip)?,
        17 => (ports::<_, 2>(packet, ip)?, Upper::Udp),
        132 if !on(Fault::NoSctp) => {
            let ports = ports::<_, 3>(packet, ip)?;
            let chunk = match ip.fragment {
                Fragment::Later(_) => None,
                Fragment::Whole | Fragment::First(_) => packet.half(ip.upper + 12),
            };
            let chunk = chunk.map_or(u8::MAX, |half| half.to_ne_bytes()[0]);
            (ports, Upper::Sctp(chunk))
        }
        number::ICMP if ip.v4 => return icmp_error(packet, parsed),
        number::ICMPV6 if !ip.v4 => return icmp_error(packet, parsed),
        _ => return Err(NotOurs::Foreign),
    };
    parsed.upper = upper;
    let (src_port, dst_port) = halves(ports);
    let key = &mut parsed.key;
    key.src = ip.src;
    key.dst = ip.dst;
    key.src_port = Port::from_raw(src_port);
    key.dst_port = Port::from_raw(dst_port);
    key.protocol = ip.protocol;
    key.reserved = [0; 3];
    Ok(())
}

/// The word of the two ports, with which a header of `N` words begins; 0 in later fragments.
#[inline(always)]
fn ports<P: Packet, const N: usize>(packet: &P, ip: &IpHeader) -> Result<u32, NotOurs> {
    if let Fragment::Later(_) = ip.fragment {
        return Ok(0);
    }
    let words: [u32; N] = packet.words(ip.upper).ok_or(NotOurs::Truncated)?;
    Ok(words[0])
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, ip: &IpHeader) -> Result<(u32, Upper), NotOurs> {
    if let Fragment::Later(_) = ip.fragment {
        let nothing = Tcp {
            flags: 0,
            seq: 0,
            ack: 0,
            seq_len: 0,
        };
        return Ok((0, Upper::Tcp(nothing)));
    }
    let words: [u32; 5] = packet.words(ip.upper).ok_or(NotOurs::Truncated)?;
    let [offset, flags, _, _] = bytes(words[3]);
    let header = usize::from(offset >> 4) * 4;
    let payload = ip.len.saturating_sub(ip.header_len() + header);
    let seq_len =
        payload as u32 + u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0);
    let upper = Upper::Tcp(Tcp {
        flags,
        seq: u32::from_be(words[1]),
        ack: u32::from_be(words[2]),
        seq_len,
    });
    Ok((words[0], upper))
}

/// Destination unreachable, time exceeded, parameter problem.
const fn is_error_v4(kind: u8) -> bool {
    matches!(kind, 3 | 11 | 12)
}

/// The same, and packet too big.
const fn is_error_v6(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

/// An ICMP error with the tuple of what it embeds, turned round.
#[inline(always)]
fn icmp_error<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), NotOurs> {
    let ip = &parsed.ip;
    let [first, _] = packet.words(ip.upper).ok_or(NotOurs::Foreign)?;
    let [kind, _, _, _] = bytes(first);
    let is_error = if ip.v4 {
        is_error_v4(kind)
    } else {
        is_error_v6(kind)
    };
    if ip.fragment != Fragment::Whole || !is_error {
        return Err(NotOurs::Foreign);
    }
    let (v4, at) = (ip.v4, ip.upper + 8);
    super::ip(packet, v4, at, &mut parsed.embedded)?;
    let embedded = &parsed.embedded;
    if Protocol::from_number(embedded.protocol).is_none() {
        return Err(NotOurs::Foreign);
    }
    // Eight bytes of the transport header are certain to be there, the ports among them.
    let (src_port, dst_port) = halves(ports::<_, 1>(packet, embedded)?);
    let key = &mut parsed.key;
    key.src = embedded.dst;
    key.dst = embedded.src;
    key.src_port = Port::from_raw(dst_port);
    key.dst_port = Port::from_raw(src_port);
    key.protocol = embedded.protocol;
    key.reserved = [0; 3];
    parsed.upper = Upper::IcmpError;
    Ok(())
}
