//! The allocator of `MAGLEV`: cuts one array into tables.
//!
//! Best fit over free regions that are joined with their neighbours. A freed region
//! is quarantined: programs that started before it was freed may still read it, so it
//! is handed out again only after [`Slab::release`], which the caller calls after a
//! grace period.

use std::collections::{BTreeMap, BTreeSet};

use lb_ebpf::abi::TableRef;

/// See the module's documentation. Offsets and lengths are in entries.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    by_offset: BTreeMap<u32, u32>,
    by_len: BTreeSet<(u32, u32)>,
    quarantine: Vec<TableRef>,
    capacity: u32,
    used: u32,
}

impl Slab {
    pub(crate) fn new(capacity: u32) -> Self {
        let mut slab = Self::default();
        slab.grow(capacity);
        slab
    }

    /// Entries in use, quarantined ones included.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Raises the capacity; a smaller one changes nothing.
    pub(crate) fn grow(&mut self, capacity: u32) {
        let old = self.capacity;
        self.capacity = old.max(capacity);
        self.insert(old, self.capacity - old);
    }

    /// A region of `len` entries; `None` if no free one is long enough.
    pub(crate) fn allocate(&mut self, len: u32) -> Option<TableRef> {
        if len == 0 {
            return Some(TableRef::EMPTY);
        }
        let &(found, offset) = self.by_len.range((len, 0)..).next()?;
        self.remove(offset, found);
        self.insert(offset + len, found - len);
        self.used += len;
        Some(TableRef::new(offset, len))
    }

    /// Marks a region that is in use already (restored state). `false` if part of it
    /// was in use.
    pub(crate) fn claim(&mut self, table: TableRef) -> bool {
        let (start, end) = (table.offset(), table.offset() + table.len());
        let Some((&offset, &len)) = self.by_offset.range(..=start).next_back() else {
            return false;
        };
        if offset + len < end {
            return false;
        }
        self.remove(offset, len);
        self.insert(offset, start - offset);
        self.insert(end, offset + len - end);
        self.used += table.len();
        true
    }

    /// Takes back a region that was allocated, but never published: free at once.
    pub(crate) fn give_back(&mut self, table: TableRef) {
        if !table.is_empty() {
            self.used -= table.len();
            self.insert(table.offset(), table.len());
        }
    }

    /// Gives a region back; it stays quarantined until [`Self::release`].
    pub(crate) fn free(&mut self, table: TableRef) {
        if !table.is_empty() {
            self.quarantine.push(table);
        }
    }

    pub(crate) fn has_quarantined(&self) -> bool {
        !self.quarantine.is_empty()
    }

    /// Ends the quarantine: a grace period has passed.
    pub(crate) fn release(&mut self) {
        for table in std::mem::take(&mut self.quarantine) {
            self.give_back(table);
        }
    }

    /// Makes a region free; one of no entries is none.
    fn insert(&mut self, mut offset: u32, mut len: u32) {
        if len == 0 {
            return;
        }
        if let Some((&before, &before_len)) = self.by_offset.range(..offset).next_back()
            && before + before_len == offset
        {
            self.remove(before, before_len);
            offset = before;
            len += before_len;
        }
        if let Some(&after_len) = self.by_offset.get(&(offset + len)) {
            self.remove(offset + len, after_len);
            len += after_len;
        }
        self.by_offset.insert(offset, len);
        self.by_len.insert((len, offset));
    }

    fn remove(&mut self, offset: u32, len: u32) {
        self.by_offset.remove(&offset);
        self.by_len.remove(&(len, offset));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn freed_region_is_not_reused_before_release() {
        let mut slab = Slab::new(10);
        let a = slab.allocate(10).unwrap();
        slab.free(a);
        assert_eq!(slab.allocate(1), None);
        slab.release();
        assert_eq!(slab.allocate(10), Some(a));
    }

    #[test]
    fn growing_joins_the_free_end() {
        let mut slab = Slab::new(10);
        slab.allocate(6).unwrap();
        slab.grow(20);
        assert_eq!(slab.allocate(14), Some(TableRef::new(6, 14)));
        slab.grow(20);
        assert_eq!(slab.allocate(1), None, "nothing lies beyond the capacity");
    }

    proptest! {
        /// Whatever is allocated and freed, regions never overlap, stay inside, and
        /// everything is one free region in the end.
        #[test]
        fn regions_never_overlap(ops in prop::collection::vec((1u32..40, any::<bool>()), 1..200)) {
            let mut slab = Slab::new(512);
            let mut live: Vec<TableRef> = Vec::new();
            for (len, free) in ops {
                if free && !live.is_empty() {
                    let victim = live.swap_remove(len as usize % live.len());
                    slab.free(victim);
                    slab.release();
                } else if let Some(table) = slab.allocate(len) {
                    prop_assert!(table.offset() + table.len() <= 512);
                    for other in &live {
                        let apart = table.offset() + table.len() <= other.offset()
                            || other.offset() + other.len() <= table.offset();
                        prop_assert!(apart, "{table:?} overlaps {other:?}");
                    }
                    live.push(table);
                }
            }
            prop_assert_eq!(slab.used(), live.iter().map(|t| t.len()).sum::<u32>());
            // What is live can be claimed in a fresh slab, once.
            let mut copy = Slab::new(512);
            for table in &live {
                prop_assert!(copy.claim(*table));
                prop_assert!(!copy.claim(*table));
            }
            for table in live {
                slab.free(table);
            }
            slab.release();
            prop_assert_eq!(slab.allocate(512), Some(TableRef::new(0, 512)));
        }
    }
}
