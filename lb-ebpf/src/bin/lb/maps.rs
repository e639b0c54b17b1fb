//! The maps, and the pipeline's [`Tables`] over them.
//!
//! Sizes given here are placeholders: the loader sets `max_entries` before it creates
//! a map. Map memory is written by the controller and by other CPUs at any time, so
//! everything is read with volatile loads into a copy.
#![expect(unsafe_code, reason = "map values are raw kernel memory")]

use core::{
    intrinsics::{atomic_or, atomic_xadd},
    ptr,
};

use aya_ebpf::{
    Global,
    bindings::{BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, lpm_trie::Key},
    macros::btf_map,
};
use lb_ebpf::{
    abi::{
        Addr, AddressRange, AffinityEntry, AffinityKey, BackendEntry, BackendStats, Config,
        ConfigFlags, ConntrackEntry, ConntrackKey, Device, EventKey, FILTER_WORDS, FragmentKey,
        FragmentPorts, FrontendKey, LocalBackendKey, NODE_PORT_WORDS, Name, RejectBudget,
        ServiceEntry, ServiceInfo, ServiceRanges, ServiceStats, SourceRange, SourceRangeKey,
        Status,
    },
    conntrack::Scratch,
    hash::{filter_bit, node_port_bit},
    tables::{BackendCounter, Conntrack, FlowState, PacketTables, Record, ServiceCounter, Tables},
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

#[btf_map]
static VIPS: HashMap<Addr, u32, 1024, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SERVICE_RANGES: Array<ServiceRanges, 1, MMAPABLE> = Array::new();

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

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
    fn may_be_node_port(&self, key: &FrontendKey) -> bool {
        node_port_bit(key.protocol, key.port.get()).is_some_and(|(word, bit)| {
            NODE_PORTS
                .get_ptr(word)
                .is_some_and(|value| copy(value) & bit != 0)
        })
    }

    #[inline(always)]
    fn node_address(&self, addr: &Addr) -> u32 {
        NODE_ADDRESSES.get_ptr(addr).map_or(0, copy)
    }

    #[inline(always)]
    fn host_netns(&self) -> u64 {
        CONFIG
            .get_ptr(0)
            .map_or(0, |config| copy(config).host_netns)
    }

    #[inline(always)]
    fn local_by_source(&self) -> bool {
        // SAFETY: as in `device`.
        CONFIG
            .get_ptr(0)
            .is_some_and(|config| unsafe { (*config).flags & ConfigFlags::LOCAL_BY_SOURCE != 0 })
    }

    #[inline(always)]
    fn service_range(&self, addr: &Addr) -> Option<u32> {
        // SAFETY: just looked up. A place is filled only while no program can take it for
        // another range (see `ServiceRanges`), so it does not matter which words are read when.
        SERVICE_RANGES
            .get_ptr(0)
            .and_then(|ranges| unsafe { (*ranges).find(addr) })
    }

    #[inline(always)]
    fn vip(&self, addr: &Addr) -> u32 {
        VIPS.get_ptr(addr).map_or(0, copy)
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

impl PacketTables for Maps {
    #[inline(always)]
    fn config(&self) -> Config {
        match CONFIG.get_ptr(0) {
            // SAFETY: as in `device`.
            Some(config) => unsafe { *config },
            // An array of one element has an element 0; the verifier wants to see this.
            None => Config {
                host_netns: 0,
                flags: 0,
                snat_first: 0,
                snat_count: 0,
                takeover_until: 0,
                rejects_per_tick: 0,
                reserved: 0,
                lifetimes: [0; 6],
                local_v4: AddressRange::NONE,
                local_v6: AddressRange::NONE,
            },
        }
    }

    #[inline(always)]
    fn admits(&self, service_id: u32, source: &Addr) -> bool {
        let range = SourceRange {
            service_id,
            addr: *source,
        };
        SOURCE_RANGES
            .get(&Key::new(SourceRangeKey::FULL, range))
            .is_some()
    }

    #[inline(always)]
    fn device(&self, ifindex: u32) -> Option<Device> {
        // SAFETY: just looked up. Fields are independent of each other, so that it does not
        // matter which of them are read when; only those that are used are.
        DEVICES.get_ptr(ifindex).map(|device| unsafe { *device })
    }

    #[inline(always)]
    fn local_backend(&self, key: &LocalBackendKey) -> Option<u32> {
        LOCAL_BACKENDS.get_ptr(key).map(copy)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        FRAGMENTS.get_ptr(key).map(copy)
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, ports: &FragmentPorts) {
        // Without memory, later fragments are left to the kernel.
        let _ = FRAGMENTS.insert(key, ports, 0);
    }

    #[inline(always)]
    fn may_be_flow_source(&self, key: &FrontendKey) -> bool {
        if HAS_ATOMIC_OR.load() == 0 {
            return true;
        }
        let (word, bit) = filter_bit(key);
        FLOW_SOURCES
            .get_ptr(word)
            .is_some_and(|value| copy(value) & bit != 0)
    }

    #[inline(always)]
    fn mark_flow_source(&self, key: &FrontendKey) {
        if HAS_ATOMIC_OR.load() == 0 {
            return;
        }
        let (word, bit) = filter_bit(key);
        let Some(value) = FLOW_SOURCES.get_ptr_mut(word) else {
            return;
        };
        if copy(value) & bit == 0 {
            // SAFETY: the pointer comes from a successful lookup; it is 8-byte aligned and
            // other CPUs update it atomically too.
            unsafe {
                atomic_or::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(value, bit);
            }
        }
    }

    #[inline(always)]
    fn may_refuse(&self, tick: u32, budget: u32) -> bool {
        let Some(spent) = REJECTS.get_ptr_mut(0) else {
            return false;
        };
        let mut now = copy(spent);
        if now.tick != tick {
            now = RejectBudget { tick, sent: 0 };
        }
        now.sent = now.sent.wrapping_add(1);
        // SAFETY: this CPU's own element, just looked up.
        unsafe { ptr::write_volatile(spent, now) };
        now.sent <= budget
    }
}

// `read_into` moves records in 64-bit words.
const _: () = assert!(
    core::mem::offset_of!(Scratch, entry).is_multiple_of(8)
        && core::mem::offset_of!(Scratch, mirror).is_multiple_of(8)
);

/// A flow record in map memory.
#[derive(Clone, Copy)]
pub(crate) struct RecordInPlace(*mut ConntrackEntry);

impl Record for RecordInPlace {
    #[inline(always)]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "map values and fields of the scratch are 8-byte aligned"
    )]
    fn read_into(&self, entry: &mut ConntrackEntry) {
        const WORDS: usize = size_of::<ConntrackEntry>() / 8;
        let (from, to) = (self.0.cast::<u64>(), ptr::from_mut(entry).cast::<u64>());
        for word in 0..WORDS {
            // SAFETY: both are whole records: the one was looked up, and values are 8-byte
            // aligned; the other lies in the scratch, which aligns it so, too. Every bit
            // pattern is valid.
            unsafe { to.add(word).write(ptr::read_volatile(from.add(word))) };
        }
    }

    #[inline(always)]
    fn set_state(&self, state: u32) {
        // SAFETY: a field of a value that was looked up; words are written whole.
        unsafe { ptr::write_volatile(&raw mut (*self.0).state, state) }
    }

    #[inline(always)]
    fn set_last_seen(&self, tick: u32) {
        // SAFETY: as in `set_state`.
        unsafe { ptr::write_volatile(&raw mut (*self.0).last_seen, tick) }
    }

    #[inline(always)]
    fn set_proof(&self, proof: u32, end: u32) {
        // SAFETY: as in `set_state`.
        unsafe {
            ptr::write_volatile(&raw mut (*self.0).proof, proof);
            ptr::write_volatile(&raw mut (*self.0).proof_end, end);
        }
    }
}

