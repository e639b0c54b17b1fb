//! Mirrors of maps that never grow and whose keys belong to services: source ranges and
//! local backends.
//!
//! What does not fit is left out and reported, so that other services are not held up.
//! Both maps only admit something, so leaving out never admits too much.

use std::collections::HashMap;

/// Entries by service id, each list sorted.
#[derive(Debug)]
pub(crate) struct FixedMap<K, V> {
    held: HashMap<u32, Box<[(K, V)]>>,
    len: usize,
    capacity: usize,
}

/// What makes the entries of one service as wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change<K, V> {
    /// New or changed.
    pub(crate) put: Vec<(K, V)>,
    /// To delete.
    pub(crate) removed: Vec<K>,
    /// Whether some did not fit.
    pub(crate) full: bool,
}

impl<K, V> Default for FixedMap<K, V> {
    fn default() -> Self {
        Self {
            held: HashMap::new(),
            len: 0,
            capacity: usize::MAX,
        }
    }
}

impl<K: Ord + Copy, V: PartialEq + Copy> FixedMap<K, V> {
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity as usize;
    }

    /// Entries found in the map, for an empty mirror.
    pub(crate) fn restore(&mut self, entries: impl IntoIterator<Item = (u32, (K, V))>) {
        let mut lists: HashMap<u32, Vec<(K, V)>> = HashMap::new();
        for (id, entry) in entries {
            lists.entry(id).or_default().push(entry);
            self.len += 1;
        }
        for (id, mut list) in lists {
            list.sort_unstable_by_key(|(key, _)| *key);
            self.held.insert(id, list.into_boxed_slice());
        }
    }

    /// Services that have an entry.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.held.keys().copied()
    }

    /// Makes `wanted` the entries of service `id`; the first of a key counts. `leaving`
    /// entries of the map, of any service, are to be deleted but still take room.
    pub(crate) fn change(
        &mut self,
        id: u32,
        mut wanted: Vec<(K, V)>,
        leaving: usize,
    ) -> Change<K, V> {
        let old = self.held.remove(&id).unwrap_or_default();
        wanted.sort_by_key(|(key, _)| *key);
        wanted.dedup_by_key(|(key, _)| *key);
        let find = |list: &[(K, V)], key: &K| {
            let found = list.binary_search_by_key(key, |(key, _)| *key).ok()?;
            list.get(found).map(|(_, value)| *value)
        };
        let mut change = Change {
            put: Vec::new(),
            removed: Vec::new(),
            full: false,
        };
        let mut room = self.capacity.saturating_sub(self.len + leaving);
        wanted.retain(|(key, value)| {
            let before = find(&old, key);
            let fits = before.is_some() || room > 0;
            if !fits {
                change.full = true;
            } else if before != Some(*value) {
                room -= usize::from(before.is_none());
                change.put.push((*key, *value));
            }
            fits
        });
        let gone = old.iter().filter(|(key, _)| find(&wanted, key).is_none());
        change.removed.extend(gone.map(|(key, _)| *key));
        self.len = self.len + wanted.len() - old.len();
        if !wanted.is_empty() {
            self.held.insert(id, wanted.into_boxed_slice());
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(capacity: u32) -> FixedMap<u8, u8> {
        let mut map = FixedMap::default();
        map.set_capacity(capacity);
        map
    }

    #[test]
    fn only_differences_are_written() {
        let mut map = map(9);
        assert_eq!(map.change(7, vec![(2, 0), (1, 0)], 0).put, [(1, 0), (2, 0)]);
        let change = map.change(7, vec![(2, 5), (3, 0)], 0);
        assert_eq!(change.put, [(2, 5), (3, 0)]);
        assert_eq!(change.removed, [1]);
        assert_eq!(map.change(7, vec![], 0).removed, [2, 3]);
        assert_eq!((map.len, map.ids().count()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_fits_later() {
        let mut map = map(3);
        map.change(1, vec![(1, 0), (2, 0)], 0);
        let change = map.change(2, vec![(1, 0), (2, 0)], 0);
        assert_eq!((change.put, change.full), (vec![(1, 0)], true));
        let change = map.change(1, vec![(2, 1)], 0);
        assert!(!change.full, "an entry that stays needs no room");
        let change = map.change(2, vec![(1, 0), (2, 0)], 1);
        assert!(change.full, "what is being deleted still takes room");
        let change = map.change(2, vec![(1, 0), (2, 0)], 0);
        assert_eq!((change.put, change.full), (vec![(2, 0)], false));
    }
}
