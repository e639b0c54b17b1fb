//! The planner, without maps: a cold start, and one endpoint that changes.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lb_controller::{
    desired::{DesiredService, desired},
    model::{EndpointSlice, Event, ObjectName, Settings},
    plan::{Batch, Capacity, Planner},
    store::Store,
    synthetic,
};

const CAPACITY: Capacity = Capacity {
    services: 16_384,
    frontends: 65_536,
    backends: 1 << 17,
    maglev: 1 << 24,
};

fn store(services: usize, endpoints: usize) -> Store {
    let mut store = Store::new();
    synthetic::events(services, endpoints).for_each(|event| store.apply(event));
    store
}

fn desired_of(store: &Store, name: &ObjectName) -> Vec<DesiredService> {
    let service = store.service(name).expect("the name is of this store");
    desired(
        name,
        service,
        &store.slices_of(name),
        store.node(),
        Settings::default(),
    )
}

fn names(store: &Store) -> Vec<ObjectName> {
    let mut names: Vec<_> = store.services().map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

fn cold(c: &mut Criterion) {
    let store = store(1000, 10);
    let wanted: Vec<_> = names(&store)
        .into_iter()
        .map(|name| {
            let wanted = desired_of(&store, &name);
            (name, wanted)
        })
        .collect();
    let mut group = c.benchmark_group("plan");
    group.sample_size(20);
    group.bench_function("cold 1,000×10", |b| {
        b.iter_batched_ref(
            || Planner::new(CAPACITY),
            |planner| {
                let mut batch = Batch::default();
                for (name, wanted) in &wanted {
                    planner
                        .plan(name, wanted, &mut batch)
                        .expect("the capacity is ample");
                }
                batch
            },
            BatchSize::PerIteration,
        );
    });
}

/// The event, desired() and the plan at 10,000 × 10; the batch is not written.
fn one_change(c: &mut Criterion) {
    let mut store = store(10_000, 10);
    let mut planner = Planner::new(CAPACITY);
    let mut batch = Batch::default();
    for name in names(&store) {
        let wanted = desired_of(&store, &name);
        planner
            .plan(&name, &wanted, &mut batch)
            .expect("the capacity is ample");
    }
    store.take_dirty();
    let (slice_name, slice) = first_slice();
    let mut changed = slice.clone();
    changed.endpoints[0].ready = false;
    changed.endpoints[0].serving = false;
    let mut versions = [changed, slice].into_iter().cycle();
    c.benchmark_group("plan")
        .bench_function("1 endpoint of 10,000×10, incl. desired", |b| {
            b.iter_batched(
                || Event::EndpointSlice(slice_name.clone(), versions.next()),
                |event| {
                    store.apply(event);
                    let mut batch = Batch::default();
                    for name in store.take_dirty() {
                        let wanted = desired_of(&store, &name);
                        planner
                            .plan(&name, &wanted, &mut batch)
                            .expect("the capacity is ample");
                    }
                    assert!(!batch.is_empty(), "the change is one");
                    black_box(batch)
                },
                BatchSize::PerIteration,
            );
        });
}

fn first_slice() -> (ObjectName, EndpointSlice) {
    let slice = synthetic::events(10_000, 10).find_map(|event| match event {
        Event::EndpointSlice(name, Some(slice)) => Some((name, slice)),
        _ => None,
    });
    slice.expect("every Service has an EndpointSlice")
}

criterion_group!(benches, cold, one_change);
criterion_main!(benches);
