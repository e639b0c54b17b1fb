//! What the datapath may ask for: the seam between the pure pipeline and the kernel.
//!
//! The BPF programs implement these traits over maps and helpers, the tests over
//! plain collections; nothing else can be reached from the pipeline. Every method
//! returns a copy: map memory may change under a reader at any time.
#![forbid(unsafe_code)]

use crate::abi::{
    Addr, AffinityEntry, AffinityKey, BackendEntry, Config, ConnectedFlow, ConntrackEntry,
    ConntrackKey, DatagramFlow, Device, FragmentKey, FragmentPorts, FrontendKey, LocalBackendKey,
    Port, ServiceEntry,
};

/// Counters kept per service; fields of [`ServiceStats`](crate::abi::ServiceStats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceCounter {
    /// A backend was chosen.
    Opened,
    /// It was chosen by session affinity.
    AffinityHit,
    /// Refused: no endpoint anywhere.
    Refused,
    /// Dropped: no endpoint that the policy allows.
    Dropped,
    /// A UDP flow shares its backend with another VIP of the same socket.
    SharedBackend,
    /// The socket's state could not be stored.
    Untracked,
}

/// Counters kept per backend; fields of [`BackendStats`](crate::abi::BackendStats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendCounter {
    /// The backend was chosen.
    Opened,
    /// A socket that used it was closed.
    Closed,
}

/// The programmed state.
pub trait Tables {
    /// `false` proves that `key` is no frontend.
    fn may_be_frontend(&self, key: &FrontendKey) -> bool;
    /// `false` proves that `key` is no NodePort, whatever the address.
    fn may_be_node_port(&self, key: &FrontendKey) -> bool;
    /// [`NodeAddress`](crate::abi::NodeAddress) bits of an address; 0 if it is not this node's.
    fn node_address(&self, addr: &Addr) -> u32;
    /// Cookie of the host's network namespace.
    fn host_netns(&self) -> u64;
    /// Whether packets' sources say who is a pod ([`ConfigFlags::LOCAL_BY_SOURCE`](crate::abi::ConfigFlags::LOCAL_BY_SOURCE)).
    fn local_by_source(&self) -> bool;
    /// Flags of the first [`ServiceRange`](crate::abi::ServiceRange) that has an address;
    /// `None` proves that it is no ClusterIP.
    fn service_range(&self, addr: &Addr) -> Option<u32>;
    /// Bits of the [`FrontendKind`](crate::abi::FrontendKind)s that an address is a VIP of.
    fn vip(&self, addr: &Addr) -> u32;
    /// The value under `key`, perhaps torn: check [`ServiceEntry::belongs_to`].
    fn service(&self, key: &FrontendKey) -> Option<ServiceEntry>;
    /// The backend slot at `index` of the Maglev slab.
    fn slot(&self, index: u32) -> Option<u32>;
    /// The backend at `slot`.
    fn backend(&self, slot: u32) -> Option<BackendEntry>;
    /// What session affinity remembers.
    fn affinity(&self, key: &AffinityKey) -> Option<AffinityEntry>;
    /// Makes session affinity remember; may silently fail when memory is short.
    fn remember(&self, key: &AffinityKey, entry: &AffinityEntry);
    /// Adds one to a counter of a service.
    fn count_service(&self, service_id: u32, counter: ServiceCounter);
    /// Adds one to a counter of a backend slot.
    fn count_backend(&self, slot: u32, counter: BackendCounter);
}

/// What packets need of the programmed state, beyond what sockets need.
pub trait PacketTables: Tables {
    /// The node's settings.
    fn config(&self) -> Config;
    /// Whether the source ranges of a service admit an address (rule E26).
    fn admits(&self, service_id: u32, source: &Addr) -> bool;
    /// A device that packets may leave through.
    fn device(&self, ifindex: u32) -> Option<Device>;
    /// Slot of a backend of this node whose service uses DSR.
    fn local_backend(&self, key: &LocalBackendKey) -> Option<u32>;
    /// What the first fragment of a datagram said.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;
    /// Remembers the first fragment of a datagram.
    fn remember_fragment(&self, key: &FragmentKey, ports: &FragmentPorts);
    /// `false` proves that no flow expects packets from this address, port and protocol
    /// (written as a frontend).
    fn may_be_flow_source(&self, key: &FrontendKey) -> bool;
    /// From now on a flow does.
    fn mark_flow_source(&self, key: &FrontendKey);
    /// Takes one refusal from this tick's budget; `false` if it is used up.
    fn may_refuse(&self, tick: u32, budget: u32) -> bool;
}

