//! Every map key and value, flag and limit that kernel and userspace share.
//!
//! Types are `repr(C)`, made of integers only, without implicit padding (zerocopy
//! refuses to compile them otherwise), and have their sizes asserted. Any change
//! of layout or meaning needs a new [`ABI_VERSION`]: pins live in a directory
//! named after it.

mod addr;
mod backend;
mod config;
mod conntrack;
mod device;
mod event;
mod flow;
#[cfg(not(target_arch = "bpf"))]
pub mod layout;
mod range;
mod service;
mod socket;
mod status;

pub use addr::{Addr, Port};
pub use backend::{BackendEntry, BackendFlags, BackendStats};
pub use config::{Config, ConfigFlags, TICK_NS, TICK_SHIFT};
pub use conntrack::{
    ConntrackEntry, ConntrackFlags, ConntrackKey, ConntrackState, FragmentKey, FragmentPorts,
    Lifetime, NextHop,
};
pub use device::{
    Device, DeviceClass, DeviceFlags, LocalBackendKey, NodeAddress, SourceRange, SourceRangeKey,
};
pub use event::{EventKey, PacketEvent, RejectBudget};
pub use flow::{
    AffinityEntry, AffinityKey, ClientKind, ConnectedFlow, DATAGRAM_FLOWS, DatagramFlow,
    DatagramFlows,
};
pub use range::{AddressRange, SERVICE_RANGES, ServiceRange, ServiceRangeFlags, ServiceRanges};
pub use service::{
    FrontendFlags, FrontendKey, FrontendKind, Protocol, Scope, ServiceEntry, ServiceInfo,
    ServiceStats, TableRef,
};
pub use socket::{FoundSocket, GONE_BACKENDS, SocketLayout};
pub use status::{Collected, Name, Status, StatusFlags};

/// Version of everything in this module; part of the pin directory's name.
pub const ABI_VERSION: u32 = 4;

/// Number of 64-bit words in the `FILTER` map: 2^20 bits, 128 KiB.
///
/// One bit per frontend; a clear bit proves that an address is no frontend. At
/// 100,000 frontends one foreign destination in eleven still pays for a hash lookup.
pub const FILTER_WORDS: u32 = 1 << 14;

/// Number of 64-bit words in the `NODE_PORTS` map: one bit per port, for TCP, UDP and SCTP
/// in this order.
pub const NODE_PORT_WORDS: u32 = 3 * 1024;

/// Most zones that are told apart (rule D4's names); endpoints of further ones show none.
///
/// Zones are for tools only: hints are resolved before anything is programmed.
pub const MAX_ZONES: u16 = 4096;

