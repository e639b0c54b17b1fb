//! What a run found and did.

use std::time::Duration;

use lb_ebpf::abi::{Collected, Lifetime};

use crate::plan::Retired;

/// Why a flow was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was idle for longer than the lifetime of its state.
    Idle(Lifetime),
    /// UDP: its backend no longer serves, and others do (rules I1–I3).
    StaleBackend,
    /// A leftover in `HALF_OPEN` of a flow that lives on in `CONNTRACK`.
    Superseded,
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Lifetime::COUNT + 2;

    /// All of them, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Idle(Lifetime::HalfOpen),
        Self::Idle(Lifetime::Established),
        Self::Idle(Lifetime::CloseWait),
        Self::Idle(Lifetime::Closed),
        Self::Idle(Lifetime::UdpNew),
        Self::Idle(Lifetime::UdpStream),
        Self::StaleBackend,
        Self::Superseded,
    ];

    /// Index into [`Report::deleted`].
    pub const fn index(self) -> usize {
        match self {
            Self::Idle(class) => class as usize,
            Self::StaleBackend => Lifetime::COUNT,
            Self::Superseded => Lifetime::COUNT + 1,
        }
    }

    /// The word that logs and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle(Lifetime::HalfOpen) => "half_open",
            Self::Idle(Lifetime::Established) => "established",
            Self::Idle(Lifetime::CloseWait) => "close_wait",
            Self::Idle(Lifetime::Closed) => "closed",
            Self::Idle(Lifetime::UdpNew) => "udp_new",
            Self::Idle(Lifetime::UdpStream) => "udp_stream",
            Self::StaleBackend => "stale_backend",
            Self::Superseded => "superseded",
        }
    }
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Elements that the run found.
    pub found: u64,
    /// Elements that it left, at most: of flows that ended by a packet of one direction
    /// only, the other half is still counted if it was met before.
    pub entries: u64,
    /// Elements that fit.
    pub capacity: u64,
}

/// Flows whose initiator's half is in `HALF_OPEN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unproven {
    /// That the run found.
    pub found: u64,
    /// That it left.
    pub left: u64,
}

/// What a run found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How long it took.
    pub took: Duration,
    /// Whether a change of UDP endpoints asked for it.
    pub triggered: bool,
    /// Halves that were looked at.
    pub scanned: u64,
    /// Flows removed, by [`Reason::index`].
    pub deleted: [u64; Reason::COUNT],
    /// Stale UDP flows removed: IPv4, IPv6.
    pub stale: [u64; 2],
    /// Halves made again from their mates.
    pub restored: u64,
    /// Times that a flow came back to life while it was removed, and was put back.
    pub revived: u64,
    /// Halves that a full map, or one without memory, did not take.
    pub refused: u64,
    /// `CONNTRACK` after the run.
    pub proven: Fill,
    /// `HALF_OPEN` after the run.
    pub half_open: Fill,
    /// Flows in `HALF_OPEN`.
    pub unproven: Unproven,
    /// Flows that `HALF_OPEN` has evicted since the run before, estimated.
    pub evicted: u64,
    /// Everything since the controller started, this run included.
    pub totals: Collected,
    /// Retired frontends that no flow used during the whole run.
    pub unused: Vec<Retired>,
}

impl Report {
    /// Flows removed.
    pub fn deleted_flows(&self) -> u64 {
        self.deleted.iter().sum()
    }

    /// Adds this run, which ended at `now_ns` (Unix), to `totals`.
    pub fn add_to(&self, totals: &mut Collected, now_ns: u64) {
        totals.runs += 1;
        totals.last_run_at = now_ns;
        totals.last_run_ns = self.took.as_nanos() as u64;
        totals.deleted += self.deleted_flows();
        totals.restored += self.restored;
        totals.revived += self.revived;
        totals.refused += self.refused;
        totals.evicted += self.evicted;
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn reasons_have_their_own_places_and_names() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
