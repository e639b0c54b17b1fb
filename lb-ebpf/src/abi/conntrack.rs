//! Connection tracking: one record per direction of a flow, with everything needed to
//! rewrite a packet of that direction.
//!
//! A flow has an *initiator* half (packets of the client, keyed by what the client sends)
//! and a *responder* half (packets of the backend, keyed by what the backend sends). Each
//! half can be made from the other ([`ConntrackEntry::mirror`]): the key of one is the
//! rewritten tuple of the other, turned round. A one-way flow (DSR, at the node that
//! forwards) has an initiator half only.

use super::{Addr, Port, abi_type};
use crate::hash::{Mixer, tuple_hash};

abi_type! {
    /// Key of `CONNTRACK` and `HALF_OPEN`: a tuple as it is on the wire before rewriting.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct ConntrackKey [40] {
        /// Source address.
        pub src: Addr,
        /// Destination address.
        pub dst: Addr,
        /// Source port.
        pub src_port: Port,
        /// Destination port.
        pub dst_port: Port,
        /// [`Protocol`](super::Protocol) number.
        pub protocol: u8,
        /// Explicit padding, zero.
        pub reserved: [u8; 3],
    }
}

impl ConntrackKey {
    /// No tuple at all.
    pub const EMPTY: Self = Self {
        src: Addr::UNSPECIFIED,
        dst: Addr::UNSPECIFIED,
        src_port: Port::new(0),
        dst_port: Port::new(0),
        protocol: 0,
        reserved: [0; 3],
    };

    /// The same tuple seen from the other end.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

abi_type! {
    /// Where packets of a half leave: what the FIB said, kept for at most one tick.
    pub struct NextHop [16] {
        /// Egress device; 0 means that the FIB has to be asked.
        pub ifindex: u32,
        /// Destination MAC; zero if the FIB knew no neighbour (TC resolves it, XDP leaves
        /// the packet to TC).
        pub dst_mac: [u8; 6],
        /// Source MAC.
        pub src_mac: [u8; 6],
    }
}

impl NextHop {
    /// The FIB has to be asked.
    pub const UNKNOWN: Self = Self {
        ifindex: 0,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    };
}

abi_type! {
    /// Value of `CONNTRACK` and `HALF_OPEN`: one half of a flow.
    ///
    /// `seal` covers the key, so that a reader whose element was reused for another flow
    /// notices it. `state`, `last_seen` and `proof` are written in place; everything else
    /// never changes while the record lives, except `hop`, which is replaced as a whole.
    pub struct ConntrackEntry [96] {
        /// What the source address becomes.
        pub src: Addr,
        /// What the destination address becomes.
        pub dst: Addr,
        /// What the source port becomes.
        pub src_port: Port,
        /// What the destination port becomes.
        pub dst_port: Port,
        /// [`ConntrackFlags`].
        pub flags: u32,
        /// [`ConntrackState`] of this half's direction.
        pub state: u32,
        /// [Tick](super::TICK_NS) of the last packet of this half.
        pub last_seen: u32,
        /// Tick in which the flow was made.
        pub created: u32,
        /// The service.
        pub service_id: u32,
        /// Slot of the backend.
        pub slot: u32,
        /// Generation of the backend.
        pub generation: u32,
        /// Initiator half, TCP, half-open: sequence number after the SYN-ACK, host order.
        pub proof: u32,
        /// The same after what the backend has sent since; an acknowledgement from `proof`
        /// up to here proves the initiator.
        pub proof_end: u32,
        /// See [`ConntrackEntry::belongs_to`].
        pub seal: u32,
        /// Next hop of redirected packets.
        pub hop: NextHop,
        /// MTU of the path of redirected packets, from the same answer of the FIB; 0 is unknown.
        pub mtu: u32,
    }
}

impl ConntrackEntry {
    /// No record.
    pub const EMPTY: Self = Self {
        src: Addr::UNSPECIFIED,
        dst: Addr::UNSPECIFIED,
        src_port: Port::new(0),
        dst_port: Port::new(0),
        flags: 0,
        state: 0,
        last_seen: 0,
        created: 0,
        service_id: 0,
        slot: 0,
        generation: 0,
        proof: 0,
        proof_end: 0,
        seal: 0,
        hop: NextHop::UNKNOWN,
        mtu: 0,
    };

