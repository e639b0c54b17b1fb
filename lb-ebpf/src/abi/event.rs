//! What happened to packets, counted by reason and device.

use super::abi_type;

/// Why a packet was dropped, refused, or left alone although it concerned a service.
///
/// Numbers are part of the ABI: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum PacketEvent {
    /// Dropped: endpoints exist, but none that the policy allows (rule C12).
    NoLocalEndpoint = 0,
    /// Dropped: the source is in none of the source ranges (rule E26).
    SourceRange = 1,
    /// Refused with RST or ICMP: no endpoint anywhere (rule C11).
    Refused = 2,
    /// Dropped: should have been refused, but the limit of refusals per second was reached.
    RefusalLimited = 3,
    /// Dropped: every probed SNAT port towards the backend is taken by an established flow.
    PortsExhausted = 4,
    /// Dropped: hop limit reached; the sender was told.
    HopLimit = 5,
    /// Dropped: larger than the path to the backend allows; the sender was told.
    TooBig = 6,
    /// Dropped: there is no route to the backend, or forwarding is off.
    NoRoute = 7,
    /// Dropped: a header does not fit its own length fields.
    Malformed = 8,
    /// Dropped: the packet could not be changed as needed (out of memory).
    RewriteFailed = 9,
    /// Dropped: the flow's record could not be stored.
    NoRecord = 10,
    /// Left to the kernel: TCP of an unknown flow that is no SYN.
    MidStream = 11,
    /// Left to the kernel: a fragment for an address of this node that came before the first
    /// one of its datagram, which has the ports, or that concerns no service.
    FragmentBeforeFirst = 12,
    /// Left to the kernel: an encapsulated packet that fits no DSR backend of this node.
    ForeignTunnel = 13,
    /// Counted beside delivery: a proven flow stays half-open because `CONNTRACK` is full.
    ConntrackFull = 14,
    /// Counted beside delivery: a half-open flow lost its SNAT port to a newer one.
    PortTaken = 15,
    /// Counted beside delivery: XDP left a packet of a service to TC.
    LeftToTc = 16,
    /// Counted beside delivery: a flow was made.
    Opened = 17,
    /// Counted beside delivery: a flow was proven and moved to `CONNTRACK`.
    Established = 18,
    /// Counted beside delivery: half a flow was missing and was made from the other half.
    HalfRestored = 19,
    /// Left to the kernel: IPv6 extension headers that the datapath does not walk.
    ExtensionHeaders = 20,
    /// Refused with RST or ICMP: a ClusterIP, but none of its ports (rule E3).
    UndefinedPort = 21,
    /// Dropped: in a range for ClusterIPs, but no Service has the address (rule E3).
    UnallocatedClusterIp = 22,
}

impl PacketEvent {
    /// All of them, by number.
    pub const ALL: [Self; 23] = [
        Self::NoLocalEndpoint,
        Self::SourceRange,
        Self::Refused,
        Self::RefusalLimited,
        Self::PortsExhausted,
        Self::HopLimit,
        Self::TooBig,
        Self::NoRoute,
        Self::Malformed,
        Self::RewriteFailed,
        Self::NoRecord,
        Self::MidStream,
        Self::FragmentBeforeFirst,
        Self::ForeignTunnel,
        Self::ConntrackFull,
        Self::PortTaken,
        Self::LeftToTc,
        Self::Opened,
        Self::Established,
        Self::HalfRestored,
        Self::ExtensionHeaders,
        Self::UndefinedPort,
        Self::UnallocatedClusterIp,
    ];

    /// Whether the packet did not reach its destination.
    pub const fn is_drop(self) -> bool {
        (self as u32) < Self::MidStream as u32
            || matches!(self, Self::UndefinedPort | Self::UnallocatedClusterIp)
    }

    /// The word that tools and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoLocalEndpoint => "no_local_endpoint",
            Self::SourceRange => "source_range",
            Self::Refused => "refused",
            Self::RefusalLimited => "refusal_limited",
            Self::PortsExhausted => "ports_exhausted",
            Self::FragmentBeforeFirst => "fragment_before_first",
            Self::HopLimit => "hop_limit",
            Self::TooBig => "too_big",
            Self::NoRoute => "no_route",
            Self::Malformed => "malformed",
            Self::RewriteFailed => "rewrite_failed",
            Self::NoRecord => "no_record",
            Self::MidStream => "mid_stream",
            Self::ForeignTunnel => "foreign_tunnel",
            Self::ConntrackFull => "conntrack_full",
            Self::PortTaken => "port_taken",
            Self::LeftToTc => "left_to_tc",
            Self::Opened => "opened",
            Self::Established => "established",
            Self::HalfRestored => "half_restored",
            Self::ExtensionHeaders => "extension_headers",
            Self::UndefinedPort => "undefined_port",
            Self::UnallocatedClusterIp => "unallocated_cluster_ip",
        }
    }

    /// From a number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

abi_type! {
    /// Key of `EVENTS` (per-CPU hash; the value is a u64 count).
    #[derive(Hash, PartialOrd, Ord)]
    pub struct EventKey [12] {
        /// Device at which the packet was seen.
        pub ifindex: u32,
        /// [`PacketEvent`] number.
        pub event: u32,
        /// [`PacketEvent::PortsExhausted`]: slot of the backend; else 0.
        pub detail: u32,
    }
}

abi_type! {
    /// Element of `REJECTS` (per-CPU array of one): how many refusals this tick has had.
    #[derive(Default)]
    pub struct RejectBudget [8] {
        /// The tick.
        pub tick: u32,
        /// Refusals sent in it.
        pub sent: u32,
    }
}
