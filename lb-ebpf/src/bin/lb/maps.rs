//! The maps, and the pipeline's [`Tables`] over them.
//!
//! Sizes given here are placeholders: the loader sets `max_entries` before it creates
//! a map. Map memory is written by the controller and by other CPUs at any time, so
//! everything is read with volatile loads into a copy.
#![expect(unsafe_code, reason = "map values are raw kernel memory")]

use core::{intrinsics::atomic_xadd, ptr};

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, lpm_trie::Key},
    macros::btf_map,
};
use lb_ebpf::{
    abi::{
        Addr, AffinityEntry, AffinityKey, BackendEntry, BackendStats, Config, ConntrackEntry,
        ConntrackKey, Device, EventKey, FILTER_WORDS, FragmentKey, FragmentPorts, FrontendKey,
        LocalBackendKey, NODE_PORT_WORDS, Name, RejectBudget, ServiceEntry, ServiceInfo,
        ServiceStats, SourceRange, Status,
    },
    hash::filter_bit,
    tables::{BackendCounter, ServiceCounter, Tables},
};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static SERVICES: HashMap<FrontendKey, ServiceEntry, 1024, NO_PREALLOC> = HashMap::new();
#[btf_map]
static MAGLEV: Array<[u32; 2], 1024, MMAPABLE> = Array::new();
#[btf_map]
static BACKENDS: Array<BackendEntry, 1024, MMAPABLE> = Array::new();
#[btf_map]
static BACKEND_STATS: Array<BackendStats, 1024, MMAPABLE> = Array::new();
#[btf_map]
static SERVICE_STATS: Array<ServiceStats, 1024, MMAPABLE> = Array::new();
#[btf_map]
static FILTER: Array<u64, { FILTER_WORDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static AFFINITY: LruHashMap<AffinityKey, AffinityEntry, 1024> = LruHashMap::new();

#[btf_map]
static NODE_PORTS: Array<u64, { NODE_PORT_WORDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static NODE_ADDRESSES: HashMap<Addr, u32, 4096, NO_PREALLOC> = HashMap::new();
#[btf_map]
static DEVICES: HashMap<u32, Device, 8192, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SOURCE_RANGES: LpmTrie<SourceRange, u32, 65536> = LpmTrie::new();
#[btf_map]
static LOCAL_BACKENDS: HashMap<LocalBackendKey, u32, 16384, NO_PREALLOC> = HashMap::new();
#[btf_map]
static CONNTRACK: HashMap<ConntrackKey, ConntrackEntry, 1024, NO_PREALLOC> = HashMap::new();
#[btf_map]
static HALF_OPEN: LruHashMap<ConntrackKey, ConntrackEntry, 1024> = LruHashMap::new();
#[btf_map]
static FLOW_SOURCES: Array<u64, { FILTER_WORDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts, 8192> = LruHashMap::new();
#[btf_map]
static CONFIG: Array<Config, 1, MMAPABLE> = Array::new();
#[btf_map]
static EVENTS: PerCpuHashMap<EventKey, u64, 4096> = PerCpuHashMap::new();
#[btf_map]
static REJECTS: PerCpuArray<RejectBudget, 1> = PerCpuArray::new();

// Programs never read these three: they tell tools what the others mean.
#[btf_map]
static SERVICE_INFO: Array<ServiceInfo, 1024, MMAPABLE> = Array::new();
#[btf_map]
static ZONES: HashMap<u32, Name, 1024, NO_PREALLOC> = HashMap::new();
#[btf_map]
static STATUS: Array<Status, 1, MMAPABLE> = Array::new();

/// The maps as the pipeline sees them.
pub(crate) struct Maps;

/// Copies a value out of map memory, word by word as the compiler sees fit.
#[inline(always)]
fn copy<T: Copy>(value: *const T) -> T {
    // SAFETY: the pointer comes from a successful map lookup, which the verifier has
    // bounds-checked for `T`; map values are 8-byte aligned and hold plain integers,
    // for which every bit pattern is valid.
    unsafe { ptr::read_volatile(value) }
}

/// Adds one to a counter that other CPUs update too.
#[inline(always)]
fn bump(counter: *mut u64) {
    // SAFETY: the pointer is a field of a map value that was looked up; it is 8-byte
    // aligned and only ever updated atomically.
    unsafe {
        atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(counter, 1);
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn may_be_frontend(&self, key: &FrontendKey) -> bool {
        let (word, bit) = filter_bit(key);
        FILTER
            .get_ptr(word)
            .is_some_and(|value| copy(value) & bit != 0)
    }

    #[inline(always)]
    fn service(&self, key: &FrontendKey) -> Option<ServiceEntry> {
        SERVICES.get_ptr(key).map(copy)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<u32> {
        let [even, odd] = copy(MAGLEV.get_ptr(index >> 1)?);
        Some(if index & 1 == 0 { even } else { odd })
    }

    #[inline(always)]
    fn backend(&self, slot: u32) -> Option<BackendEntry> {
        BACKENDS.get_ptr(slot).map(copy)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<AffinityEntry> {
        AFFINITY.get_ptr(key).map(copy)
    }

    #[inline(always)]
    fn remember(&self, key: &AffinityKey, entry: &AffinityEntry) {
        // An update, not a write in place: the element may have been given to another
        // client since it was looked up.
        let _ = AFFINITY.insert(key, entry, 0);
    }

    #[inline(always)]
    fn count_service(&self, service_id: u32, counter: ServiceCounter) {
        let Some(stats) = SERVICE_STATS.get_ptr_mut(service_id) else {
            return;
        };
        // SAFETY: a field of a value that was just looked up.
        bump(unsafe {
            match counter {
                ServiceCounter::Opened => &raw mut (*stats).opened,
                ServiceCounter::AffinityHit => &raw mut (*stats).affinity_hits,
                ServiceCounter::Refused => &raw mut (*stats).refused,
                ServiceCounter::Dropped => &raw mut (*stats).dropped,
                ServiceCounter::SharedBackend => &raw mut (*stats).shared_backends,
                ServiceCounter::Untracked => &raw mut (*stats).untracked,
            }
        });
    }

    #[inline(always)]
    fn count_backend(&self, slot: u32, counter: BackendCounter) {
        let Some(stats) = BACKEND_STATS.get_ptr_mut(slot) else {
            return;
        };
        // SAFETY: a field of a value that was just looked up.
        bump(unsafe {
            match counter {
                BackendCounter::Opened => &raw mut (*stats).opened,
                BackendCounter::Closed => &raw mut (*stats).closed,
            }
        });
    }
}

/// Kernel features, set by the loader; the verifier prunes what is off.
#[unsafe(no_mangle)]
pub(crate) static HAS_SET_RETVAL: Global<u32> = Global::new(1);
