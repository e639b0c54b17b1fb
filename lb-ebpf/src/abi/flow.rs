//! What is remembered of a client or a socket.

use super::{Addr, Port, abi_type};

/// What [`AffinityKey::client`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ClientKind {
    /// A source address (packets).
    Address = 0,
    /// A network-namespace cookie in the first two words (socket hooks: a pod is
    /// one client, all processes of the host are one client; rule H8).
    Netns = 1,
}

abi_type! {
    /// Key of `AFFINITY`: (client, service) without VIP and source port (rule H1).
    #[derive(Hash)]
    pub struct AffinityKey [24] {
        /// The client, as [`ClientKind`] says.
        pub client: Addr,
        /// The service.
        pub service_id: u32,
        /// [`ClientKind`] number.
        pub kind: u32,
    }
}

impl AffinityKey {
    /// The key of a client known by its network namespace.
    #[inline(always)]
    pub const fn netns(cookie: u64, service_id: u32) -> Self {
        Self {
            client: Addr::from_words([cookie as u32, (cookie >> 32) as u32, 0, 0]),
            service_id,
            kind: ClientKind::Netns as u32,
        }
    }
}

abi_type! {
    /// Value of `AFFINITY`.
    pub struct AffinityEntry [16] {
        /// Monotonic clock, nanoseconds, of the last new connection (rule H2).
        pub last_used_ns: u64,
        /// The remembered backend.
        pub slot: u32,
        /// Its generation.
        pub generation: u32,
    }
}

abi_type! {
    /// Socket storage of a connected socket (TCP, or UDP after `connect()`).
    pub struct ConnectedFlow [64] {
        /// What the application dialled.
        pub vip: Addr,
        /// Where the socket is connected to.
        pub backend: Addr,
        /// Port that the application dialled.
        pub vip_port: Port,
        /// Port that the socket is connected to.
        pub backend_port: Port,
        /// Slot of the backend.
        pub slot: u32,
        /// Generation of the backend.
        pub generation: u32,
        /// The service.
        pub service_id: u32,
        /// [`Protocol`](super::Protocol) number.
        pub protocol: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
        /// Cookie of the socket's network namespace.
        pub netns: u64,
    }
}

/// How many VIPs one unconnected UDP socket can use at a time.
///
/// The flow that was made first is forgotten for the next one; replies that still
/// arrive for it then show the backend's address.
pub const DATAGRAM_FLOWS: usize = 8;

abi_type! {
    /// One VIP that an unconnected UDP socket talks to.
    pub struct DatagramFlow [48] {
        /// What the application sends to.
        pub vip: Addr,
        /// Where its datagrams go.
        pub backend: Addr,
        /// Port that the application sends to.
        pub vip_port: Port,
        /// Port where its datagrams go.
        pub backend_port: Port,
        /// Slot of the backend.
        pub slot: u32,
        /// Generation of the backend.
        pub generation: u32,
        /// 0: unused; see [`DatagramFlow::VALID`] and [`DatagramFlow::SHARED`].
        pub state: u32,
    }
}

impl DatagramFlow {
    /// The flow may be used.
    pub const VALID: u32 = 1;
    /// Another VIP of the same socket uses the same backend, so that a reply does
    /// not tell which one it is for: the most recently used one is reported.
    pub const SHARED: u32 = 2;

    /// An unused flow.
    pub const EMPTY: Self = Self {
        vip: Addr::UNSPECIFIED,
        backend: Addr::UNSPECIFIED,
        vip_port: Port::new(0),
        backend_port: Port::new(0),
        slot: 0,
        generation: 0,
        state: 0,
    };
}

abi_type! {
    /// Socket storage of an unconnected UDP socket.
    pub struct DatagramFlows [392] {
        /// The flows; a new one goes to a free place, else to the oldest.
        pub flows: [DatagramFlow; DATAGRAM_FLOWS],
        /// Index of the place that the next new flow takes when none is free.
        pub oldest: u32,
        /// Index of the flow used last; kept only while flows share a backend.
        pub recent: u32,
    }
}

impl DatagramFlows {
    /// No flow yet.
    pub const EMPTY: Self = Self {
        flows: [DatagramFlow::EMPTY; DATAGRAM_FLOWS],
        oldest: 0,
        recent: 0,
    };
}
