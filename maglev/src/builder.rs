//! Building a table: turns and walks until every entry is taken, then one pass over the output.

use alloc::vec::Vec;

use crate::free::Bitmap;
use crate::permutation::Walk;
use crate::turns::{Pace, Queue, RoundRobin, Turns, Weighted};
use crate::{Entry, Error, check_len};

/// Builds tables; owns the scratch memory, so keep one and use it again.
///
/// In turn, backends take the first free entry of their permutations. The first entries are free
/// at once, the last ones are searched for long: the expected number of probes is `M ln M`, and
/// half of them serve the last `√M` entries. So those are not searched for: as a permutation of a
/// table of prime length can be inverted, the first of the free entries is found by computing the place of
/// each. The result is the same, which the tests check against the paper's algorithm as printed.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    backends: Vec<Entry>,
    walks: Vec<Walk>,
    paces: Vec<Pace>,
    queue: Queue,
    free: Bitmap,
    left: Vec<u32>,
    table: Vec<u32>,
}

/// What [`Builder::build`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many entries of the table were changed.
    pub changed: usize,
    /// How many backends of non-zero weight got no entry because there are more of them than
    /// entries: the last ones in the order of keys.
    pub starved: usize,
}

impl Builder {
    /// A builder that has not allocated anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `table` the table of `backends`; its length is the length of the table.
    ///
    /// Backends may come in any order. Those of weight 0 are left out. Entries of `table` that
    /// already hold the right value are not written; the others are written once, with their
    /// final value: a table that is being read at the same time, such as a memory-mapped BPF map,
    /// never shows anything but an old or a new value.
    ///
    /// An empty table is right, and no error, if there is no backend of non-zero weight. On an
    /// error the table is left as it was.
    pub fn build(&mut self, backends: &[Entry], table: &mut [u32]) -> Result<Outcome, Error> {
        let values = self.values(backends, table.len())?;
        let mut changed = 0;
        for (entry, &value) in table.iter_mut().zip(values) {
            if *entry != value {
                *entry = value;
                changed += 1;
            }
        }
        Ok(Outcome {
            changed,
            starved: self.backends.len().saturating_sub(table.len()),
        })
    }

    /// The table of `backends` of length `len`, in the builder's own memory, for callers that
    /// write it elsewhere by means of their own (atomic stores, a batched system call).
    ///
    /// As [`build`](Self::build) otherwise.
    pub fn values(&mut self, backends: &[Entry], len: usize) -> Result<&[u32], Error> {
        self.backends.clear();
        self.backends
            .extend(backends.iter().filter(|backend| backend.weight != 0));
        self.table.clear();
        if self.backends.is_empty() {
            return if len == 0 {
                Ok(&[])
            } else {
                Err(Error::NoBackend)
            };
        }
        let length = u32::try_from(len)
            .map_err(|_| Error::Length(len))
            .and_then(check_len)?;
        if !self.backends.is_sorted_by_key(|backend| backend.key) {
            self.backends.sort_unstable_by_key(|backend| backend.key);
        }
        if let Some(pair) = self
            .backends
            .windows(2)
            .find(|pair| pair[0].key == pair[1].key)
        {
            return Err(Error::DuplicateKey(pair[0].key));
        }
        self.table.resize(len, self.backends[0].value);
        if len > 1 && self.backends.len() > 1 {
            self.fill(length);
        }
        Ok(&self.table)
    }

    fn fill(&mut self, len: u32) {
        self.free.reset(len);
        self.walks.clear();
        self.walks.extend(
            self.backends
                .iter()
                .map(|backend| Walk::new(backend.key, len)),
        );
        let max = self
            .backends
            .iter()
            .map(|backend| backend.weight)
            .max()
            .unwrap_or(1);
        if self.backends.iter().all(|backend| backend.weight == max) {
            let turns = RoundRobin {
                backends: self.backends.len(),
                next: 0,
            };
            take_all(
                turns,
                &self.backends,
                &mut self.walks,
                &mut self.free,
                &mut self.left,
                &mut self.table,
            );
        } else {
            self.paces.clear();
            self.paces
                .extend(self.backends.iter().map(|backend| Pace::new(backend, max)));
            let turns = Weighted::new(&mut self.queue, &mut self.paces);
            take_all(
                turns,
                &self.backends,
                &mut self.walks,
                &mut self.free,
                &mut self.left,
                &mut self.table,
            );
        }
    }
}

fn take_all(
    mut turns: impl Turns,
    backends: &[Entry],
    walks: &mut [Walk],
    free: &mut Bitmap,
    left: &mut Vec<u32>,
    table: &mut [u32],
) {
    let len = table.len() as u32;
    for _ in listed(len)..len {
        let turn = turns.next();
        let entry = walks[turn].take(free, len);
        table[entry as usize] = backends[turn].value;
    }
    left.clear();
    free.list(left);
    while !left.is_empty() {
        let turn = turns.next();
        let (entry, at) = walks[turn].take_listed(left, len);
        left.swap_remove(at);
        table[entry as usize] = backends[turn].value;
    }
}

/// How many entries are left when listing them becomes cheaper than searching. `√M` balances
/// `M / left` probes against `left` computations; twice as many was measured to be slower.
fn listed(len: u32) -> u32 {
    len.isqrt()
}
