//! Backends: where a frontend's connections go.

use super::{Addr, Port, abi_type};

abi_type! {
    /// One endpoint of one service, at its backend slot in `BACKENDS`.
    ///
    /// A slot belongs to exactly one service, so state, membership and counters of
    /// an endpoint shared by two services stay apart (rule C17). While a slot is in
    /// use its address never changes; a freed slot is reused only after a grace
    /// period and then carries a new `generation`, so whatever remembers
    /// {slot, generation} can never reach another endpoint by accident.
    pub struct BackendEntry [32] {
        /// Address of the endpoint.
        pub addr: Addr,
        /// Port of the endpoint.
        pub port: Port,
        /// Zone id (key of `ZONES`); 0 is "no zone".
        pub zone: u16,
        /// [`BackendFlags`]; 0 means that the slot is free.
        pub flags: u32,
        /// The service this slot belongs to.
        pub service_id: u32,
        /// Changes each time that the slot is given to another endpoint.
        pub generation: u32,
    }
}

impl BackendEntry {
    /// A slot that was never used.
    pub const FREE: Self = Self {
        addr: Addr::UNSPECIFIED,
        port: Port::new(0),
        zone: 0,
        flags: 0,
        service_id: 0,
        generation: 0,
    };

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether flows to it may stay (rule I2). A ready endpoint counts even if it does
    /// not serve: that is what `publishNotReadyAddresses` makes of unready ones.
    #[inline(always)]
    pub const fn keeps_flows(&self) -> bool {
        self.has(BackendFlags::USED)
            && self.flags & (BackendFlags::READY | BackendFlags::SERVING) != 0
    }
}

/// Bits of [`BackendEntry::flags`].
#[derive(Debug)]
pub struct BackendFlags;

impl BackendFlags {
    /// The slot is in use.
    pub const USED: u32 = 1;
    /// Endpoint condition `ready` (rule B9).
    pub const READY: u32 = 1 << 1;
    /// Endpoint condition `serving` (rule B9).
    pub const SERVING: u32 = 1 << 2;
    /// Endpoint condition `terminating` (rule B9).
    pub const TERMINATING: u32 = 1 << 3;
    /// The endpoint is on this node (rule B10).
    pub const LOCAL: u32 = 1 << 4;
    /// Member of the service's cluster set (rule C4).
    pub const IN_CLUSTER_SET: u32 = 1 << 5;
    /// Member of the service's local set (rule C5).
    pub const IN_LOCAL_SET: u32 = 1 << 6;
}

abi_type! {
    /// Counters of one backend slot, in `BACKEND_STATS`; zeroed when the slot is reused.
    #[derive(Default)]
    pub struct BackendStats [16] {
        /// Connections (TCP connects, UDP flows) for which this backend was chosen.
        pub opened: u64,
        /// Of these, connections whose socket has been closed.
        pub closed: u64,
    }
}
