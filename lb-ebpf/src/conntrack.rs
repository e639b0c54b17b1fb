//! Flows that exist: finding them, proving them, keeping their two halves together.
//!
//! A flow starts in [`FlowState::HalfOpen`] and moves to [`FlowState::Proven`] when its
//! initiator is proven to receive what the backend sends: TCP by acknowledging the
//! SYN-ACK, UDP by sending again after an answer, SCTP after COOKIE-ACK. Nothing that
//! a spoofed source can make a backend send proves a flow.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        Config, ConntrackEntry, ConntrackFlags, ConntrackKey, ConntrackState, Lifetime, PacketEvent,
    },
    fault::{Fault, on},
    packet::Packet,
    parse::{Parsed, Upper, tcp},
    tables::{Conntrack, FlowState, PacketTables, Record},
};

/// First chunk of an SCTP packet that proves the initiator's cookie.
const SCTP_COOKIE_ACK: u8 = 11;
/// First chunk of an SCTP packet that opens an association.
const SCTP_INIT: u8 = 1;

/// Where the pipeline keeps what is too large for a program's stack (512 bytes): one of
/// these per CPU. A packet is judged without interruption by another on the same CPU.
#[derive(Debug)]
#[repr(C)]
pub struct Scratch {
    /// The packet.
    pub parsed: Parsed,
    /// The half of the packet.
    pub entry: ConntrackEntry,
    /// Key of the other half.
    pub mirror_key: ConntrackKey,
    /// The other half.
    pub mirror: ConntrackEntry,
}

impl Scratch {
    /// Nothing in it.
    pub const EMPTY: Self = Self {
        parsed: Parsed::EMPTY,
        entry: ConntrackEntry::EMPTY,
        mirror_key: ConntrackKey::EMPTY,
        mirror: ConntrackEntry::EMPTY,
    };

    /// Sets the key of the other half.
    #[inline(always)]
    pub(crate) fn aim_at_mirror(&mut self) {
        let (key, entry) = (&self.parsed.key, &self.entry);
        let mirror = &mut self.mirror_key;
        mirror.src = entry.dst;
        mirror.dst = entry.src;
        mirror.src_port = entry.dst_port;
        mirror.dst_port = entry.src_port;
        mirror.protocol = key.protocol;
        mirror.reserved = [0; 3];
    }

    /// Makes the other half from this one.
    #[inline(always)]
    pub(crate) fn make_mirror(&mut self) {
        self.entry
            .mirror_into(&self.parsed.key, &self.mirror_key, &mut self.mirror);
    }

    /// Whether `mirror`, found under `mirror_key`, leads back here.
    #[inline(always)]
    pub(crate) fn is_mate(&self) -> bool {
        self.entry.is_mate_of(&self.parsed.key, &self.mirror)
    }
}

/// A record that was found; its copy is in the scratch.
#[derive(Clone, Copy, Debug)]
pub struct Found<R> {
    /// Where.
    pub table: FlowState,
    /// In place.
    pub record: R,
    /// This packet is the half's first in this tick, or its first at all: the next hop has
    /// to be asked for.
    pub touched: bool,
}

/// The half that the packet belongs to, into [`Scratch::entry`].
///
/// Proven flows are looked up first: their packets pay for one lookup. A flow moves from
/// one table to the other while others read: whoever misses it in both looks again. The
/// same second look heals a record that was reused while it was copied.
#[inline(always)]
pub fn find<C: Conntrack>(conntrack: &C, scratch: &mut Scratch) -> Option<Found<C::Record>> {
    let (key, entry) = (&scratch.parsed.key, &mut scratch.entry);
    for table in [FlowState::Proven, FlowState::HalfOpen, FlowState::Proven] {
        if let Some(record) = find_in(conntrack, table, key, entry) {
            return Some(Found {
                table,
                record,
                touched: entry.hop.ifindex == 0,
            });
        }
    }
    None
}

#[inline(always)]
fn find_in<C: Conntrack>(
    conntrack: &C,
    table: FlowState,
    key: &ConntrackKey,
    entry: &mut ConntrackEntry,
) -> Option<C::Record> {
    let record = conntrack.find(table, key)?;
    record.read_into(entry);
    entry.belongs_to(key).then_some(record)
}

/// The other half, into [`Scratch::mirror`]; `None` if it is missing.
#[inline(always)]
fn find_mirror<C: Conntrack>(
    conntrack: &C,
    table: FlowState,
    scratch: &mut Scratch,
) -> Option<C::Record> {
    scratch.aim_at_mirror();
    find_in(conntrack, table, &scratch.mirror_key, &mut scratch.mirror)
}

