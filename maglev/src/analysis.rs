//! What a table is like: who owns how much of it, and what a change of it costs.
//!
//! These functions see values only. Compared tables must use the same value for the same backend.

use alloc::vec::Vec;

/// How many entries hold a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The value.
    pub value: u32,
    /// How many entries hold it, from 1.
    pub entries: u32,
}

/// How many entries hold each value of a table, by ascending value. O(M log M).
pub fn counts(table: &[u32]) -> Vec<Count> {
    let mut values = table.to_vec();
    values.sort_unstable();
    values
        .chunk_by(|a, b| a == b)
        .map(|run| Count {
            value: run[0],
            entries: run.len() as u32,
        })
        .collect()
}

/// By how much the most loaded backend exceeds its share: 0.01 means that it owns 1 % more.
///
/// `weight` gives the weight of a value of the table; `|_| 1` if all are equal. Values that are
/// not in the table are not considered, as are those of weight 0. 0 for an empty table.
pub fn imbalance(table: &[u32], mut weight: impl FnMut(u32) -> u32) -> f64 {
    let loads: Vec<_> = counts(table)
        .into_iter()
        .map(|count| (count.entries, weight(count.value)))
        .collect();
    let total: f64 = loads.iter().map(|&(_, weight)| f64::from(weight)).sum();
    loads
        .iter()
        .filter(|&&(_, weight)| weight != 0)
        .map(|&(entries, weight)| {
            f64::from(entries) * total / (f64::from(weight) * table.len() as f64) - 1.0
        })
        .fold(0.0, f64::max)
}

/// What replacing one table by another does to flows, as shares of the hash space from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disruption {
    /// The share of flow hashes that change backend.
    pub moved: f64,
    /// The least share that has to change, given what each backend owns before and after: the sum
    /// of all losses.
    pub minimal: f64,
}

/// Compares two tables, of equal or different lengths, as [`index`](crate::index) reads them.
///
/// An empty table compares as one whose flows go nowhere: everything moves, unless both are empty.
pub fn disruption(old: &[u32], new: &[u32]) -> Disruption {
    if old.is_empty() || new.is_empty() {
        let all = if old.len() == new.len() { 0.0 } else { 1.0 };
        return Disruption {
            moved: all,
            minimal: all,
        };
    }
    let (old_len, new_len) = (old.len() as u64, new.len() as u64);
    // In units of 1/(old_len × new_len), entry i of the old table ends at (i + 1) × new_len.
    let (mut i, mut j, mut at, mut moved) = (0, 0, 0, 0);
    while at < old_len * new_len {
        let (old_end, new_end) = ((i + 1) * new_len, (j + 1) * old_len);
        let end = old_end.min(new_end);
        if old[i as usize] != new[j as usize] {
            moved += end - at;
        }
        at = end;
        i += u64::from(end == old_end);
        j += u64::from(end == new_end);
    }
    let share = |units: u64| units as f64 / (old_len as f64 * new_len as f64);
    Disruption {
        moved: share(moved),
        minimal: share(losses(old, new)),
    }
}

/// The sum of what each value loses from `old` to `new`, in units of 1/(old length × new length).
fn losses(old: &[u32], new: &[u32]) -> u64 {
    let after = counts(new);
    let kept = |value| {
        let found = after.binary_search_by_key(&value, |count: &Count| count.value);
        found.map_or(0, |at| u64::from(after[at].entries) * old.len() as u64)
    };
    counts(old)
        .iter()
        .map(|count| {
            (u64::from(count.entries) * new.len() as u64).saturating_sub(kept(count.value))
        })
        .sum()
}
