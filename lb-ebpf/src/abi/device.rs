//! This node's devices and addresses.

use super::{Addr, abi_type};

/// Classes of network devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum DeviceClass {
    /// Carries the default route or a node address: traffic from outside.
    Uplink = 1,
    /// Routes to backends of other nodes (tunnels, a second network).
    BackendRoute = 2,
    /// Leads to pods of this node: host ends of veths, ports of the pod bridge, the bridge.
    PodFacing = 3,
}

impl DeviceClass {
    /// From [`Device::class`].
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Uplink),
            2 => Some(Self::BackendRoute),
            3 => Some(Self::PodFacing),
            _ => None,
        }
    }
}

abi_type! {
    /// Value of `DEVICES` (hash by ifindex): a device that traffic may leave through.
    pub struct Device [64] {
        /// [`DeviceClass`] number.
        pub class: u32,
        /// [`DeviceFlags`].
        pub flags: u32,
        /// MTU in bytes.
        pub mtu: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
        /// Source of IPv4 flows that are SNATed out here; unspecified if it has none.
        pub snat_v4: Addr,
        /// Source of IPv6 flows that are SNATed out here; unspecified if it has none.
        pub snat_v6: Addr,
        /// Its name, NUL-padded.
        pub name: [u8; 16],
    }
}

/// Bits of [`Device::flags`].
#[derive(Debug)]
pub struct DeviceFlags;

impl DeviceFlags {
    /// XDP programs may redirect to it.
    pub const XDP_REDIRECT: u32 = 1;
    /// It wraps packets itself (vxlan and the like): flows that leave here do not use DSR,
    /// whose own outer header would be hidden in the tunnel's.
    pub const TUNNEL: u32 = 1 << 1;
}

/// Bits of the values of `NODE_ADDRESSES` (hash: [`Addr`] → u32).
#[derive(Debug)]
pub struct NodeAddress;

impl NodeAddress {
    /// An address of this host (rule F2: source of its own traffic).
    pub const LOCAL: u32 = 1;
    /// NodePorts are served at it (rules E7, E8).
    pub const NODE_PORTS: u32 = 1 << 1;
    /// NodePorts are served at it, but to the host's own namespace only (rule E11).
    pub const LOOPBACK: u32 = 1 << 2;
}

abi_type! {
    /// What a prefix of `SOURCE_RANGES` is made of.
    pub struct SourceRange [20] {
        /// The service; an opaque number here, in memory order.
        pub service_id: u32,
        /// The address.
        pub addr: Addr,
    }
}

abi_type! {
    /// Key of `SOURCE_RANGES` (longest-prefix trie); the value is a u32 without meaning.
    ///
    /// A service with source ranges admits a source iff a lookup of all
    /// [`Self::FULL`] bits finds something (rules E26–E29).
    pub struct SourceRangeKey [24] {
        /// Significant bits of `range`: 32 for the service, then those of the address
        /// (an IPv4 prefix counts its 96 bits of v4-mapping).
        pub prefix_len: u32,
        /// Service and network.
        pub range: SourceRange,
    }
}

impl SourceRangeKey {
    /// Length of a complete key.
    pub const FULL: u32 = 32 + 128;
}

abi_type! {
    /// Key of `LOCAL_BACKENDS` (hash; the value is the backend slot, u32): backends of this
    /// node whose service uses DSR, as the outer header of an encapsulated packet names them.
    #[derive(Hash)]
    pub struct LocalBackendKey [20] {
        /// Address of the endpoint.
        pub addr: Addr,
        /// The service.
        pub service_id: u32,
    }
}
