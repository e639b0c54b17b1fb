//! Frontends and services: what clients dial, and what stands behind it.

use super::{Addr, Name, Port, abi_type};
use crate::hash::{Mixer, frontend_hash};

/// Layer-4 protocols, numbered as by IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp = 6,
    /// User Datagram Protocol.
    Udp = 17,
    /// Stream Control Transmission Protocol.
    Sctp = 132,
}

impl Protocol {
    /// From the number of the protocol field.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Which traffic policy a lookup obeys: internal and external traffic of one
/// address may have different backends (semantics C, F).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scope {
    /// Clients on this node: sockets, and packets of pods and of this host.
    Internal = 0,
    /// Packets that arrive from elsewhere.
    External = 1,
}

abi_type! {
    /// Key of `SERVICES`.
    #[derive(Hash)]
    pub struct FrontendKey [20] {
        /// Address that clients dial.
        pub addr: Addr,
        /// Port that clients dial.
        pub port: Port,
        /// [`Protocol`] number.
        pub protocol: u8,
        /// [`Scope`] number.
        pub scope: u8,
    }
}

impl FrontendKey {
    /// A key of the socket hooks' scope.
    #[inline(always)]
    pub const fn internal(addr: Addr, port: Port, protocol: Protocol) -> Self {
        Self {
            addr,
            port,
            protocol: protocol as u8,
            scope: Scope::Internal as u8,
        }
    }

    /// The same frontend in another scope.
    #[inline(always)]
    #[must_use]
    pub const fn in_scope(mut self, scope: Scope) -> Self {
        self.scope = scope as u8;
        self
    }

    /// The frontend of the same port at every node address: what a NodePort is stored under.
    /// Its address is the unspecified one of the family.
    #[inline(always)]
    #[must_use]
    pub const fn node_port(mut self) -> Self {
        self.addr = self.addr.unspecified();
        self
    }
}

abi_type! {
    /// Where a Maglev table lies in `MAGLEV`: {offset, length} in entries (u32 slots),
    /// read and written as one 64-bit word.
    pub struct TableRef [8] { bits: u64 }
}

impl TableRef {
    /// No table.
    pub const EMPTY: Self = Self { bits: 0 };

    /// A table of `len` entries that starts at entry `offset`.
    pub const fn new(offset: u32, len: u32) -> Self {
        Self {
            bits: offset as u64 | (len as u64) << 32,
        }
    }

    /// Index of the first entry.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.bits as u32
    }

    /// Number of entries; 0 means that no backend is applicable.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        (self.bits >> 32) as u32
    }

    /// Whether there is no entry.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The word as it lies in memory.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.bits
    }
}

abi_type! {
    /// Value of `SERVICES`.
    ///
    /// The kernel reuses a hash element at once after a delete or an update, so a
    /// program that holds a pointer to a value may see it turn into another key's,
    /// even half-way. `seal` covers the key and every field: the reader copies the
    /// value, recomputes the seal, and looks up again if it does not fit.
    pub struct ServiceEntry [24] {
        /// The applicable Maglev table; empty means [`FrontendFlags::DROP`] or refusal.
        pub table: TableRef,
        /// Index into `SERVICE_STATS`, and `SERVICE_INFO`.
        pub service_id: u32,
        /// [`FrontendFlags`].
        pub flags: u32,
        /// Session-affinity timeout in seconds; 0 means no affinity (rule H1).
        pub affinity_secs: u32,
        /// See the type's documentation.
        pub seal: u32,
    }
}

impl ServiceEntry {
    /// The same entry with the seal that fits `key`.
    #[must_use]
    pub fn sealed(mut self, key: &FrontendKey) -> Self {
        self.seal = self.expected_seal(key);
        self
    }

    /// Whether this value is whole and belongs to `key`.
    #[inline(always)]
    pub fn belongs_to(&self, key: &FrontendKey) -> bool {
        self.seal == self.expected_seal(key)
    }

    #[inline(always)]
    fn expected_seal(&self, key: &FrontendKey) -> u32 {
        Mixer::new(frontend_hash(key))
            .mix(self.table.bits())
            .mix(u64::from(self.service_id) | u64::from(self.flags) << 32)
            .mix(u64::from(self.affinity_secs) | u64::from(key.scope) << 32)
            .finish()
    }
}

/// Bits of [`ServiceEntry::flags`]; the low three bits are a [`FrontendKind`].
#[derive(Debug)]
pub struct FrontendFlags;

