//! How many flows `HALF_OPEN` has evicted: the kernel does not count them.
//!
//! What programs opened since the last run, less what they proved, should still be there.
//! What is not was evicted, or ended by a packet (a refused UDP flow, a reset): the figure is
//! an estimate, a little too high, and made only where the table is nearly full, since an
//! LRU map with room evicts nothing.

use lb_ebpf::abi::{EventKey, PacketEvent};

use super::report::Report;
use crate::maps::events::total;

/// What was counted until the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    opened: u64,
    established: u64,
    /// Flows that the run left in `HALF_OPEN`.
    left: u64,
}

impl Census {
    /// The counts of a run, with what programs had counted when it began.
    pub(super) fn of(report: &Report, events: &[(EventKey, u64)]) -> Self {
        Self {
            opened: total(events, PacketEvent::Opened),
            established: total(events, PacketEvent::Established),
            left: report.unproven.left,
        }
    }

    /// Flows evicted between the run before, whose census this is, and that of `report`.
    pub(super) fn evicted_until(&self, now: &Self, report: &Report) -> u64 {
        let fill = report.half_open;
        if fill.found * 10 < fill.capacity * 9 {
            return 0;
        }
        let opened = now.opened.saturating_sub(self.opened);
        let established = now.established.saturating_sub(self.established);
        (self.left + opened).saturating_sub(established + report.unproven.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::report::{Fill, Unproven};

    fn run(found: u64, left: u64, halves: u64) -> Report {
        Report {
            half_open: Fill {
                found: halves,
                entries: halves,
                capacity: 1000,
            },
            unproven: Unproven { found, left },
            ..Report::default()
        }
    }

    fn events(opened: u64, established: u64) -> Vec<(EventKey, u64)> {
        let at = |ifindex, event: PacketEvent, count| {
            let event = event as u32;
            (
                EventKey {
                    ifindex,
                    event,
                    detail: 0,
                },
                count,
            )
        };
        vec![
            at(1, PacketEvent::Opened, opened - 1),
            at(2, PacketEvent::Opened, 1),
            at(1, PacketEvent::Established, established),
            at(1, PacketEvent::Refused, 77),
        ]
    }

    #[test]
    fn what_was_opened_and_is_neither_proven_nor_there_was_evicted() {
        let before = Census::of(&run(400, 400, 800), &events(1000, 100));
        let report = run(490, 490, 980);
        let now = Census::of(&report, &events(1700, 150));
        assert_eq!(before.evicted_until(&now, &report), 400 + 700 - 50 - 490);
    }

    #[test]
    fn flows_that_the_collector_removed_are_not_evicted() {
        let before = Census::of(&run(490, 190, 980), &events(1000, 100));
        let report = run(490, 490, 980);
        let now = Census::of(&report, &events(1300, 100));
        assert_eq!(before.evicted_until(&now, &report), 0);
    }

    #[test]
    fn table_with_room_evicts_nothing() {
        let before = Census::of(&run(400, 400, 800), &events(1000, 100));
        let report = run(200, 200, 400);
        let now = Census::of(&report, &events(1000, 100));
        assert_eq!(before.evicted_until(&now, &report), 0);
    }
}
