//! Batches → maps: the only writer of the programmed state.

use std::sync::atomic::{Ordering, fence};

use lb_ebpf::abi::{BackendEntry, BackendStats, ServiceInfo, ServiceStats, map};

use crate::{
    maps::{MappedArray, Maps},
    plan::Batch,
    sys::BatchError,
};

/// Why a batch could not be applied. It may have been applied in part: repeat it.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the map {name}: {source}")]
pub struct ApplyError {
    /// The map.
    pub name: &'static str,
    /// Why not.
    pub source: BatchError,
}

impl ApplyError {
    /// Whether the map is full, so that it must grow.
    pub fn is_full(&self) -> bool {
        self.source.is_full()
    }
}

fn failed(name: &'static str) -> impl Fn(BatchError) -> ApplyError {
    move |source| ApplyError { name, source }
}

/// Splits pairs into the two arrays that batch operations take.
fn split<K: Copy, V: Copy>(pairs: &[(K, V)]) -> (Vec<K>, Vec<V>) {
    pairs.iter().copied().unzip()
}

/// Sets bits of words; no other writer touches these arrays.
fn set_bits(array: &MappedArray<u64>, words: &[(u32, u64)]) {
    for (word, bits) in words {
        array.set(*word, array.get(*word) | bits);
    }
}

fn clear_bits(array: &MappedArray<u64>, words: &[(u32, u64)]) {
    for (word, bits) in words {
        array.set(*word, array.get(*word) & !bits);
    }
}

/// Writes everything that `batch` holds, in the order of its fields.
///
/// # Errors
/// The first map that refused; everything before it is written.
pub fn apply(maps: &Maps, batch: &Batch) -> Result<(), ApplyError> {
    let (ids, names) = split(&batch.zones);
    maps.zones
        .update(&ids, &names)
        .map_err(failed(map::ZONES))?;
    for id in &batch.reset_services {
        maps.service_stats.set(*id, ServiceStats::default());
    }
    for slot in &batch.reset_backends {
        maps.backend_stats.set(*slot, BackendStats::default());
    }
    for (slot, backend) in &batch.backends {
        // Whoever remembers the slot's last user compares generations: the new one must
        // be there before the slot looks used again.
        if maps.backends.get(*slot).generation != backend.generation {
            let unused = BackendEntry {
                flags: 0,
                ..*backend
            };
            maps.backends.set(*slot, unused);
            fence(Ordering::Release);
        }
        maps.backends.set(*slot, *backend);
    }
    for (table, entries) in &batch.tables {
        for (index, slot) in (table.offset()..).zip(entries) {
            maps.maglev.set(index, *slot);
        }
    }
    for (id, info) in &batch.infos {
        maps.service_info.set(*id, *info);
    }
    maps.source_ranges
        .insert(&batch.source_ranges)
        .map_err(failed(map::SOURCE_RANGES))?;
    let (keys, slots) = split(&batch.local_backends);
    maps.local_backends
        .update(&keys, &slots)
        .map_err(failed(map::LOCAL_BACKENDS))?;
    set_bits(&maps.filter, &batch.filter_set);
    set_bits(&maps.node_ports, &batch.node_ports_set);
    let (keys, entries) = split(&batch.frontends);
    maps.services
        .update(&keys, &entries)
        .map_err(failed(map::SERVICES))?;
    maps.services
        .delete(&batch.removed_frontends)
        .map_err(failed(map::SERVICES))?;
    let (known, gone): (Vec<_>, Vec<_>) = batch.vips.iter().partition(|(_, kinds)| **kinds != 0);
    let (addresses, kinds): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    maps.vips
        .update(&addresses, &kinds)
        .map_err(failed(map::VIPS))?;
    let gone: Vec<_> = gone.into_iter().map(|(addr, _)| *addr).collect();
    maps.vips.delete(&gone).map_err(failed(map::VIPS))?;
    clear_bits(&maps.filter, &batch.filter_cleared);
    clear_bits(&maps.node_ports, &batch.node_ports_cleared);
    maps.source_ranges
        .remove(&batch.removed_source_ranges)
        .map_err(failed(map::SOURCE_RANGES))?;
    maps.local_backends
        .delete(&batch.removed_local_backends)
        .map_err(failed(map::LOCAL_BACKENDS))?;
    for (slot, backend) in &batch.freed_backends {
        maps.backends.set(*slot, *backend);
    }
    for id in &batch.removed_infos {
        maps.service_info.set(*id, ServiceInfo::FREE);
    }
    Ok(())
}
