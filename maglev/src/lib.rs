//! Maglev consistent hashing: lookup tables that every machine builds alike.
//!
//! A load balancer that hashes each connection into a table of backends needs that table to be
//! *balanced* (each backend owns its share of the entries), *stable* (a backend that comes or
//! goes moves few entries besides its own) and *the same everywhere* (a connection that reaches
//! another node still finds its backend). This crate builds such tables with the algorithm of
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4, and adds weights, a choice of table length, and the lookup.
//!
//! `no_std`, no dependencies, no unsafe code.
//!
//! # Example
//!
//! ```
//! use maglev::{Builder, Entry, Key, index, table_len};
//!
//! // A key says who the backend is; a value is what the table holds for it.
//! let backends = [
//!     Entry::new(Key::new(b"10.0.0.1:8080"), 7),
//!     Entry::new(Key::new(b"10.0.0.2:8080"), 3),
//!     Entry::new(Key::new(b"10.0.0.3:8080"), 9).with_weight(2),
//! ];
//!
//! let mut builder = Builder::new(); // keep it: it owns the scratch memory
//! let mut table = vec![0; table_len(backends.len()) as usize];
//! builder.build(&backends, &mut table)?;
//!
//! // The lookup: one multiplication, one load.
//! let flow_hash: u32 = 0x9e37_79b9;
//! let value = table[index(flow_hash, table.len() as u32) as usize];
//! assert!([7, 3, 9].contains(&value));
//!
//! // 9 has half of the total weight, so it owns half of the table.
//! let nines = table.iter().filter(|&&value| value == 9).count();
//! assert!(nines.abs_diff(table.len() / 2) <= 2);
//! # Ok::<(), maglev::Error>(())
//! ```
//!
//! # Guarantees
//!
//! With `M` the length of the table and `n` the number of backends of non-zero weight:
//!
//! - **Reproducible.** Which backend owns which entry is a function of the set of
//!   (key, weight) and `M` alone. The order of the input and the values play no part; neither do
//!   endianness, word size or version: golden vectors in the tests fix the result, and
//!   changing it is a breaking change.
//! - **Complete.** Every entry is written, with the value of a backend whose weight is not 0.
//! - **Balanced.** Equal weights: the numbers of entries of two backends differ by at most 1.
//!   Unequal weights: a backend of weight `w` of a total `W` owns more than
//!   `(M - n) × w / W - 1` and fewer than `M × w / W + 2` entries, and at least one if `n <= M`. With the length given by
//!   [`table_len`] (`M >= 100 n`, below the top of its ladder), that is within 1 % for equal weights.
//! - **Stable.** If one backend leaves, its entries move, and few of the others. This is not
//!   proven but measured (in the tests, equal weights): at the lengths of [`table_len`], up to
//!   2.5 % of all entries move besides those of the backend that left, on average over whom
//!   it could be. A single removal has no bound: permutations that happen to run alike cost
//!   more. A change of `M` moves nearly everything, see [`table_len`].
//! - **Weights scale.** Only the ratio of weights counts; equal weights, whatever they are, give
//!   exactly the table of the paper.
//!
//! # Disruption and length
//!
//! That one removal moves a little more than it must is a property of the paper's algorithm, and
//! shrinks with the number of entries per backend. Means over up to 50 single removals, equal
//! weights, as shares of all flows:
//!
//! | backends | length | unavoidable | beyond that | ratio |
//! |---------:|-------:|------------:|------------:|------:|
//! |        3 |    509 |      33.3 % |       0.5 % |  1.01 |
//! |        8 |   1021 |      12.5 % |       2.2 % |  1.18 |
//! |       10 |   1021 |      10.0 % |       2.4 % |  1.24 |
//! |       10 |  16381 |      10.0 % |       0.5 % |  1.05 |
//! |       50 |   5003 |       2.0 % |       1.8 % |  1.91 |
//! |       50 |  65537 |       2.0 % |       0.4 % |  1.22 |
//! |      100 |  10007 |       1.0 % |       1.5 % |  2.51 |
//! |     1000 | 100003 |       0.1 % |       0.6 % |  6.58 |
//!
//! Where flows that move break, choose a longer table.
//!
//! # Cost
//!
//! Building takes O(`M` log `M`) expected probes at worst, with a small constant: half of them
//! are replaced by arithmetic over the few entries that are still free (see [`Builder`]).
//! Unequal weights add O(`M` log `n`). Memory: 4.2 bytes per entry and 32 bytes per backend, kept
//! in the [`Builder`] between tables, so that building many tables allocates for the largest
//! only. Lookup is O(1).
//!
//! # Features
//!
//! `alloc` (default): [`Builder`] and the analysis functions. Without it the crate needs `core`
//! alone and offers keys, lengths and the lookup, which is what a datapath shares with its
//! control plane.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
mod analysis;
#[cfg(feature = "alloc")]
mod builder;
mod entry;
#[cfg(feature = "alloc")]
mod free;
mod length;
#[cfg(feature = "alloc")]
mod permutation;
#[cfg(feature = "alloc")]
mod turns;
mod xxh64;

#[cfg(feature = "alloc")]
pub use analysis::{Count, Disruption, counts, disruption, imbalance};
#[cfg(feature = "alloc")]
pub use builder::{Builder, Outcome};
pub use entry::{Entry, Error, Key};
pub use length::{LADDER, MAX_LEN, check_len, is_prime, table_len};

/// The entry that a flow hash selects in a table of `len` entries: `hash × len / 2^32`.
///
/// The multiplication replaces a division. It uses the *high* bits of the hash, so `hash` must
/// avalanche into them: a CRC, a Jenkins or Murmur finaliser or a random number will do, a plain
/// sum will not. The result is below `len`, except that it is 0 for a `len` of 0.
///
/// ```
/// assert_eq!(maglev::index(0, 1021), 0);
/// assert_eq!(maglev::index(u32::MAX, 1021), 1020);
/// ```
#[inline]
pub const fn index(hash: u32, len: u32) -> u32 {
    ((hash as u64 * len as u64) >> 32) as u32
}
