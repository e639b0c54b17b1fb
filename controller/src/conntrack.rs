//! The controller's side of connection tracking: how large the tables are, how long flows
//! live, and the collector that removes the ones that are over.
//!
//! Programs make, refresh and prove flows; nothing here is needed for a packet to find its
//! way. Inputs are flags, the machine's memory and CPUs, and the pinned maps; outputs are
//! sizes for the loader, lifetimes for `CONFIG`, deletions in `CONNTRACK` and `HALF_OPEN`,
//! and a [`Report`] for each run.
//!
//! Invariants: both halves of a flow go together; a flow that a packet has touched since
//! it was judged stays; TCP and SCTP flows end by their lifetime only, whatever becomes
//! of their backend (rule I6).

mod backends;
mod collector;
mod dialled;
mod evictions;
mod expiry;
mod interval;
mod lifetimes;
mod parity;
mod report;
mod sizes;
mod sweep;
mod table;

pub(crate) use self::table::initiator_key;
pub use self::{
    backends::{Backends, Programmed},
    collector::Collector,
    dialled::RetiredFrontends,
    expiry::{Clock, SETTLED_TICKS},
    interval::{LONGEST, Load, SHORTEST, next_interval},
    lifetimes::{Lifetimes, lifetimes, ticks},
    parity::Parity,
    report::{Fill, Reason, Report, Unproven},
    sizes::{FlowSizes, Machine},
    sweep::{Sweep, Tables},
    table::{FlowTable, Record},
};
