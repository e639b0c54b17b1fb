//! Whose turn it is: the paper's round-robin, and its extension to weights.
//!
//! The heaviest backend takes one entry in every round, as all do in the paper. A backend of
//! weight `w`, where the greatest is `max`, takes its k-th entry (from 0) in round
//! `floor(k × max / w)`. After `r` rounds it has `ceil(r × w / max)` entries: never less than its
//! share, and less than one more. Everybody has one after the first round. Within a round,
//! backends take turns in the order of their keys. Integers only.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use crate::Entry;

/// The backend (its place in key order) that takes the next entry.
pub(crate) trait Turns {
    fn next(&mut self) -> usize;
}

/// Equal weights.
pub(crate) struct RoundRobin {
    pub(crate) backends: usize,
    pub(crate) next: usize,
}

impl Turns for RoundRobin {
    #[inline]
    fn next(&mut self) -> usize {
        let turn = self.next;
        self.next = if turn + 1 == self.backends {
            0
        } else {
            turn + 1
        };
        turn
    }
}

/// The next turn of each backend: its round in the high half, its place in key order in the low
/// one, so that the order of numbers is the order of turns.
pub(crate) type Queue = BinaryHeap<Reverse<u64>>;

/// Unequal weights.
pub(crate) struct Weighted<'a> {
    queue: &'a mut Queue,
    backends: &'a mut [Pace],
}

/// How often a backend takes a turn: every `max / weight` rounds, kept as a mixed number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    weight: u32,
    rounds: u32,
    part: u32,
    /// The sum of the parts so far, below `weight`.
    sum: u32,
}

impl Pace {
    /// `entry.weight` is from 1 to `max`.
    pub(crate) fn new(entry: &Entry, max: u32) -> Self {
        let weight = entry.weight;
        Self {
            weight,
            rounds: max / weight,
            part: max % weight,
            sum: 0,
        }
    }

    /// How many rounds to wait from this turn to the next.
    #[inline]
    fn wait(&mut self) -> u32 {
        let (sum, over) = self.sum.overflowing_add(self.part);
        let carry = over || sum >= self.weight;
        self.sum = if carry {
            sum.wrapping_sub(self.weight)
        } else {
            sum
        };
        self.rounds.saturating_add(u32::from(carry))
    }
}

impl<'a> Weighted<'a> {
    /// Before the first round.
    pub(crate) fn new(queue: &'a mut Queue, backends: &'a mut [Pace]) -> Self {
        queue.clear();
        queue.extend((0..backends.len() as u64).map(Reverse));
        Self { queue, backends }
    }
}

impl Turns for Weighted<'_> {
    #[inline]
    fn next(&mut self) -> usize {
        let Some(mut top) = self.queue.peek_mut() else {
            return 0;
        };
        let turn = top.0 as u32 as usize;
        // A table has at most 2^24 entries, and each round fills one at least: rounds that the
        // saturation merges are never reached.
        let round = ((top.0 >> 32) as u32).saturating_add(self.backends[turn].wait());
        top.0 = u64::from(round) << 32 | turn as u64;
        turn
    }
}
