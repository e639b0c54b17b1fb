//! What a table is built from: keys, values, weights; and why building can fail.

use core::fmt;

use crate::xxh64::xxh64;

/// The identity of a backend: two hashes of its name, one for each number of its permutation.
///
/// The order of keys is the order in which backends take turns; it means nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    offset: u64,
    skip: u64,
}

impl Key {
    /// `b"maglev-o"` and `b"maglev-s"` as big-endian numbers. They never change.
    const OFFSET_SEED: u64 = u64::from_be_bytes(*b"maglev-o");
    const SKIP_SEED: u64 = u64::from_be_bytes(*b"maglev-s");

    /// Hashes a name: any bytes that all machines agree on, such as address, port and protocol in
    /// network byte order. XXH64 under two fixed seeds.
    pub const fn new(name: &[u8]) -> Self {
        Self::from_hashes(xxh64(name, Self::OFFSET_SEED), xxh64(name, Self::SKIP_SEED))
    }

    /// Takes two independent, uniformly distributed hashes of a name, for callers with a hash
    /// function of their own.
    pub const fn from_hashes(offset: u64, skip: u64) -> Self {
        Self { offset, skip }
    }

    /// Where this backend's permutation of a table of `len` entries starts: `h1 mod len`.
    ///
    /// Below `len`; 0 if `len` is 0.
    pub const fn offset(self, len: u32) -> u32 {
        if len == 0 {
            0
        } else {
            (self.offset % len as u64) as u32
        }
    }

    /// How far apart consecutive entries of the permutation are: `h2 mod (len - 1) + 1`.
    ///
    /// From 1 to `len - 1`, so that it is coprime to a prime `len`; 1 if `len` is below 2.
    pub const fn skip(self, len: u32) -> u32 {
        if len < 2 {
            1
        } else {
            (self.skip % (len as u64 - 1)) as u32 + 1
        }
    }
}

/// A backend as the table builder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is. Decides which entries it owns.
    pub key: Key,
    /// What is written to the entries it owns, such as its slot in an array of backends. Has no
    /// influence on which those are, so it may differ between machines.
    pub value: u32,
    /// Its share, relative to the sum of all weights. 0: never chosen.
    pub weight: u32,
}

impl Entry {
    /// A backend of weight 1.
    pub const fn new(key: Key, value: u32) -> Self {
        Self {
            key,
            value,
            weight: 1,
        }
    }

    /// The same backend with another weight.
    #[must_use]
    pub const fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }
}

/// Why a table cannot be built, or a length not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The length is neither 1 nor a prime up to [`MAX_LEN`](crate::MAX_LEN).
    Length(usize),
    /// A table that is not empty has no backend of non-zero weight to hold.
    NoBackend,
    /// Two backends of non-zero weight have the same key.
    DuplicateKey(Key),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => {
                write!(
                    f,
                    "table length {len} is neither 1 nor a prime up to {}",
                    crate::MAX_LEN
                )
            }
            Self::NoBackend => f.write_str("no backend has a non-zero weight"),
            Self::DuplicateKey(key) => {
                write!(
                    f,
                    "two backends have the key {:016x}{:016x}",
                    key.offset, key.skip
                )
            }
        }
    }
}

impl core::error::Error for Error {}
