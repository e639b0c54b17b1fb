//! desired(): from one Service's objects to what should be programmed.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lb_controller::{desired::desired, model::Settings, store::Store, synthetic};

fn store(services: usize, endpoints: usize) -> Store {
    let mut store = Store::new();
    synthetic::events(services, endpoints).for_each(|event| store.apply(event));
    store
}

/// Every Service of the store; returns how many endpoints were found.
fn every(store: &Store) -> usize {
    let services = store.services().flat_map(|(name, service)| {
        desired(
            name,
            service,
            &store.slices_of(name),
            store.node(),
            Settings::default(),
        )
    });
    services.map(|service| service.backends.len()).sum()
}

fn one_service(c: &mut Criterion) {
    let mut group = c.benchmark_group("desired");
    for endpoints in [10, 50] {
        let store = store(1, endpoints);
        group.bench_function(format!("1×{endpoints}"), |b| {
            b.iter(|| every(black_box(&store)));
        });
    }
}

fn cluster(c: &mut Criterion) {
    let mut group = c.benchmark_group("desired");
    group.sample_size(10);
    let store = store(10_000, 10);
    group.bench_function("10,000×10", |b| b.iter(|| every(black_box(&store))));
}

criterion_group!(benches, one_service, cluster);
criterion_main!(benches);
