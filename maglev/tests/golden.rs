//! Tables that must never change: machines of different versions have to agree on them.

#[path = "support/common.rs"]
mod common;

use common::{backends, build, reference};
use maglev::{Entry, Key, LADDER, MAX_LEN, check_len, index, is_prime, table_len};

/// FNV-1a over the table in little-endian order; independent of the hash under test.
fn digest(table: &[u32]) -> u64 {
    table
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Expected values computed apart from this crate, from the `xxhash` package of Python.
#[test]
fn permutations_are_golden() {
    let key = Key::new(b"10.0.0.1:8080");
    assert_eq!(
        key,
        Key::from_hashes(0x41cc_7ab7_f27f_9b64, 0x2881_80e4_9dbd_2a63)
    );
    assert_eq!((key.offset(1021), key.skip(1021)), (243, 248));
    assert_eq!((key.offset(65_537), key.skip(65_537)), (57_809, 10_852));
}

#[test]
fn small_table_is_golden() {
    let table = build(&backends(3), 31);
    assert_eq!(
        table,
        [
            2, 2, 2, 2, 0, 0, 2, 1, 1, 1, 2, 0, 0, 2, 1, 1, 1, 0, 0, 0, 0, 2, 1, 0, 0, 1, 1, 1, 2,
            2, 2
        ]
    );
}

#[test]
fn tables_are_golden() {
    let weighted = |entry: Entry| entry.with_weight(entry.value % 8);
    let cases = [
        (backends(10), 1021, 0xcbbf_fc6b_0dfe_2761),
        (backends(50), 5003, 0xc34a_6932_eb41_46b1),
        (backends(1000), 65_537, 0xc901_153c_24a9_12c6),
        (
            backends(10).into_iter().map(weighted).collect(),
            1021,
            0xdf5b_16ab_64d7_c6e1,
        ),
        (
            backends(1000).into_iter().map(weighted).collect(),
            65_537,
            0x36d7_9a71_af69_8406,
        ),
    ];
    for (entries, len, expected) in cases {
        let found = digest(&build(&entries, len));
        assert_eq!(
            found,
            expected,
            "{} backends, {len} entries: {found:#018x}",
            entries.len()
        );
    }
}

#[test]
fn tables_are_those_of_the_paper_as_printed() {
    for (count, len) in [
        (2, 2),
        (2, 3),
        (3, 5),
        (7, 7),
        (9, 7),
        (2, 211),
        (10, 1021),
        (50, 5003),
    ] {
        let entries = backends(count);
        assert_eq!(
            build(&entries, len),
            reference(&entries, len),
            "{count} backends, {len} entries"
        );
    }
}

#[test]
fn ladder_is_prime_and_ascending() {
    assert!(
        LADDER
            .iter()
            .all(|&len| is_prime(len) && check_len(len) == Ok(len))
    );
    assert!(LADDER.is_sorted());
    assert!(is_prime(MAX_LEN) && check_len(MAX_LEN) == Ok(MAX_LEN));
    assert!((MAX_LEN + 1..1 << 24).all(|len| !is_prime(len)));
}

#[test]
fn length_follows_the_ladder() {
    for (backends, len) in [
        (0, 0),
        (1, 1),
        (2, 211),
        (3, 509),
        (5, 509),
        (6, 1021),
        (10, 1021),
        (11, 2039),
        (50, 5003),
        (51, 10_007),
        (1000, 100_003),
        (10_000, 1_000_003),
        (10_001, 1_000_003),
        (usize::MAX, 1_000_003),
    ] {
        assert_eq!(table_len(backends), len, "{backends} backends");
    }
}

#[test]
fn primes_are_told_from_composites() {
    let mut composite = vec![false; 100_000];
    for number in 2..composite.len() {
        assert_eq!(is_prime(number as u32), !composite[number], "{number}");
        for multiple in (number * number..composite.len()).step_by(number) {
            composite[multiple] = true;
        }
    }
    assert!(!is_prime(0) && !is_prime(1));
    assert!(is_prime(4_294_967_291) && !is_prime(u32::MAX));
}

#[test]
fn unusable_lengths_are_refused() {
    for len in [0, 4, 1024, 65_535, MAX_LEN + 1, 16_777_259, u32::MAX] {
        assert!(check_len(len).is_err(), "{len}");
    }
    assert_eq!(check_len(1), Ok(1));
    assert_eq!(check_len(16_381), Ok(16_381));
}

#[test]
fn lookup_spreads_the_hash_space_evenly() {
    assert_eq!(index(u32::MAX, 0), 0);
    assert_eq!(index(u32::MAX, u32::MAX), u32::MAX - 1);
    let len = 211;
    let mut hits = vec![0_u32; len as usize];
    for hash in (0..=u32::MAX).step_by(1 << 12) {
        hits[index(hash, len) as usize] += 1;
    }
    let (least, most) = (hits.iter().min(), hits.iter().max());
    assert!(most.unwrap() - least.unwrap() <= 1, "{hits:?}");
}
