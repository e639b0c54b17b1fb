//! What the test files share: backends by number, and the paper's algorithm as printed.

use maglev::{Builder, Entry, Key};

/// Backends 0 to `count - 1` of equal weight, named by their numbers in network byte order.
pub(crate) fn backends(count: u32) -> Vec<Entry> {
    (0..count)
        .map(|n| Entry::new(Key::new(&n.to_be_bytes()), n))
        .collect()
}

pub(crate) fn build(entries: &[Entry], len: usize) -> Vec<u32> {
    let mut table = vec![u32::MAX; len];
    Builder::new()
        .build(entries, &mut table)
        .expect("the table can be built");
    table
}

/// Pseudocode 1 of the paper, with backends in the order of their keys, permutations written out,
/// and the search always by probing. Weights are turned into rounds by their definition, with a
/// division: backend `i` takes its k-th entry in round `floor(k × max / weight)`.
pub(crate) fn reference(entries: &[Entry], len: usize) -> Vec<u32> {
    let mut entries: Vec<_> = entries.iter().filter(|entry| entry.weight != 0).collect();
    entries.sort_by_key(|entry| entry.key);
    let max = u64::from(entries.iter().map(|entry| entry.weight).max().unwrap_or(0));
    let permutations: Vec<Vec<usize>> = entries
        .iter()
        .map(|entry| {
            let offset = entry.key.offset(len as u32) as usize;
            let skip = entry.key.skip(len as u32) as usize;
            (0..len).map(|j| (offset + j * skip) % len).collect()
        })
        .collect();
    let mut next = vec![0; entries.len()];
    let mut taken = vec![0_u64; entries.len()];
    let mut table: Vec<Option<u32>> = vec![None; len];
    let mut filled = 0;
    for round in 0.. {
        for (i, entry) in entries.iter().enumerate() {
            if taken[i] * max / u64::from(entry.weight) != round {
                continue;
            }
            let mut at = permutations[i][next[i]];
            while table[at].is_some() {
                next[i] += 1;
                at = permutations[i][next[i]];
            }
            table[at] = Some(entry.value);
            next[i] += 1;
            taken[i] += 1;
            filled += 1;
            if filled == len {
                return table.into_iter().flatten().collect();
            }
        }
    }
    unreachable!("rounds are endless")
}
