//! Counters across a growth: nothing that programs count is lost.

use lb_ebpf::abi::{BackendStats, ServiceStats};

use crate::maps::Maps;

/// Counters at the moment of a copy: what programs count on the old maps until they are
/// swapped is added afterwards.
pub(super) struct Counters {
    backends: Vec<BackendStats>,
    services: Vec<ServiceStats>,
}

impl Counters {
    pub(super) fn of(maps: &Maps) -> Self {
        Self {
            backends: maps.backend_stats.iter().collect(),
            services: maps.service_stats.iter().collect(),
        }
    }

    pub(super) fn write(&self, maps: &Maps) {
        for (slot, stats) in (0..).zip(&self.backends) {
            maps.backend_stats.set(slot, *stats);
        }
        for (id, stats) in (0..).zip(&self.services) {
            maps.service_stats.set(id, *stats);
        }
    }

    pub(super) fn add_missed(self, old: &Maps, new: &Maps) {
        for (slot, (at_copy, now)) in (0..).zip(self.backends.iter().zip(old.backend_stats.iter()))
        {
            if *at_copy != now {
                let mut stats = new.backend_stats.get(slot);
                stats.opened += now.opened - at_copy.opened;
                stats.closed += now.closed - at_copy.closed;
                new.backend_stats.set(slot, stats);
            }
        }
        for (id, (at_copy, now)) in (0..).zip(self.services.iter().zip(old.service_stats.iter())) {
            if *at_copy != now {
                let mut stats = new.service_stats.get(id);
                stats.opened += now.opened - at_copy.opened;
                stats.affinity_hits += now.affinity_hits - at_copy.affinity_hits;
                stats.refused += now.refused - at_copy.refused;
                stats.dropped += now.dropped - at_copy.dropped;
                stats.shared_backends += now.shared_backends - at_copy.shared_backends;
                stats.untracked += now.untracked - at_copy.untracked;
                new.service_stats.set(id, stats);
            }
        }
    }
}
