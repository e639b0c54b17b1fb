//! The part of `status` about connection tracking: what became of flows, and what the
//! collector did. How full the tables are is with the maps.

use lb_ebpf::abi::{Collected, EventKey, PacketEvent};
use serde::Serialize;

use crate::maps::events::total;

/// Flows since the maps were made, over all devices; named as in `drops`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Flows {
    /// Made.
    pub opened: u64,
    /// Proven, and moved to `CONNTRACK`.
    pub established: u64,
    /// Halves that were missing and made again by a packet.
    pub half_restored: u64,
    /// Flows that lost their SNAT port to a newer one.
    pub port_taken: u64,
    /// Packets dropped because all SNAT ports towards their backend were taken.
    pub ports_exhausted: u64,
    /// Packets dropped because their flow could not be stored.
    pub no_record: u64,
    /// Packets of proven flows that found `CONNTRACK` full.
    pub conntrack_full: u64,
}

impl Flows {
    pub(super) fn of(events: &[(EventKey, u64)]) -> Self {
        let total = |event| total(events, event);
        Self {
            opened: total(PacketEvent::Opened),
            established: total(PacketEvent::Established),
            half_restored: total(PacketEvent::HalfRestored),
            port_taken: total(PacketEvent::PortTaken),
            ports_exhausted: total(PacketEvent::PortsExhausted),
            no_record: total(PacketEvent::NoRecord),
            conntrack_full: total(PacketEvent::ConntrackFull),
        }
    }
}

/// The collector of flows, since the controller started.
#[derive(Clone, Debug, Serialize)]
pub struct Collector {
    /// Runs over both tables.
    pub runs: u64,
    /// When the last one ended, RFC 3339.
    pub last_run_at: Option<String>,
    /// Seconds since then.
    pub last_run_ago_seconds: Option<u64>,
    /// How long it took, in milliseconds.
    pub last_run_ms: f64,
    /// Flows removed.
    pub deleted: u64,
    /// Halves made again from their mates.
    pub restored: u64,
    /// Flows that came back to life while they were removed, and stayed.
    pub revived: u64,
    /// Halves that a full table did not take back.
    pub refused: u64,
    /// Flows that `HALF_OPEN` evicted for newer ones, estimated.
    pub evicted: u64,
}

impl Collector {
    pub(super) fn of(collected: &Collected, now_ns: u64) -> Self {
        let at = collected.last_run_at;
        Self {
            runs: collected.runs,
            last_run_at: super::rfc3339(at),
            last_run_ago_seconds: (at != 0).then(|| now_ns.saturating_sub(at) / 1_000_000_000),
            last_run_ms: (collected.last_run_ns / 10_000) as f64 / 100.0,
            deleted: collected.deleted,
            restored: collected.restored,
            revived: collected.revived,
            refused: collected.refused,
            evicted: collected.evicted,
        }
    }
}