    /// Whether this record was made for `key`.
    #[inline(always)]
    pub fn belongs_to(&self, key: &ConntrackKey) -> bool {
        self.seal == Self::seal_of(key)
    }

    /// The same record with the seal that fits `key`.
    #[inline(always)]
    #[must_use]
    pub fn sealed(mut self, key: &ConntrackKey) -> Self {
        self.seal = Self::seal_of(key);
        self
    }

    #[inline(always)]
    pub(crate) fn seal_of(key: &ConntrackKey) -> u32 {
        Mixer::new(tuple_hash(key)).finish()
    }

    /// Makes this the initiator half of a flow that goes on through the stack, with the
    /// source of `key`: flags, source, next hop.
    #[inline(always)]
    pub(crate) const fn through_stack(&mut self, key: &ConntrackKey) {
        self.flags = ConntrackFlags::INITIATOR | ConntrackFlags::MATE_AT_EGRESS;
        self.src = key.src;
        self.hop = NextHop::UNKNOWN;
        self.mtu = 0;
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether any of `state` is set.
    #[inline(always)]
    pub const fn is(&self, state: u32) -> bool {
        self.state & state != 0
    }

    /// The tuple that a packet of this half becomes.
    #[inline(always)]
    pub const fn rewritten(&self, protocol: u8) -> ConntrackKey {
        ConntrackKey {
            src: self.src,
            dst: self.dst,
            src_port: self.src_port,
            dst_port: self.dst_port,
            protocol,
            reserved: [0; 3],
        }
    }

    /// Key of the other half.
    #[inline(always)]
    pub const fn mirror_key(&self, key: &ConntrackKey) -> ConntrackKey {
        self.rewritten(key.protocol).reversed()
    }

    /// The other half, made from this one (whose key is `key`) as far as it can be: its
    /// own state and next hop start anew.
    #[inline(always)]
    #[must_use]
    pub fn mirror(&self, key: &ConntrackKey) -> (ConntrackKey, Self) {
        let mirror_key = self.mirror_key(key);
        let mut mirror = Self::EMPTY;
        self.mirror_into(key, &mirror_key, &mut mirror);
        (mirror_key, mirror)
    }

    /// [`Self::mirror`] in place; `mirror_key` is [`Self::mirror_key`].
    #[inline(always)]
    pub fn mirror_into(&self, key: &ConntrackKey, mirror_key: &ConntrackKey, mirror: &mut Self) {
        mirror.src = key.dst;
        mirror.dst = key.src;
        mirror.src_port = key.dst_port;
        mirror.dst_port = key.src_port;
        mirror.flags = ConntrackFlags::mirrored(self.flags);
        mirror.state = self.state & ConntrackState::SHARED;
        mirror.last_seen = self.last_seen;
        mirror.created = self.created;
        mirror.service_id = self.service_id;
        mirror.slot = self.slot;
        mirror.generation = self.generation;
        mirror.proof = self.proof;
        mirror.proof_end = self.proof_end;
        mirror.seal = Self::seal_of(mirror_key);
        mirror.hop = NextHop::UNKNOWN;
        mirror.mtu = 0;
    }

    /// Whether this half and `other` (whose key is [`Self::mirror_key`]) are one flow:
    /// `other` leads back to `key`.
    #[inline(always)]
    pub fn is_mate_of(&self, key: &ConntrackKey, other: &Self) -> bool {
        (other.src, other.src_port) == (key.dst, key.dst_port)
            && (other.dst, other.dst_port) == (key.src, key.src_port)
    }
}

/// Bits of [`ConntrackEntry::flags`]: where a half is applied and what happens then.
///
/// | flow | initiator | responder |
/// |---|---|---|
/// | to a backend through this node's stack | ingress, pass | egress, pass |
/// | to a remote backend from outside, hairpin | ingress, redirect | ingress, redirect |
/// | from a process of this host | egress, redirect | ingress, pass |
/// | DSR, at the node that forwards | ingress, encapsulate | none |
///
/// For one flow the node's netfilter sees both directions with the same addresses, or neither.
#[derive(Debug)]
pub struct ConntrackFlags;

impl ConntrackFlags {
    /// This is the initiator half.
    pub const INITIATOR: u32 = 1;
    /// The half is applied to packets that leave through a device, not to those that enter.
    pub const AT_EGRESS: u32 = 1 << 1;
    /// Send the packet to its next hop, past the stack; without it the stack goes on with it.
    pub const REDIRECT: u32 = 1 << 2;
    /// Encapsulate for DSR: the packet itself stays as it is.
    pub const ENCAPSULATE: u32 = 1 << 3;
    /// The other half is applied at egress.
    pub const MATE_AT_EGRESS: u32 = 1 << 4;
    /// The other half redirects.
    pub const MATE_REDIRECT: u32 = 1 << 5;
    /// The source port seen by the backend was chosen by us (SNAT, or a collision).
    pub const PORT_CHOSEN: u32 = 1 << 6;
    /// The source address seen by the backend is this node's.
    pub const SNAT: u32 = 1 << 7;
    /// The flow arrived encapsulated: replies go straight to the client, with the segment
    /// size of a SYN-ACK clamped.
    pub const DSR: u32 = 1 << 8;
    /// There is no other half.
    pub const ONE_WAY: u32 = 1 << 9;