/// Removes both halves of the flow in the scratch.
#[inline(always)]
pub fn remove<C: Conntrack>(conntrack: &C, table: FlowState, scratch: &mut Scratch) {
    conntrack.remove(table, &scratch.parsed.key);
    if find_mirror(conntrack, table, scratch).is_some() && scratch.is_mate() {
        conntrack.remove(table, &scratch.mirror_key);
    }
}

/// What a packet finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The flow goes on.
    Continues,
    /// The record was stale: as if there had been none.
    Gone,
}

/// Brings a flow's records up to date with one of its packets.
///
/// The fast path, a proven flow that was seen in this tick and whose packet changes no
/// state, reads a clock and returns.
#[inline(always)]
pub fn follow<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    found: &mut Found<T::Record>,
) -> Outcome {
    // Errors about a flow are no packets of it.
    if scratch.parsed.upper == Upper::IcmpError {
        return Outcome::Continues;
    }
    let now = packet.tick();
    let touches = now != scratch.entry.last_seen;
    let one_way = scratch.entry.has(ConntrackFlags::ONE_WAY);
    let half_open = found.table == FlowState::HalfOpen && !one_way;
    if !touches && !half_open {
        return end(tables, scratch, found);
    }
    let mate = if one_way {
        None
    } else {
        match mate_or_restore(packet, tables, scratch, found) {
            Mate::Ours(record) => Some(record),
            Mate::Missing => None,
            Mate::Foreign => {
                tables.remove(found.table, &scratch.parsed.key);
                return Outcome::Gone;
            }
        }
    };
    if touches {
        if expired(&tables.config(), scratch, mate.is_some(), now) && !refreshes(scratch) {
            remove(tables, found.table, scratch);
            return Outcome::Gone;
        }
        found.record.set_last_seen(now);
        scratch.entry.last_seen = now;
        found.touched = true;
    }
    if half_open && let Some(mate) = mate {
        if scratch.entry.has(ConntrackFlags::INITIATOR) {
            if proves(scratch) {
                promote(packet, tables, scratch, found);
            }
        } else {
            answered(scratch, found, &mate);
        }
    }
    end(tables, scratch, found)
}

/// FIN and RST are remembered; a SYN on a flow that has ended starts a new one.
#[inline(always)]
fn end<T: Conntrack>(tables: &T, scratch: &mut Scratch, found: &Found<T::Record>) -> Outcome {
    let Upper::Tcp(header) = scratch.parsed.upper else {
        return Outcome::Continues;
    };
    let state = scratch.entry.state;
    let mut new = state;
    if header.flags & (tcp::FIN | tcp::RST | tcp::SYN) == 0 {
        // Who goes on after a reset did not believe it (it may have been forged).
        new &= !ConntrackState::RST;
    }
    if header.opens() && scratch.entry.has(ConntrackFlags::INITIATOR) {
        let other = match find_mirror(tables, found.table, scratch) {
            Some(_) => scratch.mirror.state,
            None => 0,
        };
        let ended =
            (state | other) & ConntrackState::RST != 0 || state & other & ConntrackState::FIN != 0;
        if ended {
            remove(tables, found.table, scratch);
            return Outcome::Gone;
        }
        return Outcome::Continues;
    }
    if header.flags & tcp::FIN != 0 {
        new |= ConntrackState::FIN;
    }
    if header.flags & tcp::RST != 0 && on(Fault::ResetEnds) {
        remove(tables, found.table, scratch);
    } else if header.flags & tcp::RST != 0 {
        new |= ConntrackState::RST;
    }
    if new != state {
        scratch.entry.state = new;
        found.record.set_state(new);
    }
    Outcome::Continues
}

/// Data of a proven TCP flow brings it back from the dead, as long as nobody buried it.
#[inline(always)]
const fn refreshes(scratch: &Scratch) -> bool {
    match scratch.parsed.upper {
        Upper::Tcp(header) => {
            scratch.entry.is(ConntrackState::ESTABLISHED) && header.flags & tcp::SYN == 0
        }
        _ => false,
    }
}

