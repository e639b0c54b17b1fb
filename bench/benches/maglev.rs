//! Maglev table building: the sizes that a node meets, and the paper's.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maglev::{Builder, Entry, Key};

fn backends(count: u32, weight: impl Fn(u32) -> u32) -> Vec<Entry> {
    (0..count)
        .map(|n| Entry::new(Key::new(&n.to_be_bytes()), n).with_weight(weight(n)))
        .collect()
}

fn one_table(c: &mut Criterion, name: &str, entries: &[Entry], len: usize) {
    let mut group = c.benchmark_group("maglev");
    group.throughput(Throughput::Elements(len as u64));
    let (mut builder, mut table) = (Builder::new(), vec![0; len]);
    group.bench_function(name, |b| {
        b.iter(|| builder.build(black_box(entries), black_box(&mut table)));
    });
}

fn tables(c: &mut Criterion) {
    one_table(c, "10@1021", &backends(10, |_| 1), 1021);
    one_table(c, "50@5003", &backends(50, |_| 1), 5003);
    one_table(c, "1000@65537", &backends(1000, |_| 1), 65_537);
    one_table(c, "10@1021 weighted", &backends(10, |n| 1 + n % 7), 1021);
    one_table(
        c,
        "1000@65537 weighted",
        &backends(1000, |n| 1 + n % 7),
        65_537,
    );
}

/// What a node does at start: 10,000 Services of 10 backends each.
fn many_tables(c: &mut Criterion) {
    const SERVICES: u32 = 10_000;
    let keys: Vec<Vec<Entry>> = (0..SERVICES)
        .map(|service| {
            (0..10)
                .map(|n| Entry::new(Key::new(&(service * 10 + n).to_be_bytes()), n))
                .collect()
        })
        .collect();
    let mut group = c.benchmark_group("maglev");
    group.sample_size(10);
    group.bench_function("10,000 tables of 10@1021", |b| {
        b.iter_batched_ref(
            || (Builder::new(), vec![u32::MAX; 1021 * SERVICES as usize]),
            |(builder, slab)| {
                for (entries, table) in keys.iter().zip(slab.chunks_exact_mut(1021)) {
                    builder
                        .build(entries, table)
                        .expect("1021 is prime and no key repeats");
                }
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, tables, many_tables);
criterion_main!(benches);