impl FrontendFlags {
    /// Mask of the [`FrontendKind`].
    pub const KIND_MASK: u32 = 0b111;
    /// The table is the service's local set, not its cluster set.
    pub const LOCAL_SET: u32 = 1 << 3;
    /// With an empty table: endpoints exist, but the policy excludes them; drop
    /// silently instead of refusing (rules C11, C12).
    pub const DROP: u32 = 1 << 4;
    /// In an entry of the internal scope: packets from outside have an entry of their own
    /// in the external scope. Without it they use this one.
    pub const EXTERNAL_DIFFERS: u32 = 1 << 5;
    /// Sources are checked against `SOURCE_RANGES` (rule E26). Sockets leave such a
    /// frontend to the packet path, which knows the source.
    pub const SOURCE_RANGES: u32 = 1 << 6;
    /// Packets from outside to a remote backend are sent on encapsulated, and the backend's
    /// node answers directly (DSR).
    pub const DSR: u32 = 1 << 7;
    /// Packets get an address of this node as source, wherever the backend is (rule G4). Sockets
    /// of pods leave such a frontend to the packet path: what a socket sends has no other source
    /// than its own.
    pub const MASQUERADE: u32 = 1 << 8;
}

/// Kind of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp = 0,
    /// `spec.ports[].nodePort` on this node's addresses.
    NodePort = 1,
    /// `spec.externalIPs`.
    ExternalIp = 2,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer = 3,
}

impl FrontendKind {
    /// Its bit in the values of `VIPS`.
    #[inline(always)]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// From the low bits of [`ServiceEntry::flags`].
    pub const fn from_flags(flags: u32) -> Option<Self> {
        match flags & FrontendFlags::KIND_MASK {
            0 => Some(Self::ClusterIp),
            1 => Some(Self::NodePort),
            2 => Some(Self::ExternalIp),
            3 => Some(Self::LoadBalancer),
            _ => None,
        }
    }
}

abi_type! {
    /// Element of `SERVICE_INFO`: what a service id means, so that tools need no daemon
    /// and a restarted controller finds what is programmed.
    ///
    /// A "service" here is one service port (namespace/name:port/protocol) in one
    /// address family; session affinity is per service (rule H1).
    pub struct ServiceInfo [232] {
        /// `metadata.namespace`.
        pub namespace: Name,
        /// `metadata.name`.
        pub name: Name,
        /// `spec.ports[].name`; empty for an unnamed port.
        pub port_name: Name,
        /// Table of the cluster set.
        pub cluster_table: TableRef,
        /// Table of the local set.
        pub local_table: TableRef,
        /// `spec.ports[].port`.
        pub port: Port,
        /// [`Protocol`] number.
        pub protocol: u8,
        /// Address family: 4 or 6; 0 means that the id is free.
        pub family: u8,
        /// `spec.type`: 0 ClusterIP, 1 NodePort, 2 LoadBalancer.
        pub service_type: u8,
        /// Bit 0: internalTrafficPolicy Local; bit 1: externalTrafficPolicy Local.
        pub local_policies: u8,
        /// Forwarding of packets from outside to remote backends: 0 SNAT, 1 DSR.
        pub forwarding: u8,
        /// Explicit padding, zero.
        pub reserved: u8,
        /// Session-affinity timeout in seconds; 0 means none.
        pub affinity_secs: u32,
        /// Pinned table length; 0 means adaptive.
        pub pinned_len: u32,
        /// Explicit padding, zero.
        pub reserved2: [u32; 2],
    }
}

impl ServiceInfo {
    /// A free id.
    pub const FREE: Self = Self {
        namespace: Name::EMPTY,
        name: Name::EMPTY,
        port_name: Name::EMPTY,
        cluster_table: TableRef::EMPTY,
        local_table: TableRef::EMPTY,
        port: Port::new(0),
        protocol: 0,
        family: 0,
        service_type: 0,
        local_policies: 0,
        forwarding: 0,
        reserved: 0,
        affinity_secs: 0,
        pinned_len: 0,
        reserved2: [0; 2],
    };

    /// Whether the id is in use.
    pub const fn is_used(&self) -> bool {
        self.family != 0
    }
}

abi_type! {
    /// Counters of one service, in `SERVICE_STATS`; zeroed when the id is reused.
    #[derive(Default)]
    pub struct ServiceStats [48] {
        /// Connections for which a backend was chosen.
        pub opened: u64,
        /// Of these, chosen by session affinity.
        pub affinity_hits: u64,
        /// Connections refused: no endpoint anywhere (rule C11).
        pub refused: u64,
        /// Connections dropped: no endpoint that the policy allows (rule C12).
        pub dropped: u64,
        /// UDP flows that had to share a backend with another VIP of the same socket.
        pub shared_backends: u64,
        /// Connections whose socket state could not be stored: they work, but the
        /// application sees the backend's address instead of the VIP.
        pub untracked: u64,
    }
}
