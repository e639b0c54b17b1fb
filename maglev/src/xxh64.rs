//! XXH64, the 64-bit xxHash, as its specification states it (<https://github.com/Cyan4973/xxHash>,
//! `doc/xxhash_spec.md`).
//!
//! Chosen because it is specified to the bit, mixes well on keys of a few bytes, and has test
//! vectors made by others. Input is read as little-endian words on every machine. Not keyed
//! against adversaries: who chooses all keys can choose the table.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

const fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

const fn merge(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
}

/// XXH64 of `bytes`.
pub(crate) const fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let mut rest = bytes;
    let mut hash = if bytes.len() < 32 {
        seed.wrapping_add(P5)
    } else {
        let mut lanes = [
            seed.wrapping_add(P1).wrapping_add(P2),
            seed.wrapping_add(P2),
            seed,
            seed.wrapping_sub(P1),
        ];
        while rest.len() >= 32 {
            let mut lane = 0;
            while let (Some((word, tail)), true) = (rest.split_first_chunk::<8>(), lane < 4) {
                lanes[lane] = round(lanes[lane], u64::from_le_bytes(*word));
                rest = tail;
                lane += 1;
            }
        }
        let mixed = lanes[0]
            .rotate_left(1)
            .wrapping_add(lanes[1].rotate_left(7))
            .wrapping_add(lanes[2].rotate_left(12))
            .wrapping_add(lanes[3].rotate_left(18));
        merge(
            merge(merge(merge(mixed, lanes[0]), lanes[1]), lanes[2]),
            lanes[3],
        )
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ round(0, u64::from_le_bytes(*word))).rotate_left(27);
        hash = hash.wrapping_mul(P1).wrapping_add(P4);
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk::<4>() {
        hash = (hash ^ (u32::from_le_bytes(*word) as u64).wrapping_mul(P1)).rotate_left(23);
        hash = hash.wrapping_mul(P2).wrapping_add(P3);
        rest = tail;
    }
    while let Some((byte, tail)) = rest.split_first() {
        hash = (hash ^ (*byte as u64).wrapping_mul(P5))
            .rotate_left(11)
            .wrapping_mul(P1);
        rest = tail;
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    /// Expected values: the reference implementation (Python package `xxhash`).
    #[test]
    fn agrees_with_the_reference_implementation() {
        let bytes: [u8; 100] = core::array::from_fn(|at| at as u8);
        let seed = u64::from_be_bytes(*b"maglev-o");
        for (input, unseeded, seeded) in [
            (&b""[..], 0xef46_db37_51d8_e999, 0xe20d_164e_640c_98ab),
            (b"a", 0xd24e_c4f1_a98c_6e5b, 0x4ab8_6392_abe4_15dd),
            (b"abc", 0x44bc_2cf5_ad77_0999, 0x78e1_71e0_a615_8719),
            (
                b"10.0.0.1:8080",
                0xcb97_2177_068e_b685,
                0x41cc_7ab7_f27f_9b64,
            ),
            (&bytes[..18], 0x5029_7af5_a62c_6c94, 0x8541_1476_6d07_e25e),
            (&bytes[..31], 0xc346_d2b5_9b4d_8ee1, 0xa316_970d_8cfd_4fcd),
            (&bytes[..32], 0xcbf5_9c51_16ff_32b4, 0xe38f_d639_5992_4218),
            (&bytes[..], 0x6ac1_e580_3216_6597, 0xcb3e_eacb_570d_c1f5),
        ] {
            assert_eq!(xxh64(input, 0), unseeded, "{input:?}");
            assert_eq!(xxh64(input, seed), seeded, "{input:?}");
        }
    }
}
