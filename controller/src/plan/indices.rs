//! The allocator of dense indices: service ids and backend slots.
//!
//! The lowest free index is taken first, so that an empty start gives the same
//! numbers each time. Freed ones are quarantined like slab regions.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct Indices {
    free: BTreeSet<u32>,
    quarantine: Vec<u32>,
    /// Indices from here on were never used.
    next: u32,
    capacity: u32,
}

impl Indices {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    pub(crate) fn grow(&mut self, capacity: u32) {
        self.capacity = self.capacity.max(capacity);
    }

    /// Indices in use, quarantined ones included.
    pub(crate) fn used(&self) -> u32 {
        self.next - self.free.len() as u32
    }

    /// Whether an index is in use or in quarantine.
    pub(crate) fn is_used(&self, index: u32) -> bool {
        index < self.next && !self.free.contains(&index)
    }

    pub(crate) fn allocate(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop_first() {
            return Some(index);
        }
        let index = self.next;
        (index < self.capacity).then(|| {
            self.next += 1;
            index
        })
    }

    /// Marks an index that is in use already (restored state).
    pub(crate) fn claim(&mut self, index: u32) {
        while self.next <= index {
            self.free.insert(self.next);
            self.next += 1;
        }
        self.free.remove(&index);
    }

    /// Takes back an index that was allocated, but never published: free at once.
    pub(crate) fn give_back(&mut self, index: u32) {
        self.free.insert(index);
    }

    /// Gives an index back; it stays quarantined until [`Self::release`].
    pub(crate) fn free(&mut self, index: u32) {
        self.quarantine.push(index);
    }

    pub(crate) fn has_quarantined(&self) -> bool {
        !self.quarantine.is_empty()
    }

    /// Ends the quarantine: a grace period has passed.
    pub(crate) fn release(&mut self) {
        self.free.extend(self.quarantine.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_free_index_comes_first_after_release() {
        let mut indices = Indices::new(4);
        for expected in 0..4 {
            assert_eq!(indices.allocate(), Some(expected));
        }
        assert_eq!(indices.allocate(), None);
        indices.free(2);
        indices.free(1);
        assert_eq!(indices.allocate(), None, "quarantined");
        indices.release();
        assert_eq!(indices.allocate(), Some(1));
        assert_eq!(indices.used(), 3);
    }

    #[test]
    fn claimed_indices_are_not_handed_out() {
        let mut indices = Indices::new(10);
        indices.claim(3);
        indices.claim(0);
        assert_eq!(indices.used(), 2);
        assert_eq!(
            [indices.allocate(), indices.allocate(), indices.allocate()],
            [Some(1), Some(2), Some(4)]
        );
    }
}