    /// Flags that describe the flow, not the half.
    const SHARED: u32 = Self::PORT_CHOSEN | Self::SNAT | Self::DSR | Self::ONE_WAY;

    /// The flags of the other half.
    #[inline(always)]
    pub const fn mirrored(flags: u32) -> u32 {
        (flags & Self::SHARED)
            | (!flags & Self::INITIATOR)
            | (flags & (Self::AT_EGRESS | Self::REDIRECT)) << 3
            | (flags >> 3) & (Self::AT_EGRESS | Self::REDIRECT)
    }
}

/// Bits of [`ConntrackEntry::state`].
#[derive(Debug)]
pub struct ConntrackState;

impl ConntrackState {
    /// The backend has answered (set in both halves).
    pub const REPLIED: u32 = 1;
    /// The flow is proven and lives in `CONNTRACK` (set in both halves).
    pub const ESTABLISHED: u32 = 1 << 1;
    /// A FIN of this half's direction was seen.
    pub const FIN: u32 = 1 << 2;
    /// A RST of this half's direction was seen.
    pub const RST: u32 = 1 << 3;

    /// States that both halves have in common.
    pub const SHARED: u32 = Self::REPLIED | Self::ESTABLISHED;
}

/// Classes of lifetimes; index into [`Config::lifetimes`](super::Config::lifetimes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lifetime {
    /// TCP or SCTP that is not proven.
    HalfOpen = 0,
    /// TCP or SCTP that is proven.
    Established = 1,
    /// TCP of which one direction has ended.
    CloseWait = 2,
    /// TCP of which both directions have ended, or that was reset.
    Closed = 3,
    /// UDP without an answer.
    UdpNew = 4,
    /// UDP with answers.
    UdpStream = 5,
}

impl Lifetime {
    /// Number of classes.
    pub const COUNT: usize = 6;

    /// The class of a flow, from the union of what is known of its two halves: how many of
    /// the directions have sent a FIN (0, 1, 2) and whether one has sent a RST.
    #[inline(always)]
    pub const fn of(protocol: u8, state: u32, fins: u32) -> Self {
        if protocol == super::Protocol::Udp as u8 {
            if state & ConntrackState::REPLIED == 0 {
                Self::UdpNew
            } else {
                Self::UdpStream
            }
        } else if state & ConntrackState::RST != 0 || fins >= 2 {
            Self::Closed
        } else if fins == 1 {
            Self::CloseWait
        } else if state & ConntrackState::ESTABLISHED != 0 {
            Self::Established
        } else {
            Self::HalfOpen
        }
    }
}

abi_type! {
    /// Key of `FRAGMENTS` (LRU hash): the datagram that a fragment belongs to.
    #[derive(Hash)]
    pub struct FragmentKey [40] {
        /// Source address.
        pub src: Addr,
        /// Destination address.
        pub dst: Addr,
        /// Identification, as it is on the wire (IPv4: 16 bits).
        pub id: u32,
        /// Upper-layer protocol number.
        pub protocol: u8,
        /// Explicit padding, zero.
        pub reserved: [u8; 3],
    }
}

abi_type! {
    /// Value of `FRAGMENTS`: what the first fragment said.
    pub struct FragmentPorts [8] {
        /// Source port.
        pub src_port: Port,
        /// Destination port.
        pub dst_port: Port,
        /// Tick in which it was seen.
        pub seen: u32,
    }
}
