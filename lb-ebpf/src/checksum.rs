//! Internet checksums brought up to date by differences (RFC 1624), and SCTP's CRC32c.
#![forbid(unsafe_code)]

/// Difference between old and new words, as a one's complement sum that still has to be
/// folded. Words are in memory order: the sum does not care about byte order (RFC 1071).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Of words that the pseudo header repeats (addresses).
    pub pseudo: u32,
    /// Of words of the segment itself.
    pub segment: u32,
}

impl Delta {
    /// Both together.
    #[inline(always)]
    pub const fn total(self) -> u32 {
        add(self.pseudo, self.segment)
    }
}

/// One's complement sum of two partial sums.
///
/// Adding the carry in the upper half: of `low + high` the compiler makes a comparison and a
/// branch, and a verifier that keeps the two ways apart has 2^n of them after n sums.
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    (sum.wrapping_add(sum << 32) >> 32) as u32
}

/// The difference that replacing `old` by `new` makes.
#[inline(always)]
pub const fn diff(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// A partial sum as 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A checksum field after a difference.
#[inline(always)]
pub const fn updated(field: u16, delta: u32) -> u16 {
    !fold(add(!field as u32 & 0xffff, delta))
}

/// A transport checksum field after a difference; for UDP, 0 means "none" and stays, and a
/// checksum that comes out as 0 is sent as all ones (RFC 768).
#[inline(always)]
pub const fn updated_transport(field: u16, delta: Delta, udp: bool) -> u16 {
    if udp && field == 0 {
        return 0;
    }
    let new = updated(field, delta.total());
    if udp && new == 0 { 0xffff } else { new }
}

/// CRC32c (Castagnoli) of SCTP, reflected.
pub mod crc32c {
    /// The polynomial, reflected.
    const POLY: u32 = 0x82f6_3b78;

    /// `a × b` modulo the polynomial (reflected: bit 31 is the coefficient of x^0).
    const fn multiply(a: u32, mut b: u32) -> u32 {
        let mut product = 0;
        let mut bit = 32;
        while bit > 0 {
            bit -= 1;
            if a >> bit & 1 == 1 {
                product ^= b;
            }
            b = (b >> 1) ^ if b & 1 == 1 { POLY } else { 0 };
        }
        product
    }

    /// How many doublings of a length are needed: 2^17 bytes are more than a packet has.
    const DOUBLINGS: usize = 17;

    /// `ADVANCED[k][n][v]`: value v in nibble n, followed by 2^k bytes of zeros.
    ///
    /// Lookups instead of arithmetic: a verifier follows every bit of a mask both ways.
    static ADVANCED: [[[u32; 16]; 8]; DOUBLINGS] = {
        let mut table = [[[0; 16]; 8]; DOUBLINGS];
        // x^8: bit 31 - 8.
        let mut power = 1 << 23;
        let mut k = 0;
        while k < DOUBLINGS {
            let mut nibble = 0;
            while nibble < 8 {
                let mut value = 0;
                while value < 16 {
                    table[k][nibble][value] = multiply(power, (value as u32) << (4 * nibble));
                    value += 1;
                }
                nibble += 1;
            }
            power = multiply(power, power);
            k += 1;
        }
        table
    };

    /// The CRC after replacing the word `old` by `new` (memory order), with `after` bytes
    /// following the word.
    ///
    /// CRC is linear: the CRCs of two messages of one length differ by the CRC (without
    /// initial value and final inversion) of their difference, which here is a word
    /// followed by zeros. Going over the word itself is as good as going over four zeros.
    #[inline(always)]
    pub fn updated(crc: u32, old: u32, new: u32, after: u16) -> u32 {
        // A reflected CRC takes the first byte into its low bits: memory order read as
        // little endian.
        let mut delta = u32::from_le_bytes((old ^ new).to_ne_bytes());
        let zeros = u32::from(after) + 4;
        for (k, table) in ADVANCED.iter().enumerate() {
            if zeros >> k & 1 == 0 {
                continue;
            }
            let mut next = 0;
            for (nibble, values) in table.iter().enumerate() {
                next ^= values[(delta >> (4 * nibble) & 15) as usize];
            }
            delta = next;
        }
        crc ^ delta
    }

    #[cfg(test)]
    mod tests {
        /// Bit by bit, as RFC 9260 appendix A defines it.
        fn crc(bytes: &[u8]) -> u32 {
            let mut crc = !0;
            for byte in bytes {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = (crc >> 1) ^ if crc & 1 == 1 { super::POLY } else { 0 };
                }
            }
            !crc
        }

        #[test]
        fn known_value() {
            assert_eq!(crc(b"123456789"), 0xe306_9283);
        }

        #[test]
        fn replacing_a_word_gives_the_crc_of_the_new_message() {
            for len in [4usize, 5, 12, 100, 1_452, 9_000, 65_535] {
                let mut message: Vec<u8> = (0..len).map(|i| (i * 7 + 3) as u8).collect();
                let before = crc(&message);
                let old = u32::from_ne_bytes([message[0], message[1], message[2], message[3]]);
                let new = old ^ 0x5aa5_1234;
                message[..4].copy_from_slice(&new.to_ne_bytes());
                let updated = super::updated(before, old, new, (len - 4) as u16);
                assert_eq!(updated, crc(&message), "length {len}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(words: &[u16]) -> u16 {
        let total: u64 = words.iter().map(|w| u64::from(*w)).sum();
        let mut total = total;
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    proptest! {
        #[test]
        fn an_updated_checksum_is_as_good_as_a_new_one(
            mut words in prop::collection::vec(any::<u16>(), 4..40),
            at in 0usize..38,
            new in any::<u32>(),
        ) {
            let at = at.min(words.len() - 2) & !1;
            let before = sum(&words);
            let old = u32::from(words[at]) | u32::from(words[at + 1]) << 16;
            words[at] = new as u16;
            words[at + 1] = (new >> 16) as u16;
            let updated = updated(before, diff(old, new));
            let fresh = sum(&words);
            // Zero has two representations.
            prop_assert!(updated == fresh || (updated ^ fresh) == 0xffff && (fresh == 0 || updated == 0));
        }
    }

    #[test]
    fn udp_without_checksum_stays_without() {
        let delta = Delta {
            pseudo: 7,
            segment: 9,
        };
        assert_eq!(updated_transport(0, delta, true), 0);
        assert_ne!(updated_transport(0, delta, false), 0);
    }
}
