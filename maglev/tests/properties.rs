//! What holds for all tables: complete, balanced, stable, reproducible.

#[path = "support/common.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{backends, build, reference};
use maglev::{Builder, Entry, Error, Key, Outcome, counts, disruption, imbalance, table_len};
use proptest::{prelude::*, test_runner::RngSeed};

/// Backends with different names of the length of an address, port and protocol, values unlike
/// each other, and weights.
fn entries(
    count: std::ops::Range<usize>,
    weight: impl Strategy<Value = u32>,
) -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::btree_map(any::<[u8; 18]>(), weight, count).prop_map(|named| {
        let numbered = named.into_iter().zip(100..);
        numbered
            .map(|((name, weight), value)| Entry::new(Key::new(&name), value).with_weight(weight))
            .collect()
    })
}

fn adaptive(entries: &[Entry]) -> Vec<u32> {
    build(entries, table_len(entries.len()) as usize)
}

fn owned(table: &[u32]) -> BTreeMap<u32, u32> {
    counts(table)
        .into_iter()
        .map(|count| (count.value, count.entries))
        .collect()
}

const PRIMES: [usize; 8] = [2, 3, 5, 31, 211, 509, 1021, 2039];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_is_the_one_of_the_definition(
        entries in entries(1..40, prop_oneof![0..10_u32, any::<u32>()]),
        len in prop::sample::select(&PRIMES[..]),
    ) {
        prop_assume!(entries.iter().any(|entry| entry.weight != 0));
        prop_assert_eq!(build(&entries, len), reference(&entries, len));
    }

    #[test]
    fn every_entry_holds_a_backend_of_non_zero_weight(entries in entries(1..100, 0..4_u32)) {
        prop_assume!(entries.iter().any(|entry| entry.weight != 0));
        let expected: BTreeSet<_> =
            entries.iter().filter(|entry| entry.weight != 0).map(|entry| entry.value).collect();
        let table = adaptive(&entries);
        prop_assert_eq!(owned(&table).into_keys().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn equal_weights_differ_by_one_entry_at_most(entries in entries(2..200, Just(1_u32))) {
        let table = adaptive(&entries);
        let loads = owned(&table);
        prop_assert_eq!(loads.len(), entries.len());
        prop_assert!(loads.values().max().unwrap() - loads.values().min().unwrap() <= 1);
        prop_assert!(imbalance(&table, |_| 1) <= 0.01);
    }

    #[test]
    fn equal_weights_are_no_weights(entries in entries(2..50, Just(1_u32)), weight in 1..=u32::MAX) {
        let weighted: Vec<_> = entries.iter().map(|entry| entry.with_weight(weight)).collect();
        prop_assert_eq!(adaptive(&weighted), adaptive(&entries));
    }

    #[test]
    fn weights_are_proportional_within_the_bounds(
        entries in entries(2..60, prop_oneof![1..100_u32, 1..=u32::MAX]),
    ) {
        let table = adaptive(&entries);
        let (len, count) = (table.len() as f64, entries.len() as f64);
        let total: f64 = entries.iter().map(|entry| f64::from(entry.weight)).sum();
        let loads = owned(&table);
        for entry in &entries {
            let share = f64::from(entry.weight) / total;
            let load = f64::from(loads[&entry.value]);
            prop_assert!(load >= 1.0);
            prop_assert!(load > (len - count) * share - 1.0, "{load} of {}", len * share);
            prop_assert!(load < len * share + 2.0, "{load} of {}", len * share);
        }
    }

    #[test]
    fn only_the_ratio_of_weights_counts(
        entries in entries(2..50, 1..1000_u32),
        factor in 2..1_000_000_u32,
    ) {
        let scaled: Vec<_> =
            entries.iter().map(|entry| entry.with_weight(entry.weight * factor)).collect();
        prop_assert_eq!(adaptive(&scaled), adaptive(&entries));
    }

    #[test]
    fn weight_zero_is_as_good_as_absent(entries in entries(2..50, 0..3_u32)) {
        prop_assume!(entries.iter().any(|entry| entry.weight != 0));
        let present: Vec<_> = entries.iter().copied().filter(|entry| entry.weight != 0).collect();
        prop_assert_eq!(build(&entries, 1021), build(&present, 1021));
    }

    #[test]
    fn input_order_plays_no_part(
        (entries, shuffled) in entries(1..50, 1..5_u32)
            .prop_flat_map(|entries| (Just(entries.clone()), Just(entries).prop_shuffle())),
    ) {
        prop_assert_eq!(adaptive(&entries), adaptive(&shuffled));
    }

    #[test]
    fn values_play_no_part(entries in entries(1..50, 1..5_u32), mask in any::<u32>()) {
        let renamed: Vec<_> = entries
            .iter()
            .map(|entry| Entry { value: entry.value.reverse_bits() ^ mask, ..*entry })
            .collect();
        let expected: Vec<_> =
            adaptive(&entries).iter().map(|value| value.reverse_bits() ^ mask).collect();
        prop_assert_eq!(adaptive(&renamed), expected);
    }

    #[test]
    fn used_builder_builds_what_a_new_one_does(
        first in entries(1..50, 0..5_u32),
        second in entries(1..50, 1..5_u32),
        len in prop::sample::select(&PRIMES[..]),
    ) {
        let (mut builder, mut table) = (Builder::new(), vec![0; len]);
        // May fail if all weights are 0; must not matter.
        let _ = builder.build(&first, &mut vec![0; table_len(first.len()) as usize]);
        let outcome = builder.build(&second, &mut table).unwrap();
        prop_assert_eq!(&table, &build(&second, len));
        prop_assert_eq!(outcome.starved, second.len().saturating_sub(len));
        prop_assert_eq!(builder.build(&second, &mut table).unwrap().changed, 0);
    }

    /// Whoever leaves is gone, and all its entries move.
    #[test]
    fn removed_backend_leaves_no_entry(
        entries in entries(2..60, Just(1_u32)),
        gone in any::<prop::sample::Index>(),
    ) {
        let len = table_len(entries.len()) as usize;
        let mut fewer = entries.clone();
        let gone = fewer.remove(gone.index(entries.len()));
        let (old, new) = (build(&entries, len), build(&fewer, len));
        prop_assert!(old.contains(&gone.value) && !new.contains(&gone.value));
    }
}

proptest! {
    // A statement about chance: the same sets each time, so that it holds or does not.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2016), ..ProptestConfig::default() })]

    /// A single removal has no bound: two permutations that happen to run alike make one
    /// of three backends move a fifth of the table. Over all removals of a set it has.
    #[test]
    fn removals_move_little_else_on_average(entries in entries(20..60, Just(1_u32))) {
        let len = table_len(entries.len()) as usize;
        let old = build(&entries, len);
        let beyond: f64 = (0..entries.len())
            .map(|gone| {
                let mut fewer = entries.clone();
                fewer.remove(gone);
                let cost = disruption(&old, &build(&fewer, len));
                cost.moved - cost.minimal
            })
            .sum();
        let mean = beyond / entries.len() as f64;
        prop_assert!(mean <= 0.06, "{mean} of {len}");
    }
}

/// What the paper's algorithm costs at the lengths of the ladder and some others: the share of
/// flows that one removal moves beyond those of the removed backend, averaged over up to 50
/// removals. Bounds: measured values, rounded up.
#[test]
fn one_removal_moves_few_flows_of_others() {
    for (count, len, bound) in [
        (2, 211, 0.001),
        (3, 509, 0.006),
        (5, 509, 0.02),
        (8, 1021, 0.025),
        (10, 1021, 0.03),
        (50, 5003, 0.02),
        (100, 10_007, 0.018),
        (1000, 65_537, 0.007),
        (1000, 100_003, 0.007),
        (10, 16_381, 0.007),
        (10, 65_537, 0.003),
        (50, 65_537, 0.006),
        (100, 1_000_003, 0.002),
    ] {
        let entries = backends(count);
        let old = build(&entries, len);
        let removals = entries.iter().step_by(entries.len().div_ceil(50));
        let costs: Vec<_> = removals
            .map(|gone| {
                let fewer: Vec<_> = entries
                    .iter()
                    .copied()
                    .filter(|entry| entry != gone)
                    .collect();
                disruption(&old, &build(&fewer, len))
            })
            .collect();
        let moved = costs.iter().map(|cost| cost.moved).sum::<f64>() / costs.len() as f64;
        let minimal = costs.iter().map(|cost| cost.minimal).sum::<f64>() / costs.len() as f64;
        let (others, ratio) = (moved - minimal, moved / minimal);
        println!("{count}@{len}: {minimal:.4} unavoidable, {others:.4} beyond, ratio {ratio:.2}");
        assert!(others <= bound, "{count}@{len}: {others}");
    }
}

#[test]
fn every_backend_has_an_entry_beside_a_giant() {
    let mut entries = backends(100);
    entries[0].weight = u32::MAX;
    let table = build(&entries, 10_007);
    let loads = owned(&table);
    assert_eq!(loads[&0], 10_007 - 99);
    assert!((1..100).all(|n| loads[&n] == 1));
}

#[test]
fn backends_beyond_the_length_are_reported_as_starved() {
    let mut table = [0; 7];
    let outcome = Builder::new().build(&backends(10), &mut table).unwrap();
    assert_eq!(outcome.starved, 3);
    assert_eq!(counts(&table).len(), 7);
    let mut table = [u32::MAX];
    let outcome = Builder::new().build(&backends(2), &mut table).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            changed: 1,
            starved: 1
        }
    );
}

