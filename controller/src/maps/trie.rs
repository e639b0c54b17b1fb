//! A longest-prefix trie, used as a set of prefixes.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{
    Map, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use lb_ebpf::abi::{SourceRange, SourceRangeKey};

use super::{MapsError, checked};
use crate::sys::BatchError;

/// `SOURCE_RANGES`. Prefixes are written one by one: kernels before 5.13 have no batch
/// operations on tries.
#[derive(Debug)]
pub struct SourceRanges {
    /// aya wants writers to be exclusive.
    trie: Mutex<LpmTrie<MapData, SourceRange, u32>>,
    name: &'static str,
    max_entries: u32,
}

impl SourceRanges {
    pub(super) fn new(data: MapData, name: &'static str) -> Result<Self, MapsError> {
        let max_entries = checked(&data, name, size_of::<SourceRangeKey>(), size_of::<u32>())?;
        let trie = Map::LpmTrie(data)
            .try_into()
            .map_err(|source| MapsError::Open {
                path: name.into(),
                source: Box::new(source),
            })?;
        Ok(Self {
            trie: Mutex::new(trie),
            name,
            max_entries,
        })
    }

    /// Most prefixes that fit.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// All prefixes, each once, in no order. Those that change meanwhile may be missed.
    pub fn dump(&self) -> Result<Vec<SourceRangeKey>, MapsError> {
        let trie = self.trie();
        // A walk over a trie begins anew when the prefix it stands at is deleted.
        let bound = self.max_entries as usize * 2;
        let mut found = Vec::new();
        for key in trie.keys().take(bound) {
            let key = key.map_err(|error| MapsError::Io {
                what: "read",
                name: self.name,
                source: cause(error),
            })?;
            found.push(SourceRangeKey {
                prefix_len: key.prefix_len(),
                range: key.data(),
            });
        }
        found.sort_unstable_by_key(|key| (key.range.service_id, key.prefix_len, key.range.addr));
        found.dedup();
        Ok(found)
    }

    /// Inserts; a prefix that is there is no error.
    pub fn insert(&self, keys: &[SourceRangeKey]) -> Result<(), BatchError> {
        self.each(keys, |trie, key| trie.insert(key, 0, 0))
    }

    /// Deletes; an absent prefix is no error.
    pub fn remove(&self, keys: &[SourceRangeKey]) -> Result<(), BatchError> {
        self.each(keys, |trie, key| match trie.remove(key) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            other => other,
        })
    }

    fn each(
        &self,
        keys: &[SourceRangeKey],
        write: impl Fn(
            &mut LpmTrie<MapData, SourceRange, u32>,
            &Key<SourceRange>,
        ) -> Result<(), MapError>,
    ) -> Result<(), BatchError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut trie = self.trie();
        for (done, key) in keys.iter().enumerate() {
            let key = Key::new(key.prefix_len, key.range);
            write(&mut trie, &key).map_err(|error| BatchError {
                done,
                source: cause(error),
            })?;
        }
        Ok(())
    }

    fn trie(&self) -> MutexGuard<'_, LpmTrie<MapData, SourceRange, u32>> {
        self.trie.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's error behind one of aya's.
fn cause(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