/// Whether the flow in the scratch has outlived its lifetime.
#[inline(always)]
fn expired(config: &Config, scratch: &Scratch, has_mate: bool, now: u32) -> bool {
    let half = &scratch.entry;
    let other = if has_mate { &scratch.mirror } else { half };
    // Ticks wrap after 145 years; a mate may be ahead of `now` by a tick (another CPU).
    let ages = (
        now.wrapping_sub(half.last_seen) as i32,
        now.wrapping_sub(other.last_seen) as i32,
    );
    let idle = if ages.0 < ages.1 { ages.0 } else { ages.1 };
    let fins = u32::from(half.is(ConntrackState::FIN)) + u32::from(other.is(ConntrackState::FIN));
    let class = Lifetime::of(scratch.parsed.key.protocol, half.state | other.state, fins);
    idle > config.lifetime(class) as i32 && !on(Fault::FlowsForever)
}

/// The other half of a flow.
enum Mate<R> {
    /// It is there, and in the scratch.
    Ours(R),
    /// Its place belongs to another flow: this half is stale.
    Foreign,
    /// It was missing; it is there again if there was room.
    Missing,
}

#[inline(always)]
fn mate_or_restore<P: Packet, T: Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    found: &Found<T::Record>,
) -> Mate<T::Record> {
    if let Some(mate) = find_mirror(tables, found.table, scratch) {
        return if scratch.is_mate() {
            Mate::Ours(mate)
        } else {
            Mate::Foreign
        };
    }
    scratch.make_mirror();
    if tables.insert(found.table, &scratch.mirror_key, &scratch.mirror, false) {
        packet.count(PacketEvent::HalfRestored, 0);
    }
    Mate::Missing
}

/// A packet of the backend on a flow that is not proven: what it says is written to the
/// initiator's half, `mate`.
#[inline(always)]
fn answered<R: Record>(scratch: &mut Scratch, found: &Found<R>, mate: &R) {
    match scratch.parsed.upper {
        Upper::Tcp(header) if header.flags & tcp::RST == 0 => {
            let end = header.seq.wrapping_add(header.seq_len);
            if header.flags & tcp::SYN == 0 {
                let more = end.wrapping_sub(scratch.mirror.proof_end) as i32 > 0;
                if scratch.mirror.is(ConntrackState::REPLIED) && more {
                    mate.set_proof(scratch.mirror.proof, end);
                }
                return;
            }
            mate.set_proof(end, end);
        }
        Upper::Udp | Upper::Sctp(SCTP_COOKIE_ACK) => {}
        _ => return,
    }
    if !scratch.entry.is(ConntrackState::REPLIED) {
        scratch.entry.state |= ConntrackState::REPLIED;
        found.record.set_state(scratch.entry.state);
    }
    mate.set_state(scratch.mirror.state | ConntrackState::REPLIED);
}

/// Whether a packet of the initiator proves that it receives the backend's packets.
#[inline(always)]
fn proves(scratch: &Scratch) -> bool {
    let entry = &scratch.entry;
    if !entry.is(ConntrackState::REPLIED) {
        return false;
    }
    match scratch.parsed.upper {
        Upper::Tcp(header) => {
            header.flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK
                && (on(Fault::BlindAckProves)
                    || header.ack.wrapping_sub(entry.proof)
                        <= entry.proof_end.wrapping_sub(entry.proof))
        }
        Upper::Udp | Upper::Sctp(_) => true,
        Upper::IcmpError => false,
    }
}

/// Moves both halves to the proven flows; if there is no room they stay where they are.
#[inline(always)]
fn promote<P: Packet, T: Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    found: &mut Found<T::Record>,
) {
    let proven = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;
    scratch.entry.state |= proven;
    scratch.mirror.state |= proven;
    // The responder half first: whoever finds the initiator half finds a complete flow.
    let (key, mirror_key) = (&scratch.parsed.key, &scratch.mirror_key);
    if !tables.insert(FlowState::Proven, mirror_key, &scratch.mirror, true)
        || !tables.insert(FlowState::Proven, key, &scratch.entry, true)
    {
        tables.remove(FlowState::Proven, mirror_key);
        scratch.entry.state &= !ConntrackState::ESTABLISHED;
        packet.count(PacketEvent::ConntrackFull, 0);
        return;
    }
    tables.remove(FlowState::HalfOpen, key);
    tables.remove(FlowState::HalfOpen, mirror_key);
    packet.count(PacketEvent::Established, 0);
    if let Some(record) = tables.find(FlowState::Proven, key) {
        found.table = FlowState::Proven;
        found.record = record;
    }
}

/// Whether the packet may open a flow.
#[inline(always)]
pub const fn opens(upper: &Upper) -> bool {
    match upper {
        Upper::Tcp(header) => header.opens(),
        Upper::Udp => true,
        Upper::Sctp(chunk) => *chunk == SCTP_INIT,
        Upper::IcmpError => false,
    }
}
