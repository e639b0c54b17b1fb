//! State kept with a socket (`BPF_MAP_TYPE_SK_STORAGE`): it dies with the socket, so
//! nothing relies on eviction.
#![expect(unsafe_code, reason = "socket storage is raw kernel memory")]

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
    macros::btf_map,
};
use lb_ebpf::{
    abi::{Addr, ConnectedFlow, DATAGRAM_FLOWS, DatagramFlow, DatagramFlows, Port},
    tables::FlowTable,
};

#[btf_map]
static CONNECTED: SkStorage<ConnectedFlow> = SkStorage::new();
#[btf_map]
static DATAGRAM: SkStorage<DatagramFlows> = SkStorage::new();

/// The kernel's socket, as its helpers take it.
#[derive(Clone, Copy)]
pub(crate) struct Sk(pub(crate) *mut c_void);

#[inline(always)]
fn get<T>(map: &'static SkStorage<T>, sk: Sk) -> *mut T {
    // SAFETY: map and socket are valid kernel pointers; a null result is checked.
    unsafe {
        bpf_sk_storage_get(
            ptr::from_ref(map).cast_mut().cast(),
            sk.0,
            ptr::null_mut(),
            0,
        )
    }
    .cast()
}

#[inline(always)]
fn get_or_create<T>(map: &'static SkStorage<T>, sk: Sk) -> *mut T {
    // SAFETY: as in `get`; without an initial value the kernel zeroes the storage.
    unsafe {
        bpf_sk_storage_get(
            ptr::from_ref(map).cast_mut().cast(),
            sk.0,
            ptr::null_mut(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    }
    .cast()
}

#[inline(always)]
pub(crate) fn connected(sk: Sk) -> Option<ConnectedFlow> {
    let flow = get(&CONNECTED, sk);
    // SAFETY: not null: storage of this type, kept alive by the socket.
    (!flow.is_null()).then(|| unsafe { ptr::read_volatile(flow) })
}

#[inline(always)]
pub(crate) fn set_connected(sk: Sk, flow: &ConnectedFlow) -> bool {
    let place = get_or_create(&CONNECTED, sk);
    if place.is_null() {
        return false;
    }
    // SAFETY: not null: storage of this type, written under the socket's lock.
    unsafe { ptr::write_volatile(place, *flow) };
    true
}

#[inline(always)]
pub(crate) fn forget_connected(sk: Sk) {
    // SAFETY: map and socket are valid kernel pointers.
    let _ = unsafe { bpf_sk_storage_delete(ptr::from_ref(&CONNECTED).cast_mut().cast(), sk.0) };
}

#[inline(always)]
pub(crate) fn datagram(sk: Sk) -> Option<Flows> {
    let table = get(&DATAGRAM, sk);
    (!table.is_null()).then_some(Flows(table))
}

#[inline(always)]
pub(crate) fn datagram_or_create(sk: Sk) -> Option<Flows> {
    let table = get_or_create(&DATAGRAM, sk);
    (!table.is_null()).then_some(Flows(table))
}

/// The flows of an unconnected socket, in place.
#[derive(Clone, Copy)]
pub(crate) struct Flows(*mut DatagramFlows);

impl Flows {
    #[inline(always)]
    fn flow(self, index: usize) -> *mut DatagramFlow {
        // SAFETY: the pointer is not null and the masked index is inside the array.
        unsafe {
            (&raw mut (*self.0).flows)
                .cast::<DatagramFlow>()
                .add(index & (DATAGRAM_FLOWS - 1))
        }
    }
}

impl FlowTable for Flows {
    #[inline(always)]
    fn state(&self, index: usize) -> u32 {
        // SAFETY: `flow` gives a place inside the storage.
        unsafe { ptr::read_volatile(&raw const (*self.flow(index)).state) }
    }

    #[inline(always)]
    fn vip(&self, index: usize) -> (Addr, Port) {
        let flow = self.flow(index);
        // SAFETY: as in `state`.
        unsafe {
            (
                ptr::read_volatile(&raw const (*flow).vip),
                ptr::read_volatile(&raw const (*flow).vip_port),
            )
        }
    }

    #[inline(always)]
    fn backend(&self, index: usize) -> (Addr, Port) {
        let flow = self.flow(index);
        // SAFETY: as in `state`.
        unsafe {
            (
                ptr::read_volatile(&raw const (*flow).backend),
                ptr::read_volatile(&raw const (*flow).backend_port),
            )
        }
    }

    #[inline(always)]
    fn slot(&self, index: usize) -> (u32, u32) {
        let flow = self.flow(index);
        // SAFETY: as in `state`.
        unsafe {
            (
                ptr::read_volatile(&raw const (*flow).slot),
                ptr::read_volatile(&raw const (*flow).generation),
            )
        }
    }

    #[inline(always)]
    fn set_state(&self, index: usize, state: u32) {
        // SAFETY: as in `state`; written under the socket's lock.
        unsafe { ptr::write_volatile(&raw mut (*self.flow(index)).state, state) };
    }

    #[inline(always)]
    fn oldest(&self) -> usize {
        // SAFETY: the pointer is not null.
        unsafe { ptr::read_volatile(&raw const (*self.0).oldest) as usize }
    }

    #[inline(always)]
    fn put(&self, index: usize, flow: &DatagramFlow) {
        // SAFETY: as in `set_state`.
        unsafe {
            ptr::write_volatile(self.flow(index), *flow);
            if (self.oldest() ^ index) & (DATAGRAM_FLOWS - 1) == 0 {
                ptr::write_volatile(&raw mut (*self.0).oldest, index as u32 + 1);
            }
        }
    }

    #[inline(always)]
    fn recent(&self) -> usize {
        // SAFETY: the pointer is not null.
        unsafe { ptr::read_volatile(&raw const (*self.0).recent) as usize }
    }

    #[inline(always)]
    fn set_recent(&self, index: usize) {
        // SAFETY: as in `set_state`.
        unsafe { ptr::write_volatile(&raw mut (*self.0).recent, index as u32) };
    }
}