/// Names of the maps, as pinned and as in the object's BTF.
pub mod map {
    /// Hash: [`FrontendKey`](super::FrontendKey) → [`ServiceEntry`](super::ServiceEntry).
    pub const SERVICES: &str = "SERVICES";
    /// Mmapable array of `[u32; 2]`: Maglev tables, two backend slots to an element.
    pub const MAGLEV: &str = "MAGLEV";
    /// Mmapable array of [`BackendEntry`](super::BackendEntry), indexed by backend slot.
    pub const BACKENDS: &str = "BACKENDS";
    /// Mmapable array of [`BackendStats`](super::BackendStats), indexed by backend slot.
    pub const BACKEND_STATS: &str = "BACKEND_STATS";
    /// Mmapable array of [`ServiceStats`](super::ServiceStats), indexed by service id.
    pub const SERVICE_STATS: &str = "SERVICE_STATS";
    /// Mmapable array of [`ServiceInfo`](super::ServiceInfo), indexed by service id. Userspace only.
    pub const SERVICE_INFO: &str = "SERVICE_INFO";
    /// Hash: zone id (u32) → [`Name`](super::Name). Userspace only.
    pub const ZONES: &str = "ZONES";
    /// Mmapable array of `u64`: the frontend filter.
    pub const FILTER: &str = "FILTER";
    /// LRU hash: [`AffinityKey`](super::AffinityKey) → [`AffinityEntry`](super::AffinityEntry).
    pub const AFFINITY: &str = "AFFINITY";
    /// Socket storage: [`ConnectedFlow`](super::ConnectedFlow).
    pub const CONNECTED: &str = "CONNECTED";
    /// Socket storage: [`DatagramFlows`](super::DatagramFlows).
    pub const DATAGRAM: &str = "DATAGRAM";
    /// Mmapable array with one [`Status`](super::Status).
    pub const STATUS: &str = "STATUS";
    /// Mmapable array of `u64`: ports that are a NodePort, by protocol and port.
    pub const NODE_PORTS: &str = "NODE_PORTS";
    /// Hash: [`Addr`](super::Addr) → [`NodeAddress`](super::NodeAddress) bits (u32).
    pub const NODE_ADDRESSES: &str = "NODE_ADDRESSES";
    /// Hash: ifindex (u32) → [`Device`](super::Device).
    pub const DEVICES: &str = "DEVICES";
    /// Longest-prefix trie: [`SourceRangeKey`](super::SourceRangeKey) → u32.
    pub const SOURCE_RANGES: &str = "SOURCE_RANGES";
    /// Hash: [`LocalBackendKey`](super::LocalBackendKey) → backend slot (u32).
    pub const LOCAL_BACKENDS: &str = "LOCAL_BACKENDS";
    /// Hash: [`ConntrackKey`](super::ConntrackKey) → [`ConntrackEntry`](super::ConntrackEntry),
    /// proven flows; nothing is evicted.
    pub const CONNTRACK: &str = "CONNTRACK";
    /// LRU hash, same types: flows that are not proven, and one-way flows.
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// Mmapable array of `u64`: one bit per source of packets that a flow may want,
    /// set when a flow is made. A clear bit proves that a packet belongs to no flow's
    /// responder half.
    pub const FLOW_SOURCES: &str = "FLOW_SOURCES";
    /// LRU hash: [`FragmentKey`](super::FragmentKey) → [`FragmentPorts`](super::FragmentPorts).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Mmapable array with one [`Config`](super::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Per-CPU hash: [`EventKey`](super::EventKey) → count (u64).
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array with one [`RejectBudget`](super::RejectBudget).
    pub const REJECTS: &str = "REJECTS";
    /// Hash: [`Addr`](super::Addr) → bits of the [`FrontendKind`](super::FrontendKind)s that
    /// the address is a VIP of (u32); node ports have none.
    pub const VIPS: &str = "VIPS";
    /// Mmapable array with one [`ServiceRanges`](super::ServiceRanges).
    pub const SERVICE_RANGES: &str = "SERVICE_RANGES";

    /// All of them, in the order in which they are created.
    pub const ALL: [&str; 26] = [
        SERVICES,
        MAGLEV,
        BACKENDS,
        BACKEND_STATS,
        SERVICE_STATS,
        SERVICE_INFO,
        ZONES,
        FILTER,
        AFFINITY,
        CONNECTED,
        DATAGRAM,
        STATUS,
        NODE_PORTS,
        NODE_ADDRESSES,
        DEVICES,
        SOURCE_RANGES,
        LOCAL_BACKENDS,
        CONNTRACK,
        HALF_OPEN,
        FLOW_SOURCES,
        FRAGMENTS,
        CONFIG,
        EVENTS,
        REJECTS,
        VIPS,
        SERVICE_RANGES,
    ];
}

/// Declares an ABI struct: derives the byte conversions (padding is a compile
/// error), asserts the size, describes the layout on the host, and makes it a `Pod` for aya in userspace.
macro_rules! abi_type {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident [$size:literal] {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }

        const _: () = assert!(size_of::<$name>() == $size);

        #[cfg(not(target_arch = "bpf"))]
        impl $crate::abi::layout::Described for $name {
            const LAYOUT: $crate::abi::layout::Layout = $crate::abi::layout::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                align: align_of::<$name>(),
                fields: &[$($crate::abi::layout::Field {
                    name: stringify!($field),
                    type_name: stringify!($type),
                    offset: core::mem::offset_of!($name, $field),
                    size: size_of::<$type>(),
                }),*],
            };
        }

        // SAFETY: `IntoBytes` and `FromBytes` above prove that the type has no
        // padding and that every bit pattern is valid.
        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "aya's Pod is an unsafe marker; the orphan rule puts it here")]
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use abi_type;