#[test]
fn refused_input_leaves_the_table_as_it_was() {
    let twins = [backends(2)[0], Entry::new(backends(1)[0].key, 7)];
    let none = [backends(1)[0].with_weight(0)];
    let cases = [
        (&twins[..], 211, Error::DuplicateKey(twins[0].key)),
        (&none, 211, Error::NoBackend),
        (&[], 1, Error::NoBackend),
        (&backends(3), 0, Error::Length(0)),
        (&backends(3), 1024, Error::Length(1024)),
    ];
    for (entries, len, error) in cases {
        let mut table = vec![42; len];
        assert_eq!(Builder::new().build(entries, &mut table), Err(error));
        assert!(table.iter().all(|&value| value == 42));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(Builder::new().build(&none, &mut []), Ok(Outcome::default()));
    let ghost = [twins[0], twins[1].with_weight(0)];
    assert!(
        Builder::new().build(&ghost, &mut [0]).is_ok(),
        "weight 0 is no duplicate"
    );
}

#[test]
fn disruption_compares_tables_as_the_lookup_reads_them() {
    let cost = disruption(&[1, 1, 2, 2], &[1, 3, 2, 2]);
    assert_eq!((cost.moved, cost.minimal), (0.25, 0.25));
    // Two backends swapped: everything moves, nothing had to.
    let cost = disruption(&[1, 2], &[2, 1]);
    assert_eq!((cost.moved, cost.minimal), (1.0, 0.0));
    // Thirds against halves: the middle third is cut in two.
    let cost = disruption(&[1, 1, 2], &[1, 2]);
    assert!((cost.moved - 1.0 / 6.0).abs() < 1e-9 && (cost.minimal - 1.0 / 6.0).abs() < 1e-9);
    let (gone, same) = (disruption(&[1], &[]), disruption(&[], &[]));
    assert_eq!((gone.moved, gone.minimal, same.moved), (1.0, 1.0, 0.0));
}

#[test]
fn imbalance_is_the_excess_over_the_share() {
    assert!((imbalance(&[1, 1, 1, 2], |_| 1) - 0.5).abs() < 1e-9);
    assert!(imbalance(&[1, 1, 1, 2], |value| if value == 1 { 3 } else { 1 }).abs() < 1e-9);
    assert!(imbalance(&[], |_| 1).abs() < 1e-9);
}
