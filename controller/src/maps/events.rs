//! `EVENTS`, summed over CPUs.

use std::fmt;

use aya::maps::{Map, MapData, MapError, PerCpuHashMap};
use lb_ebpf::abi::{EventKey, PacketEvent, map};

use super::MapsError;

/// What programs count of packets.
pub struct EventTable {
    counts: PerCpuHashMap<MapData, EventKey, u64>,
}

impl fmt::Debug for EventTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventTable").finish_non_exhaustive()
    }
}

impl EventTable {
    pub(super) fn new(data: MapData) -> Result<Self, MapsError> {
        super::checked(&data, map::EVENTS, size_of::<EventKey>(), size_of::<u64>())?;
        let map = Map::from_map_data(data).map_err(failed)?;
        let counts = map.try_into().map_err(failed)?;
        Ok(Self { counts })
    }

    /// All counts, in no order.
    pub fn dump(&self) -> Result<Vec<(EventKey, u64)>, MapsError> {
        let sum = |(key, values): (EventKey, aya::maps::PerCpuValues<u64>)| {
            (
                key,
                values.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)),
            )
        };
        let counts = self.counts.iter().map(|item| item.map(sum));
        counts.collect::<Result<_, _>>().map_err(failed)
    }
}

/// How often something has happened, over all devices and whatever the detail.
pub fn total(counts: &[(EventKey, u64)], event: PacketEvent) -> u64 {
    let of_event = counts.iter().filter(|(key, _)| key.event == event as u32);
    of_event.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn failed(source: MapError) -> MapsError {
    MapsError::Open {
        path: map::EVENTS.into(),
        source: Box::new(source),
    }
}
