//! What the controller says about itself, for tools that read the pins.

use core::fmt;

use super::abi_type;

abi_type! {
    /// A name of up to 63 bytes, NUL-padded (a Kubernetes DNS label).
    pub struct Name [64] { bytes: [u8; 64] }
}

impl Name {
    /// The empty name.
    pub const EMPTY: Self = Self { bytes: [0; 64] };

    /// `None` if `name` is longer than 63 bytes or contains a NUL.
    pub fn new(name: &str) -> Option<Self> {
        let source = name.as_bytes();
        let mut bytes = [0; 64];
        if source.len() >= bytes.len() || source.contains(&0) {
            return None;
        }
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self { bytes })
    }

    /// The name; what is not UTF-8 reads as empty.
    pub fn as_str(&self) -> &str {
        let end = self
            .bytes
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.bytes.len());
        self.bytes
            .get(..end)
            .and_then(|b| core::str::from_utf8(b).ok())
            .unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

abi_type! {
    /// What the collector of flows has done since the controller started.
    #[derive(Default)]
    pub struct Collected [64] {
        /// Runs over both tables of flows.
        pub runs: u64,
        /// When the last one ended, in nanoseconds since the Unix epoch.
        pub last_run_at: u64,
        /// How long it took, in nanoseconds.
        pub last_run_ns: u64,
        /// Flows removed: over, or of UDP backends that no longer serve.
        pub deleted: u64,
        /// Halves made again from their mates.
        pub restored: u64,
        /// Flows that a packet touched while they were removed, and that stayed.
        pub revived: u64,
        /// Halves that a full table did not take back.
        pub refused: u64,
        /// Flows that `HALF_OPEN` evicted to make room for newer ones; an estimate, because
        /// the kernel does not count them.
        pub evicted: u64,
    }
}

abi_type! {
    /// The one element of `STATUS`. Times are nanoseconds since the Unix epoch.
    pub struct Status [440] {
        /// [`ABI_VERSION`](super::ABI_VERSION) of the maps beside it.
        pub abi_version: u32,
        /// [`StatusFlags`].
        pub flags: u32,
        /// When the controller that wrote this started.
        pub started_at: u64,
        /// When it last finished applying a change.
        pub last_sync_at: u64,
        /// Batches of events it has applied.
        pub syncs: u64,
        /// Batches of which some operation failed and was retried.
        pub failed_syncs: u64,
        /// Process id of the controller, in its own pid namespace.
        pub pid: u32,
        /// Entries of `SERVICES` in use.
        pub frontends: u32,
        /// Services in use.
        pub services: u32,
        /// Backend slots in use.
        pub backends: u32,
        /// Entries of `MAGLEV` in use.
        pub maglev_entries: u32,
        /// Size of `MAGLEV`, in entries.
        pub maglev_capacity: u32,
        /// Zone id of this node; 0 is "none".
        pub zone: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
        /// `metadata.name` of this node, NUL-padded (a DNS subdomain, up to 253 bytes).
        pub node_name: [u8; 256],
        /// Version of the controller, NUL-padded.
        pub version: [u8; 24],
        /// Kind of source, NUL-padded: `api` or `files`.
        pub source: [u8; 24],
        /// Work of the collector of flows.
        pub flows: Collected,
    }
}

/// Bits of [`Status::flags`].
#[derive(Debug)]
pub struct StatusFlags;

impl StatusFlags {
    /// The maps are filled: programs may be attached to them.
    pub const READY: u32 = 1;
    /// Services and EndpointSlices have both been listed (rule K1).
    pub const SYNCED: u32 = 2;
}
