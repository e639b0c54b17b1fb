//! A packet as the pipeline sees it: bytes, the device, and what can be done with them.
//!
//! Implemented over XDP and TC contexts, and over a byte vector in tests. Multi-byte
//! fields are read and written as 16- or 32-bit words in memory (network) order; offsets
//! count from the Ethernet header.
#![forbid(unsafe_code)]

use crate::{
    abi::{NextHop, PacketEvent},
    checksum::Delta,
    route::{Query, Route},
};

/// Length of an Ethernet header; devices without one are not attached to.
pub const ETHERNET: usize = 14;

/// The EtherType of IPv4, host order.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// The EtherType of IPv6, host order.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where a program is attached; every property is constant within one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Packets leave the device; else they enter.
    pub egress: bool,
    /// The device leads to pods of this node: its packets use the internal scope.
    pub pod_facing: bool,
    /// The hook cannot answer, reassemble or resolve neighbours: what needs that is left,
    /// untouched, to the hook that comes later.
    pub early: bool,
}

impl Place {
    /// XDP on an uplink.
    pub const XDP: Self = Self {
        egress: false,
        pod_facing: false,
        early: true,
    };
    /// TC ingress of an uplink or a backend route.
    pub const INGRESS: Self = Self {
        egress: false,
        pod_facing: false,
        early: false,
    };
    /// TC egress of an uplink or a backend route.
    pub const EGRESS: Self = Self {
        egress: true,
        pod_facing: false,
        early: false,
    };
    /// TC ingress of a pod-facing device: what pods send.
    pub const POD_INGRESS: Self = Self {
        egress: false,
        pod_facing: true,
        early: false,
    };
    /// TC egress of a pod-facing device: what pods receive.
    pub const POD_EGRESS: Self = Self {
        egress: true,
        pod_facing: true,
        early: false,
    };
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on, as it came or rewritten.
    Pass,
    /// Leaves through a device. A next hop without MACs is resolved by the hook.
    Redirect(NextHop),
    /// Enters the device that it was about to leave: an answer to a process of this host.
    Bounce,
    /// Ends here.
    Drop,
}

/// A packet at a hook.
#[expect(clippy::len_without_is_empty, reason = "no frame is empty")]
pub trait Packet {
    /// Where this is.
    const PLACE: Place;

    /// Index of the device.
    fn ifindex(&self) -> u32;
    /// Where the IP header starts, and whether it is IPv4; `None` if there is none.
    fn network(&self) -> Option<(usize, bool)>;
    /// Gives the packet an Ethernet header if it lacks one, and says how far everything
    /// moved; `None` if that failed.
    fn complete(&mut self) -> Option<usize>;
    /// `N` words at `at`; `None` beyond the end.
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]>;
    /// The half-word at `at`.
    fn half(&self, at: usize) -> Option<u16>;
    /// Overwrites `N` words at `at`; `false` if that is impossible.
    fn set_words<const N: usize>(&mut self, at: usize, words: [u32; N]) -> bool;
    /// Overwrites the half-word at `at`.
    fn set_half(&mut self, at: usize, half: u16) -> bool;
    /// Brings the transport checksum at `at` up to date; `udp` keeps "no checksum" (0) as it is.
    fn fix_checksum(&mut self, at: usize, delta: Delta, udp: bool) -> bool;
    /// Whether the packet stands for several segments that are cut apart later, each of
    /// which fits the device that it came from.
    fn is_super_packet(&self) -> bool;
    /// Bytes in the frame.
    fn len(&self) -> usize;
    /// Cuts the frame to `len` bytes (never longer).
    fn truncate(&mut self, len: usize) -> bool;
    /// Inserts `N` words between Ethernet header and what follows; `tunnel` if what follows
    /// becomes the inside of a tunnel, as which the kernel may cut it into segments.
    fn push_front<const N: usize>(&mut self, words: [u32; N], tunnel: bool) -> bool;
    /// Removes `len` bytes (20 or 40) after the Ethernet header.
    fn pull_front(&mut self, len: usize) -> bool;
    /// Asks the FIB.
    fn route(&self, query: &Query) -> Route;
    /// The current [tick](crate::abi::TICK_NS).
    fn tick(&self) -> u32;
    /// Monotonic clock, nanoseconds.
    fn now_ns(&self) -> u64;
    /// 32 uniformly random bits.
    fn random(&self) -> u32;
    /// [`crc32c::updated`](crate::checksum::crc32c::updated): long arithmetic, which a program
    /// keeps apart.
    fn updated_crc(&self, crc: u32, old: u32, new: u32, after: u16) -> u32 {
        crate::checksum::crc32c::updated(crc, old, new, after)
    }
    /// Counts an event at this device.
    fn count(&self, event: PacketEvent, detail: u32);
}
