//! What the collector asks about backends.

use lb_ebpf::abi::{BackendEntry, ConntrackEntry};

use crate::maps::Maps;

/// Backends, as flows see them.
pub trait Backends {
    /// Whether the flow's backend is gone while others of its service still serve: rule I1,
    /// but not rule I3.
    fn is_stale(&self, half: &ConntrackEntry) -> bool;
    /// Counts the end of a flow of this backend.
    fn closed(&self, half: &ConntrackEntry);
}

/// The programmed ones.
#[derive(Debug)]
pub struct Programmed<'a> {
    maps: &'a Maps,
    /// One bit for each service id: whether a backend serves.
    serving: Vec<u64>,
}

impl<'a> Programmed<'a> {
    /// Looks through all backends once.
    pub fn new(maps: &'a Maps) -> Self {
        let mut serving = vec![0; maps.service_info.len().div_ceil(64) as usize];
        for backend in maps.backends.iter().filter(BackendEntry::keeps_flows) {
            if let Some(word) = serving.get_mut(backend.service_id as usize / 64) {
                *word |= 1 << (backend.service_id % 64);
            }
        }
        Self { maps, serving }
    }

    /// The backend of a flow, if its slot was not given to another one.
    fn backend(&self, half: &ConntrackEntry) -> Option<BackendEntry> {
        let known = half.slot < self.maps.backends.len();
        let backend = known.then(|| self.maps.backends.get(half.slot))?;
        (backend.generation == half.generation).then_some(backend)
    }

    fn serves(&self, service_id: u32) -> bool {
        self.serving
            .get(service_id as usize / 64)
            .is_some_and(|word| word & 1 << (service_id % 64) != 0)
    }
}

impl Backends for Programmed<'_> {
    fn is_stale(&self, half: &ConntrackEntry) -> bool {
        let keeps = self.backend(half).is_some_and(|b| b.keeps_flows());
        !keeps && self.serves(half.service_id)
    }

    fn closed(&self, half: &ConntrackEntry) {
        if self.backend(half).is_some() {
            self.maps.backend_stats.add_closed(half.slot, 1);
        }
    }
}
