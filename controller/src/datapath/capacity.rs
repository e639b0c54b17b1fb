//! How large maps are made, from what they must hold.

use crate::{
    maps::Maps,
    plan::{Capacity, Usage},
};

/// The least that is allocated, whatever is needed: growing costs a swap.
pub(super) const SMALLEST: Capacity = Capacity {
    services: 4096,
    frontends: 65_536,
    backends: 16_384,
    maglev: 1 << 20,
};

pub(super) fn capacity_of(maps: &Maps) -> Capacity {
    Capacity {
        services: maps.service_info.len(),
        frontends: maps.services.max_entries(),
        backends: maps.backends.len(),
        maglev: maps.maglev.len(),
    }
}

/// Headroom of an eighth, so that small changes need no swap.
fn with_headroom(needed: u32) -> u32 {
    needed.saturating_add(needed / 8)
}

/// A capacity for `needed`, at least `least`.
pub(super) fn room_for(needed: Usage, least: Capacity) -> Capacity {
    let room = |needed, least: u32| with_headroom(needed).max(least);
    Capacity {
        services: room(needed.services, least.services),
        frontends: room(needed.frontends, least.frontends),
        backends: room(needed.backends, least.backends),
        maglev: room(needed.maglev, least.maglev).next_multiple_of(2),
    }
}

/// What does not fit grows by half at least: the number of swaps stays logarithmic.
pub(super) fn grown(old: Capacity, total: Usage) -> Capacity {
    let grow = |old: u32, total: u32| {
        if total <= old {
            old
        } else {
            with_headroom(total).max(old.saturating_add(old / 2))
        }
    };
    Capacity {
        services: grow(old.services, total.services),
        frontends: grow(old.frontends, total.frontends),
        backends: grow(old.backends, total.backends),
        maglev: grow(old.maglev, total.maglev).next_multiple_of(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_clusters_get_the_least_and_large_ones_an_eighth_more() {
        let needed = Usage {
            services: 10,
            frontends: 10,
            backends: 80_000,
            maglev: 1 << 24,
        };
        let capacity = room_for(needed, SMALLEST);
        assert_eq!(capacity.services, SMALLEST.services);
        assert_eq!(capacity.backends, 90_000);
        assert_eq!(capacity.maglev, (1 << 24) + (1 << 21));
    }

    #[test]
    fn only_what_does_not_fit_grows_and_by_half_at_least() {
        let total = Usage {
            services: 4097,
            frontends: 1,
            backends: 1,
            maglev: 1,
        };
        let capacity = grown(SMALLEST, total);
        assert_eq!(capacity.services, 6144);
        assert_eq!(
            Capacity {
                services: SMALLEST.services,
                ..capacity
            },
            SMALLEST
        );
    }
}
