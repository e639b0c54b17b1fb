//! A backend's walk through the table, in the order of its permutation:
//! `permutation[j] = (offset + j × skip) mod M`.
//!
//! `M` is prime, so the walk reaches every entry, and it can be inverted: entry `e` is at place
//! `j = (e - offset) × skip⁻¹ mod M`.

use crate::{Key, free::Bitmap};

/// Where a backend stands in its permutation. All numbers are below `M`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    next: u32,
    skip: u32,
    offset: u32,
    /// `skip⁻¹ mod M`; 0 until it is needed.
    inverse: u32,
}

impl Walk {
    /// At the start. `len` is prime.
    pub(crate) fn new(key: Key, len: u32) -> Self {
        let offset = key.offset(len);
        Self {
            next: offset,
            skip: key.skip(len),
            offset,
            inverse: 0,
        }
    }

    /// Takes the next free entry out of `free`, of which there is at least one.
    #[inline]
    pub(crate) fn take(&mut self, free: &mut Bitmap, len: u32) -> u32 {
        // Adding `skip` modulo `len`, as a subtraction that tells by its borrow whether it wrapped.
        let (skip, wrap) = (self.skip, len - self.skip);
        let step = |at: u32| {
            let (wrapped, below) = at.overflowing_sub(wrap);
            if below { at + skip } else { wrapped }
        };
        // One branch per place: looking at several places without branches was tried and takes
        // three times as long, because then each turn waits for the one before.
        let mut at = self.next;
        while !free.take(at) {
            at = step(at);
        }
        self.next = step(at);
        at
    }

    /// Takes the next free entry out of a list of those that are left.
    ///
    /// All entries before `next` in the permutation were found taken, by this backend or
    /// another, so the next free one is the one with the lowest place of all.
    pub(crate) fn take_listed(&mut self, left: &[u32], len: u32) -> (u32, usize) {
        if self.inverse == 0 {
            self.inverse = inverse(self.skip, len);
        }
        // Shoup's multiplication by a constant: the quotient is estimated with the constant's
        // scaled reciprocal and is too small by at most 1.
        let scaled = ((u64::from(self.inverse) << 32) / u64::from(len)) as u32;
        let shift = len - self.offset;
        let places = left.iter().zip(0_u64..).map(|(&entry, at)| {
            let distance = entry + shift;
            let quotient = ((u64::from(distance) * u64::from(scaled)) >> 32) as u32;
            let rest = distance
                .wrapping_mul(self.inverse)
                .wrapping_sub(quotient.wrapping_mul(len));
            let place = rest.min(rest.wrapping_sub(len));
            u64::from(place) << 32 | at
        });
        let at = places.fold(u64::MAX, u64::min) as u32 as usize;
        (left[at], at)
    }
}

/// `number⁻¹ mod prime`, for a number from 1 to `prime - 1`: the extended Euclidean algorithm.
fn inverse(number: u32, prime: u32) -> u32 {
    let (mut rest, mut next_rest) = (prime, number);
    let (mut factor, mut next_factor) = (0_i64, 1_i64);
    while next_rest != 0 {
        let quotient = rest / next_rest;
        (rest, next_rest) = (next_rest, rest - quotient * next_rest);
        (factor, next_factor) = (next_factor, factor - i64::from(quotient) * next_factor);
    }
    factor.rem_euclid(i64::from(prime)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_times_number_is_one() {
        for prime in [2, 3, 211, 1021, 65_537, crate::MAX_LEN] {
            for number in (1..prime)
                .step_by((prime as usize / 500).max(1))
                .chain([prime - 1])
            {
                let product = u64::from(inverse(number, prime)) * u64::from(number);
                assert_eq!(product % u64::from(prime), 1, "{number} modulo {prime}");
            }
        }
    }
}
