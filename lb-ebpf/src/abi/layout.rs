//! The ABI described as data, for the checks that keep it: field offsets, map
//! definitions, constants.
//!
//! [`text`] is what `abi.lock` records; the integration tests compare [`TYPES`] and
//! [`MAPS`] with the BTF of the object. Host only.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::{
    AddressRange, AffinityEntry, AffinityKey, BackendEntry, BackendFlags, BackendStats, ClientKind,
    Config, ConfigFlags, ConnectedFlow, ConntrackEntry, ConntrackFlags, ConntrackKey,
    ConntrackState, DATAGRAM_FLOWS, DatagramFlow, DatagramFlows, Device, DeviceClass, DeviceFlags,
    EventKey, FILTER_WORDS, FoundSocket, FragmentKey, FragmentPorts, FrontendFlags, FrontendKey,
    FrontendKind, Lifetime, LocalBackendKey, NODE_PORT_WORDS, Name, NextHop, NodeAddress,
    PacketEvent, Port, Protocol, RejectBudget, Scope, ServiceEntry, ServiceInfo, ServiceRange,
    ServiceRangeFlags, ServiceRanges, ServiceStats, SocketLayout, SourceRange, SourceRangeKey,
    Status, StatusFlags, TICK_NS, TableRef, addr::Addr, map,
};
use crate::hash::{filter_bit, node_port_bit, tuple_hash};

/// One field of an ABI type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its Rust type, as written.
    pub type_name: &'static str,
    /// Byte offset in the type.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// One ABI type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Its fields, in order.
    pub fields: &'static [Field],
}

/// Types declared by `abi_type!`.
pub trait Described {
    /// The layout.
    const LAYOUT: Layout;
}

/// Kinds of maps, numbered as `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_SK_STORAGE`.
    SkStorage = 24,
}

/// One map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLayout {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: MapKind,
    /// Key size in bytes.
    pub key: usize,
    /// Value size in bytes.
    pub value: usize,
    /// `BPF_F_*` flags.
    pub flags: u32,
}

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// All types, in the order of this module's files.
pub const TYPES: [Layout; 33] = [
    Addr::LAYOUT,
    Port::LAYOUT,
    BackendEntry::LAYOUT,
    BackendStats::LAYOUT,
    AffinityKey::LAYOUT,
    AffinityEntry::LAYOUT,
    ConnectedFlow::LAYOUT,
    DatagramFlow::LAYOUT,
    DatagramFlows::LAYOUT,
    FrontendKey::LAYOUT,
    TableRef::LAYOUT,
    ServiceEntry::LAYOUT,
    ServiceInfo::LAYOUT,
    ServiceStats::LAYOUT,
    FoundSocket::LAYOUT,
    SocketLayout::LAYOUT,
    Name::LAYOUT,
    Status::LAYOUT,
    ConntrackKey::LAYOUT,
    NextHop::LAYOUT,
    ConntrackEntry::LAYOUT,
    FragmentKey::LAYOUT,
    FragmentPorts::LAYOUT,
    Device::LAYOUT,
    SourceRange::LAYOUT,
    SourceRangeKey::LAYOUT,
    LocalBackendKey::LAYOUT,
    Config::LAYOUT,
    EventKey::LAYOUT,
    RejectBudget::LAYOUT,
    AddressRange::LAYOUT,
    ServiceRange::LAYOUT,
    ServiceRanges::LAYOUT,
];

const fn hash<K, V>(name: &'static str, kind: MapKind, flags: u32) -> MapLayout {
    MapLayout {
        name,
        kind,
        key: size_of::<K>(),
        value: size_of::<V>(),
        flags,
    }
}

const fn array<V>(name: &'static str) -> MapLayout {
    hash::<u32, V>(name, MapKind::Array, MMAPABLE)
}

const fn storage<V>(name: &'static str) -> MapLayout {
    hash::<u32, V>(name, MapKind::SkStorage, NO_PREALLOC)
}

/// All maps, in the order of [`map::ALL`].
pub const MAPS: [MapLayout; map::ALL.len()] = [
    hash::<FrontendKey, ServiceEntry>(map::SERVICES, MapKind::Hash, NO_PREALLOC),
    array::<[u32; 2]>(map::MAGLEV),
    array::<BackendEntry>(map::BACKENDS),
    array::<BackendStats>(map::BACKEND_STATS),
    array::<ServiceStats>(map::SERVICE_STATS),
    array::<ServiceInfo>(map::SERVICE_INFO),
    hash::<u32, Name>(map::ZONES, MapKind::Hash, NO_PREALLOC),
    array::<u64>(map::FILTER),
    hash::<AffinityKey, AffinityEntry>(map::AFFINITY, MapKind::LruHash, 0),
    storage::<ConnectedFlow>(map::CONNECTED),
    storage::<DatagramFlows>(map::DATAGRAM),
    array::<Status>(map::STATUS),
    array::<u64>(map::NODE_PORTS),
    hash::<Addr, u32>(map::NODE_ADDRESSES, MapKind::Hash, NO_PREALLOC),
    hash::<u32, Device>(map::DEVICES, MapKind::Hash, NO_PREALLOC),
    hash::<SourceRangeKey, u32>(map::SOURCE_RANGES, MapKind::LpmTrie, NO_PREALLOC),
    hash::<LocalBackendKey, u32>(map::LOCAL_BACKENDS, MapKind::Hash, NO_PREALLOC),
    hash::<ConntrackKey, ConntrackEntry>(map::CONNTRACK, MapKind::Hash, NO_PREALLOC),
    hash::<ConntrackKey, ConntrackEntry>(map::HALF_OPEN, MapKind::LruHash, 0),
    array::<u64>(map::FLOW_SOURCES),
    hash::<FragmentKey, FragmentPorts>(map::FRAGMENTS, MapKind::LruHash, 0),
    array::<Config>(map::CONFIG),
    hash::<EventKey, u64>(map::EVENTS, MapKind::PerCpuHash, 0),
    hash::<u32, RejectBudget>(map::REJECTS, MapKind::PerCpuArray, 0),
    hash::<Addr, u32>(map::VIPS, MapKind::Hash, NO_PREALLOC),
    array::<ServiceRanges>(map::SERVICE_RANGES),
];

