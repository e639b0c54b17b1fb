//! `SERVICE_RANGES`: where ClusterIPs are.

use std::sync::atomic::{Ordering, fence};

use lb_ebpf::abi::{SERVICE_RANGES, ServiceRange, ServiceRanges};

use super::Datapath;
use crate::sys;

type Places = [ServiceRange; SERVICE_RANGES];

/// Empties the places whose range is not wanted; whether there was one.
fn drop_unwanted(places: &mut Places, wanted: &[ServiceRange]) -> bool {
    let mut dropped = false;
    for place in places {
        if *place != ServiceRange::NONE && !wanted.contains(place) {
            *place = ServiceRange::NONE;
            dropped = true;
        }
    }
    dropped
}

/// Fills empty places with the ranges that have none, and says how many places to look at.
fn fill(places: &mut Places, wanted: &[ServiceRange]) -> u32 {
    for range in wanted {
        if !places.contains(range)
            && let Some(place) = places
                .iter_mut()
                .find(|place| **place == ServiceRange::NONE)
        {
            *place = *range;
        }
    }
    let last = places
        .iter()
        .rposition(|place| *place != ServiceRange::NONE);
    last.map_or(0, |last| last as u32 + 1)
}

/// `ranges` without the flags of places that are different in `other`.
fn without_flags(mut ranges: ServiceRanges, other: &ServiceRanges) -> ServiceRanges {
    let places = ranges.v4.iter_mut().chain(&mut ranges.v6);
    for (place, other) in places.zip(other.v4.iter().chain(&other.v6)) {
        if place != other {
            place.flags = 0;
        }
    }
    ranges
}

impl Datapath {
    /// Makes `wanted` the ranges, at most [`SERVICE_RANGES`] of a family.
    ///
    /// Words of a place are seen in any order. Whatever that looks like on the way does no
    /// harm as long as there are no flags, which come last and go first; and a place is filled
    /// again only when every program has forgotten what was there.
    pub fn write_service_ranges(&self, wanted: &[ServiceRange]) {
        let map = &self.maps.service_ranges;
        let store = |ranges| {
            map.set(0, ranges);
            fence(Ordering::Release);
        };
        let (v4, v6): (Vec<_>, Vec<_>) = wanted.iter().partition(|range| range.range.net.is_v4());
        let mut old: ServiceRanges = map.get(0);
        if old.v4_used == 0 && old.v6_used == 0 {
            // What the kernel gives is zeros: ranges with every address.
            old = ServiceRanges::NONE;
            store(old);
        }
        let mut kept = old;
        let dropped = [
            drop_unwanted(&mut kept.v4, &v4),
            drop_unwanted(&mut kept.v6, &v6),
        ];
        if dropped.contains(&true) {
            store(without_flags(old, &kept));
            store(kept);
            sys::grace_period();
        }
        let mut ranges = kept;
        let used = [fill(&mut ranges.v4, &v4), fill(&mut ranges.v6, &v6)];
        store(without_flags(ranges, &kept));
        store(ranges);
        [ranges.v4_used, ranges.v6_used] = used;
        store(ranges);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lb_ebpf::abi::{Addr, AddressRange};

    use super::*;

    fn range(third: u8) -> ServiceRange {
        let net = Addr::from(IpAddr::from([10, 96, third, 0]));
        ServiceRange {
            range: AddressRange::new(net, 96 + 24),
            flags: 1,
            reserved: 0,
        }
    }

    #[test]
    fn ranges_keep_their_places_and_new_ones_take_empty_ones() {
        let mut places = ServiceRanges::NONE.v4;
        assert!(!drop_unwanted(&mut places, &[]));
        assert_eq!(fill(&mut places, &[range(1), range(2), range(3)]), 3);
        assert!(drop_unwanted(&mut places, &[range(3), range(4)]));
        assert_eq!(
            places[..3],
            [ServiceRange::NONE, ServiceRange::NONE, range(3)]
        );
        assert_eq!(fill(&mut places, &[range(3), range(4)]), 3);
        assert_eq!(places[..3], [range(4), ServiceRange::NONE, range(3)]);
        assert!(drop_unwanted(&mut places, &[]));
        assert_eq!(fill(&mut places, &[]), 0);
    }
}
