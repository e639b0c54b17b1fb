//! What this node's health is, and the HTTP servers that tell of it (rules J1–J18).
//!
//! Load balancers ask /healthz and the health-check node ports of Services, the kubelet
//! /livez, operators /metrics. Inputs: changes that arrive and are programmed, this node's
//! standing, what Services need. Nothing here decides what is programmed.

mod listen;
mod routes;
mod services;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

pub(crate) use listen::warn_of;
pub use listen::{RETRY, listen};
pub use routes::{Refresh, health_routes, metrics_routes};
pub use services::{Failure, HealthChecks};

use crate::{datapath::now_unix_ns, model::Standing};

/// What the servers report. Times are nanoseconds since the Unix epoch, 0 is "none".
///
/// Both families are written by one reconciliation, so they are well or ill together
/// (rule M2).
#[derive(Debug)]
pub struct Health {
    synced: AtomicBool,
    eligible: AtomicBool,
    /// Whether a node of which nothing is known is eligible.
    unknown_is_eligible: bool,
    oldest_queued_at: AtomicU64,
    last_updated_at: AtomicU64,
    stale_after: Duration,
}

impl Health {
    /// Not synced yet. Unhealthy once a change has waited for `stale_after` (rule J13).
    ///
    /// Where a control plane says what is to become of nodes, one that it has not spoken of
    /// is not eligible (rule J12); where there is none, as with objects from files, nobody
    /// could ever say it: there, `unknown_is_eligible`.
    pub fn new(stale_after: Duration, unknown_is_eligible: bool) -> Self {
        Self {
            synced: AtomicBool::new(false),
            eligible: AtomicBool::new(unknown_is_eligible),
            unknown_is_eligible,
            oldest_queued_at: AtomicU64::new(0),
            last_updated_at: AtomicU64::new(0),
            stale_after,
        }
    }

    /// A change has arrived.
    pub fn queued(&self) {
        let _ = self.oldest_queued_at.compare_exchange(
            0,
            now_unix_ns(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Everything that has arrived is programmed.
    pub fn updated(&self) {
        self.oldest_queued_at.store(0, Ordering::Relaxed);
        self.last_updated_at.store(now_unix_ns(), Ordering::Relaxed);
        self.synced.store(true, Ordering::Relaxed);
    }

    /// This node now stands so.
    pub fn stands(&self, standing: Standing) {
        let eligible = match standing {
            Standing::Unknown => self.unknown_is_eligible,
            Standing::Staying => true,
            Standing::Leaving => false,
        };
        if self.eligible.swap(eligible, Ordering::Relaxed) != eligible {
            tracing::info!(eligible, ?standing, "load balancers are told of this node");
        }
    }

    /// Whether no change waits too long. A proxy that waits for its first objects lives: to
    /// restart it would not bring them.
    pub fn is_alive(&self) -> bool {
        let queued_at = self.oldest_queued_at.load(Ordering::Relaxed);
        let waited = now_unix_ns().saturating_sub(queued_at);
        queued_at == 0 || u128::from(waited) <= self.stale_after.as_nanos()
    }

    /// Whether everything was programmed once and no change waits too long.
    pub fn is_healthy(&self) -> bool {
        self.synced.load(Ordering::Relaxed) && self.is_alive()
    }

    /// Whether load balancers may choose this node.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Ordering::Relaxed)
    }

    /// When everything was programmed.
    fn last_updated_at(&self) -> u64 {
        self.last_updated_at.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn unsynced_is_alive_but_not_healthy() {
        let health = Health::new(MINUTE, true);
        assert!(health.is_alive());
        assert!(!health.is_healthy());
        health.updated();
        assert!(health.is_healthy());
    }

    #[test]
    fn change_that_waits_too_long_is_unhealthy_until_it_is_written() {
        let health = Health::new(Duration::ZERO, true);
        health.updated();
        health.queued();
        std::thread::sleep(Duration::from_millis(2));
        assert!(!health.is_healthy());
        assert!(!health.is_alive());
        health.updated();
        assert!(health.is_healthy());
    }

    #[test]
    fn node_of_which_nothing_is_known_is_eligible_only_without_a_control_plane() {
        for unknown_is_eligible in [false, true] {
            let health = Health::new(MINUTE, unknown_is_eligible);
            assert_eq!(health.is_eligible(), unknown_is_eligible);
            health.stands(Standing::Staying);
            assert!(health.is_eligible());
            health.stands(Standing::Leaving);
            assert!(!health.is_eligible());
            health.stands(Standing::Unknown);
            assert_eq!(health.is_eligible(), unknown_is_eligible);
        }
    }
}