/// Constants with a meaning in the maps.
#[expect(
    clippy::cast_lossless,
    reason = "constants of several types, enums among them"
)]
fn constants() -> Vec<(&'static str, u64)> {
    macro_rules! values {
        ($($value:expr),* $(,)?) => { vec![$((stringify!($value), $value as u64)),*] };
    }
    values![
        FILTER_WORDS,
        DATAGRAM_FLOWS,
        BackendFlags::USED,
        BackendFlags::READY,
        BackendFlags::SERVING,
        BackendFlags::TERMINATING,
        BackendFlags::LOCAL,
        BackendFlags::IN_CLUSTER_SET,
        BackendFlags::IN_LOCAL_SET,
        ClientKind::Address,
        ClientKind::Netns,
        DatagramFlow::VALID,
        DatagramFlow::SHARED,
        FoundSocket::AF_INET,
        FoundSocket::AF_INET6,
        FrontendFlags::KIND_MASK,
        FrontendFlags::LOCAL_SET,
        FrontendFlags::DROP,
        FrontendFlags::EXTERNAL_DIFFERS,
        FrontendFlags::SOURCE_RANGES,
        FrontendFlags::DSR,
        FrontendFlags::MASQUERADE,
        FrontendKind::ClusterIp,
        FrontendKind::NodePort,
        FrontendKind::ExternalIp,
        FrontendKind::LoadBalancer,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Sctp,
        Scope::Internal,
        Scope::External,
        StatusFlags::READY,
        StatusFlags::SYNCED,
        NODE_PORT_WORDS,
        TICK_NS,
        ConfigFlags::EXTERNAL_CLUSTER_IP,
        ConfigFlags::LOCAL_BY_SOURCE,
        ServiceRangeFlags::SERVICE_CIDR,
        ConntrackFlags::INITIATOR,
        ConntrackFlags::AT_EGRESS,
        ConntrackFlags::REDIRECT,
        ConntrackFlags::ENCAPSULATE,
        ConntrackFlags::MATE_AT_EGRESS,
        ConntrackFlags::MATE_REDIRECT,
        ConntrackFlags::PORT_CHOSEN,
        ConntrackFlags::SNAT,
        ConntrackFlags::DSR,
        ConntrackFlags::ONE_WAY,
        ConntrackState::REPLIED,
        ConntrackState::ESTABLISHED,
        ConntrackState::FIN,
        ConntrackState::RST,
        DeviceClass::Uplink,
        DeviceClass::BackendRoute,
        DeviceClass::PodFacing,
        DeviceFlags::XDP_REDIRECT,
        DeviceFlags::TUNNEL,
        Lifetime::HalfOpen,
        Lifetime::Established,
        Lifetime::CloseWait,
        Lifetime::Closed,
        Lifetime::UdpNew,
        Lifetime::UdpStream,
        NodeAddress::LOCAL,
        NodeAddress::NODE_PORTS,
        NodeAddress::LOOPBACK,
        SourceRangeKey::FULL,
    ]
}

/// Filter word of a NodePort and hash of a tuple.
fn packet_hashes() -> (Option<(u32, u64)>, u64) {
    let key = ConntrackKey {
        src: Addr::from(std::net::IpAddr::from([192, 0, 2, 7])),
        dst: Addr::from(std::net::IpAddr::from([10, 96, 0, 1])),
        src_port: Port::new(40_000),
        dst_port: Port::new(80),
        protocol: Protocol::Udp as u8,
        reserved: [0; 3],
    };
    (node_port_bit(key.protocol, 30_080), tuple_hash(&key))
}

/// Filter bit and seal of one frontend: they change if the hash does.
fn hashes() -> ((u32, u64), u32) {
    let addr = Addr::from(std::net::IpAddr::from([10, 96, 0, 1]));
    let key = FrontendKey::internal(addr, Port::new(80), Protocol::Tcp);
    let entry = ServiceEntry {
        table: TableRef::new(211, 509),
        service_id: 7,
        flags: FrontendFlags::LOCAL_SET,
        affinity_secs: 10800,
        seal: 0,
    };
    (filter_bit(&key), entry.sealed(&key).seal)
}

/// The whole ABI as text, one fact a line.
pub fn text() -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    for layout in TYPES {
        let Layout {
            name, size, align, ..
        } = layout;
        line(format_args!("type {name}: size {size}, align {align}"));
        for field in layout.fields {
            line(format_args!(
                "  {:>3} {}: {}",
                field.offset, field.name, field.type_name
            ));
        }
    }
    for map in MAPS {
        line(format_args!(
            "map {}: {:?}, key {}, value {}, flags {:#x}",
            map.name, map.kind, map.key, map.value, map.flags
        ));
    }
    for (name, value) in constants() {
        line(format_args!("const {name} = {value}"));
    }
    let ((word, bit), seal) = hashes();
    line(format_args!(
        "hash: filter word {word}, bit {bit:#x}, seal {seal:#x}"
    ));
    let (bit, tuple) = packet_hashes();
    line(format_args!("hash: node port {bit:?}, tuple {tuple:#x}"));
    for event in PacketEvent::ALL {
        line(format_args!("event {} = {}", event.name(), event as u32));
    }
    out
}
