//! How long a table is: the ladder of adaptive lengths, and the check of chosen ones.

use crate::Error;

/// The greatest length that [`check_len`] allows: the greatest prime below 2^24 (64 MiB of table).
pub const MAX_LEN: u32 = 16_777_213;

/// The lengths that [`table_len`] chooses from, all prime, each about twice the one before.
pub const LADDER: [u32; 12] = [
    211, 509, 1021, 2039, 5003, 10_007, 20_011, 50_021, 100_003, 200_003, 500_009, 1_000_003,
];

/// The length for a number of backends of non-zero weight: 0 for none, 1 for one, otherwise the
/// smallest rung of [`LADDER`] of at least 100 entries per backend, or the last rung.
///
/// 100 entries per backend keep the imbalance at or below 1 % (section 5.3 of the paper). A pure function of
/// the number of backends, so machines agree. Changing the length moves nearly every entry, hence
/// the wide steps; where that is not acceptable, choose one length for good ([`check_len`]).
///
/// Weights are not considered, so that changing one never changes the length. Unequal weights
/// round a share by up to two entries: if the lightest backend has less than a hundredth of the
/// average weight, choose a longer table.
///
/// ```
/// assert_eq!(maglev::table_len(10), 1021);
/// assert_eq!(maglev::table_len(50), 5003);
/// ```
pub const fn table_len(backends: usize) -> u32 {
    if backends < 2 {
        return backends as u32;
    }
    let mut rung = 0;
    while rung < LADDER.len() - 1 && (LADDER[rung] as usize) < backends.saturating_mul(100) {
        rung += 1;
    }
    LADDER[rung]
}

/// Whether a length chosen by a user can be used: 1, or a prime up to [`MAX_LEN`].
///
/// The length must be prime because a permutation reaches every entry only if its skip and the
/// length have no common divisor.
pub const fn check_len(len: u32) -> Result<u32, Error> {
    if len == 1 || (len <= MAX_LEN && is_prime(len)) {
        Ok(len)
    } else {
        Err(Error::Length(len as usize))
    }
}

/// Whether `number` is prime. Trial division: O(√number).
pub const fn is_prime(number: u32) -> bool {
    if number < 4 || number.is_multiple_of(2) {
        return number == 2 || number == 3;
    }
    let mut divisor: u32 = 3;
    while divisor as u64 * divisor as u64 <= number as u64 {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    true
}
