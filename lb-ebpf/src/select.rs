//! Frontend → backend: affinity first, then the Maglev table.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        AffinityEntry, AffinityKey, BackendEntry, BackendFlags, FrontendFlags, FrontendKey,
        ServiceEntry,
    },
    tables::{Environment, ServiceCounter, Tables},
};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A chosen backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its slot.
    pub slot: u32,
    /// What lies there.
    pub backend: BackendEntry,
}

/// Looks a frontend up: filter, hash, seal.
///
/// The kernel gives two reasons for a second lookup. A value whose seal does not fit was
/// reused while it was copied; and a reader that walks a bucket while one of its elements
/// is replaced can miss both the old one and the new one. If the second lookup fails
/// too, the key is absent (or rewritten faster than we read): it counts as absent, never
/// as another's.
#[inline(always)]
pub fn frontend<T: Tables>(tables: &T, key: &FrontendKey) -> Option<ServiceEntry> {
    if !tables.may_be_frontend(key) {
        return None;
    }
    if let Some(entry) = tables.service(key)
        && entry.belongs_to(key)
    {
        return Some(entry);
    }
    tables.service(key).filter(|again| again.belongs_to(key))
}

/// Chooses a backend for a new connection; `None` if the table is empty.
#[inline(always)]
pub fn backend<T: Tables, E: Environment>(
    tables: &T,
    env: &E,
    service: &ServiceEntry,
) -> Option<Choice> {
    if service.affinity_secs == 0 {
        return any_backend(tables, env, service);
    }
    let key = AffinityKey::netns(env.netns_cookie(), service.service_id);
    let now = env.now_ns();
    let choice = match remembered(tables, &key, service, now) {
        Some(choice) => {
            tables.count_service(service.service_id, ServiceCounter::AffinityHit);
            choice
        }
        None => any_backend(tables, env, service)?,
    };
    // Each new connection restarts the timeout (rule H2).
    let entry = AffinityEntry {
        last_used_ns: now,
        slot: choice.slot,
        generation: choice.backend.generation,
    };
    tables.remember(&key, &entry);
    Some(choice)
}

/// Any backend of the table, uniformly at random (rule C15).
#[inline(always)]
pub fn any_backend<T: Tables, E: Environment>(
    tables: &T,
    env: &E,
    service: &ServiceEntry,
) -> Option<Choice> {
    if service.table.is_empty() {
        return None;
    }
    // `(random × length) >> 32` is below `length`: a modulo without a division.
    let index = (u64::from(env.random()) * u64::from(service.table.len())) >> 32;
    let slot = tables.slot(service.table.offset() + index as u32)?;
    let backend = tables.backend(slot)?;
    Some(Choice { slot, backend })
}

/// The backend that affinity remembers, if the timeout has not passed (rule H3) and
/// it still belongs to the applicable set (rule H4): existing is not enough.
#[inline(always)]
fn remembered<T: Tables>(
    tables: &T,
    key: &AffinityKey,
    service: &ServiceEntry,
    now: u64,
) -> Option<Choice> {
    let entry = tables.affinity(key)?;
    if now.wrapping_sub(entry.last_used_ns) >= u64::from(service.affinity_secs) * NANOS_PER_SEC {
        return None;
    }
    let backend = tables.backend(entry.slot)?;
    let set = if service.flags & FrontendFlags::LOCAL_SET == 0 {
        BackendFlags::IN_CLUSTER_SET
    } else {
        BackendFlags::IN_LOCAL_SET
    };
    let applies = backend.generation == entry.generation
        && backend.service_id == service.service_id
        && backend.has(BackendFlags::USED | set);
    applies.then_some(Choice {
        slot: entry.slot,
        backend,
    })
}
