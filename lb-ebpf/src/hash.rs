//! The one mixing function of the datapath: filter bits and seals.
#![forbid(unsafe_code)]

use crate::abi::FrontendKey;

/// Odd constants with well spread bits (the fractional parts of the golden ratio
/// and of the square root of two).
const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0x6a09_e667_f3bc_c909;

/// Folds 64-bit words into a state; a multiply and a shift a word.
#[derive(Clone, Copy, Debug)]
pub struct Mixer(u64);

impl Mixer {
    /// Starts from `seed`.
    #[inline(always)]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Folds in one word.
    #[inline(always)]
    #[must_use]
    pub const fn mix(self, word: u64) -> Self {
        let h = (self.0 ^ word).wrapping_mul(K1);
        Self(h ^ (h >> 32))
    }

    /// 32 bits, each depending on every word.
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        (self.0.wrapping_mul(K2) >> 32) as u32
    }
}

/// Hash of a frontend without its scope: both scopes share a filter bit.
#[inline(always)]
pub fn frontend_hash(key: &FrontendKey) -> u64 {
    let [a, b, c, d] = key.addr.words();
    Mixer::new(u64::from(key.port.raw()) << 8 | u64::from(key.protocol))
        .mix(u64::from(a) | u64::from(b) << 32)
        .mix(u64::from(c) | u64::from(d) << 32)
        .0
}

/// Word index and bit mask of a frontend in the `FILTER` map.
#[inline(always)]
pub fn filter_bit(key: &FrontendKey) -> (u32, u64) {
    let h = Mixer::new(frontend_hash(key)).finish();
    ((h >> 6) & (crate::abi::FILTER_WORDS - 1), 1 << (h & 63))
}