/// The two tables of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// `CONNTRACK`: proven, never evicted.
    Proven,
    /// `HALF_OPEN`: not proven, or one-way; the least recently used goes first.
    HalfOpen,
}

/// Flow records.
pub trait Conntrack {
    /// A record in place.
    type Record: Record;

    /// The record under `key`.
    fn find(&self, table: FlowState, key: &ConntrackKey) -> Option<Self::Record>;
    /// Stores a record; an existing one stays and `false` is returned, unless `replace`.
    /// Also `false` if there is no room.
    fn insert(
        &self,
        table: FlowState,
        key: &ConntrackKey,
        entry: &ConntrackEntry,
        replace: bool,
    ) -> bool;
    /// Removes the record under `key`, if there is one.
    fn remove(&self, table: FlowState, key: &ConntrackKey);
}

/// A flow record in place: it may be reused for another flow at any time, so it is read
/// as a copy whose seal is checked, and only what is written here is ever written.
pub trait Record: Copy {
    /// Copies it.
    fn read_into(&self, entry: &mut ConntrackEntry);
    /// Overwrites [`ConntrackEntry::state`].
    fn set_state(&self, state: u32);
    /// Overwrites [`ConntrackEntry::last_seen`].
    fn set_last_seen(&self, tick: u32);
    /// Overwrites [`ConntrackEntry::proof`] and [`ConntrackEntry::proof_end`].
    fn set_proof(&self, proof: u32, end: u32);
}

/// Clock and chance.
pub trait Environment {
    /// Monotonic clock, nanoseconds.
    fn now_ns(&self) -> u64;
    /// 32 uniformly random bits.
    fn random(&self) -> u32;
    /// Cookie of the socket's network namespace.
    fn netns_cookie(&self) -> u64;
}

/// The state kept with one socket; it dies with the socket.
pub trait Socket {
    /// Handle on the flows of an unconnected UDP socket.
    type Flows: FlowTable;

    /// The flow of a connected socket.
    fn connected(&self) -> Option<ConnectedFlow>;
    /// Stores the flow of a connected socket; `false` when memory is short.
    fn set_connected(&self, flow: &ConnectedFlow) -> bool;
    /// Forgets the flow of a connected socket, if there is one.
    fn forget_connected(&self);
    /// The flows of an unconnected socket.
    fn datagram(&self) -> Option<Self::Flows>;
    /// The same, created when missing; `None` when memory is short.
    fn datagram_or_create(&self) -> Option<Self::Flows>;
}

/// The flows of an unconnected UDP socket. Indices are below
/// [`DATAGRAM_FLOWS`](crate::abi::DATAGRAM_FLOWS); others are masked.
///
/// Threads may share a socket, but the kernel runs these hooks under the socket's lock
/// (`BPF_CGROUP_RUN_SA_PROG_LOCK`), so a table has one user at a time.
pub trait FlowTable {
    /// [`DatagramFlow::state`] of a place.
    fn state(&self, index: usize) -> u32;
    /// What the application sends to.
    fn vip(&self, index: usize) -> (Addr, Port);
    /// Where its datagrams go.
    fn backend(&self, index: usize) -> (Addr, Port);
    /// Slot and generation of the backend.
    fn slot(&self, index: usize) -> (u32, u32);
    /// Overwrites the state of a place.
    fn set_state(&self, index: usize, state: u32);
    /// The oldest place, which the next new flow takes when none is free.
    fn oldest(&self) -> usize;
    /// Fills a place; if it was the oldest, the place after it becomes the oldest.
    fn put(&self, index: usize, flow: &DatagramFlow);
    /// Index of the flow used last among flows that share a backend.
    fn recent(&self) -> usize;
    /// Remembers which flow was used last.
    fn set_recent(&self, index: usize);
}
