//! How soon the tables are swept again: a pure function of how full they are and how fast
//! they fill.
//!
//! A run that something triggered must not feed it: an interval that follows the last
//! runs' yield is driven to an extreme by runs that find nothing or much by chance.

use std::time::Duration;

/// The shortest interval.
pub const SHORTEST: Duration = Duration::from_secs(5);
/// The longest interval.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Runs that a table which fills sees before it is full.
const RUNS_UNTIL_FULL: f64 = 4.0;

/// Load of `CONNTRACK`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Elements in it.
    pub entries: u64,
    /// Elements that fit.
    pub capacity: u64,
    /// Elements that came a second, less those that went without the collector.
    pub growth: f64,
}

/// The time until the next regular run.
///
/// The fuller the table, the sooner; and soon enough for several runs before it would be
/// full at the present growth.
pub fn next_interval(load: Load) -> Duration {
    let capacity = load.capacity.max(1) as f64;
    let free = (capacity - load.entries as f64).max(0.0);
    let by_occupancy = LONGEST.as_secs_f64() * free / capacity;
    let by_growth = if load.growth > 0.0 {
        free / load.growth / RUNS_UNTIL_FULL
    } else {
        f64::INFINITY
    };
    let seconds = by_occupancy.min(by_growth);
    Duration::from_secs_f64(seconds.clamp(SHORTEST.as_secs_f64(), LONGEST.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(entries: u64, growth: f64) -> Duration {
        next_interval(Load {
            entries,
            capacity: 100_000,
            growth,
        })
    }

    #[test]
    fn empty_tables_wait_longest_and_full_ones_shortest() {
        assert_eq!(after(0, 0.0), LONGEST);
        assert_eq!(after(50_000, 0.0), Duration::from_secs(30));
        assert_eq!(after(100_000, 0.0), SHORTEST);
    }

    #[test]
    fn a_table_that_fills_is_swept_four_times_before_it_is_full() {
        assert_eq!(after(20_000, 1000.0), Duration::from_secs(20));
        assert_eq!(after(20_000, 1e9), SHORTEST);
        assert_eq!(after(20_000, -1000.0), Duration::from_secs(48));
    }

    proptest! {
        #[test]
        fn intervals_stay_within_the_clamp_and_shrink_with_load(
            entries in 0u64..200_000, more in 0u64..100_000,
            growth in 0.0f64..1e7, faster in 0.0f64..1e7,
        ) {
            let interval = after(entries, growth);
            prop_assert!((SHORTEST..=LONGEST).contains(&interval));
            prop_assert!(after(entries + more, growth) <= interval);
            prop_assert!(after(entries, growth + faster) <= interval);
        }
    }
}