impl Conntrack for Maps {
    type Record = RecordInPlace;

    #[inline(always)]
    fn find(&self, table: FlowState, key: &ConntrackKey) -> Option<RecordInPlace> {
        match table {
            FlowState::Proven => CONNTRACK.get_ptr_mut(key),
            FlowState::HalfOpen => HALF_OPEN.get_ptr_mut(key),
        }
        .map(RecordInPlace)
    }

    #[inline(always)]
    fn insert(
        &self,
        table: FlowState,
        key: &ConntrackKey,
        entry: &ConntrackEntry,
        replace: bool,
    ) -> bool {
        let flags = if replace { BPF_ANY } else { BPF_NOEXIST };
        match table {
            FlowState::Proven => CONNTRACK.insert(key, entry, u64::from(flags)),
            FlowState::HalfOpen => HALF_OPEN.insert(key, entry, u64::from(flags)),
        }
        .is_ok()
    }

    #[inline(always)]
    fn remove(&self, table: FlowState, key: &ConntrackKey) {
        // An absent record is as good as a removed one.
        let _ = match table {
            FlowState::Proven => CONNTRACK.remove(key),
            FlowState::HalfOpen => HALF_OPEN.remove(key),
        };
    }
}

/// This CPU's scratch.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: the pointer comes from a successful lookup. No other program runs on this CPU
    // until this one returns (packet hooks run with softirqs disabled), and this one asks
    // once.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// Counts an event, given by its number, at a device. Returns 0: a global subprogram
/// has to return something.
#[inline(always)]
pub(crate) fn count_event(ifindex: u32, event: u32, detail: u32) -> u32 {
    let key = EventKey {
        ifindex,
        event,
        detail,
    };
    if let Some(count) = EVENTS.get_ptr_mut(key) {
        // SAFETY: this CPU's own value, just looked up.
        unsafe { ptr::write_volatile(count, copy(count).wrapping_add(1)) };
    } else {
        // A full map loses new kinds of events, not packets.
        let _ = EVENTS.insert(key, 1, u64::from(BPF_NOEXIST));
    }
    0
}

/// Kernel features, set by the loader; the verifier prunes what is off.
#[unsafe(no_mangle)]
pub(crate) static HAS_SET_RETVAL: Global<u32> = Global::new(1);

/// Whether bits can be set atomically (5.12). Without, `FLOW_SOURCES` stays empty, and every
/// packet is looked up in the maps of flows.
#[unsafe(no_mangle)]
pub(crate) static HAS_ATOMIC_OR: Global<u32> = Global::new(1);
