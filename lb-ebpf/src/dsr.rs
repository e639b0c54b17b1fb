//! Direct server return: IP in IP to the backend's node, which answers the client itself.
//!
//! The outer destination is the backend's own address: it tells the receiving node which
//! backend was chosen. A receiver trusts an encapsulated packet only if the outer
//! destination is a backend of its own whose service uses DSR, and the inner destination
//! is a frontend of that service; everything else it leaves alone.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        BackendFlags, ConntrackEntry, ConntrackFlags, FrontendFlags, LocalBackendKey, PacketEvent,
        ServiceEntry,
    },
    answer,
    checksum::{self, Delta},
    conntrack::{self, Outcome, Scratch},
    fault::{Fault, on},
    nat,
    open::{self, Opened},
    packet::{Packet, Verdict},
    parse::{Parsed, Upper, number, tcp},
    pipeline::{self, Step},
    ports::Ports,
    select::{self, Choice},
    tables::{Conntrack, PacketTables},
};

/// TCP options that are looked at for the segment size; it comes first in practice.
const OPTIONS: usize = 6;

/// Bytes that encapsulation adds.
#[inline(always)]
pub const fn overhead(v4: bool) -> u32 {
    if v4 { 20 } else { 40 }
}

/// Puts the packet into another to the backend's address.
#[inline(always)]
pub(crate) fn encapsulate<P: Packet>(
    packet: &mut P,
    parsed: &Parsed,
    entry: &ConntrackEntry,
) -> bool {
    // RFC 2003, section 3.1: the hop limit inside goes down when the packet is forwarded.
    let ip = &parsed.ip;
    if !nat::set_addresses(packet, ip, ip.src, ip.dst, 1) {
        return false;
    }
    let (src, dst) = (entry.src, entry.dst);
    if ip.v4 {
        packet.push_front(answer::ipv4(src, dst, ip.len, number::IPV4), true)
    } else {
        packet.push_front(answer::ipv6(src, dst, ip.len, number::IPV6), true)
    }
}

/// A packet that may be an encapsulated one for a backend of this node.
#[inline(always)]
pub(crate) fn receive<P: Packet, T: PacketTables + Conntrack>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
) -> Step {
    const PASS: Step = Step::Done(Verdict::Pass);
    let removed = scratch.parsed.outer.len;
    if removed as u32 != overhead(scratch.parsed.ip.v4) {
        return PASS;
    }
    let Some((service, choice)) = destined(tables, &scratch.parsed) else {
        packet.count(PacketEvent::ForeignTunnel, 0);
        return PASS;
    };
    match flow(packet, tables, scratch, &service, choice) {
        Opened::Flow => {}
        Opened::Drop(event, detail) => return pipeline::dropped(packet, event, detail),
        Opened::Pass | Opened::Absent | Opened::Later | Opened::Refuse => return PASS,
    }
    let Some(moved) = packet.complete() else {
        return pipeline::dropped(packet, PacketEvent::RewriteFailed, 0);
    };
    scratch.parsed.shift(moved);
    if !packet.pull_front(removed) {
        return pipeline::dropped(packet, PacketEvent::RewriteFailed, 0);
    }
    scratch.parsed.shift(removed.wrapping_neg());
    Step::Forward
}

/// The service and the backend of this node that an encapsulated packet is for.
#[inline(always)]
fn destined<T: PacketTables>(tables: &T, inner: &Parsed) -> Option<(ServiceEntry, Choice)> {
    let destination = inner.outer.dst;
    let key = open::frontend_key(&inner.key);
    // A NodePort at the address of the node that forwards: any address will do.
    let service = select::frontend(tables, &key).or_else(|| select::node_port(tables, &key))?;
    if service.flags & FrontendFlags::DSR == 0 {
        return None;
    }
    let slot = tables.local_backend(&LocalBackendKey {
        addr: destination,
        service_id: service.service_id,
    })?;
    let backend = tables.backend(slot)?;
    let fits = backend.addr == destination
        && backend.service_id == service.service_id
        && backend.has(BackendFlags::USED | BackendFlags::LOCAL);
    (fits || on(Fault::TunnelsTrusted)).then_some((service, Choice { slot, backend }))
}

/// The flow of an encapsulated packet: the one that exists, or a new one to the backend
/// that the sender chose, also mid-stream.
#[inline(always)]
fn flow<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    service: &ServiceEntry,
    choice: Choice,
) -> Opened {
    if let Some(mut found) = conntrack::find(tables, scratch) {
        let entry = &scratch.entry;
        let same = entry.has(ConntrackFlags::INITIATOR)
            && entry.dst == choice.backend.addr
            && entry.flags & (ConntrackFlags::REDIRECT | ConntrackFlags::ENCAPSULATE) == 0;
        if same && conntrack::follow(packet, tables, scratch, &mut found) == Outcome::Continues {
            return Opened::Flow;
        }
    }
    if scratch.parsed.upper == Upper::IcmpError {
        return Opened::Pass;
    }
    scratch.entry.through_stack(&scratch.parsed.key);
    scratch.entry.flags |= ConntrackFlags::DSR;
    open::make(packet, tables, scratch, service, choice, Ports::OWN)
}

/// Lowers the segment size that a SYN-ACK offers the client, so that the client's segments
/// fit the device even when they are encapsulated on their way. `false` if the packet
/// could not be changed.
#[inline(always)]
pub(crate) fn clamp_segment_size<P: Packet, T: PacketTables>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed,
) -> bool {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    let Upper::Tcp(header) = parsed.upper else {
        return true;
    };
    if header.flags & tcp::SYN == 0 {
        return true;
    }
    let Some(device) = tables.device(packet.ifindex()) else {
        return true;
    };
    let headers = overhead(parsed.ip.v4) * 2 + 20;
    let most = device.mtu.saturating_sub(headers).min(u32::from(u16::MAX)) as u16;
    let mut at = parsed.ip.upper + 20;
    for _ in 0..OPTIONS {
        let Some(option) = packet.half(at) else {
            return true;
        };
        let [kind, len] = option.to_ne_bytes();
        match kind {
            END => return true,
            NOP => at += 1,
            SEGMENT_SIZE => {
                let Some(old) = packet.half(at + 2) else {
                    return true;
                };
                if u16::from_be(old) <= most {
                    return true;
                }
                // A half-word at an odd offset counts with its bytes the other way round.
                let odd = (at - parsed.ip.upper) & 1 == 1;
                let seen = |half: u16| u32::from(if odd { half.swap_bytes() } else { half });
                let delta = Delta {
                    pseudo: 0,
                    segment: checksum::diff(seen(old), seen(most.to_be())),
                };
                return packet.set_half(at + 2, most.to_be())
                    && packet.fix_checksum(parsed.ip.upper + 16, delta, false);
            }
            _ if len < 2 => return true,
            _ => at += usize::from(len),
        }
    }
    true
}
