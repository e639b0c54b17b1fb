//! Which entries are still free: one bit each, so that 65,537 of them fit the first-level cache.

use alloc::vec::Vec;

/// A set of entries of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// Makes it hold the entries from 0 to `len - 1`.
    pub(crate) fn reset(&mut self, len: u32) {
        self.words.clear();
        self.words.resize((len / 64) as usize, u64::MAX);
        self.words.push((1 << (len % 64)) - 1);
    }

    /// Removes an entry; tells whether it was there.
    #[inline]
    pub(crate) fn take(&mut self, entry: u32) -> bool {
        let word = &mut self.words[(entry / 64) as usize];
        let bit = 1 << (entry % 64);
        let there = *word & bit != 0;
        if there {
            *word &= !bit;
        }
        there
    }

    /// Appends the entries it holds to `list`.
    pub(crate) fn list(&self, list: &mut Vec<u32>) {
        for (base, &word) in (0..).step_by(64).zip(&self.words) {
            let mut rest = word;
            while rest != 0 {
                list.push(base + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
    }
}
