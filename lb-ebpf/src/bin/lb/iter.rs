//! The socket iterator: which UDP sockets, in all network namespaces, are connected
//! through us, to what, and from where (rule I7).
//!
//! The controller names backends in `GONE`, attaches the program to the map `CONNECTED`
//! and reads the file that results: one [`FoundSocket`] for each of their sockets. It
//! uses no map of an epoch, so that one loaded program outlives them all. It is
//! optional: the controller has another way to find sockets where the kernel refuses it.
#![expect(
    unsafe_code,
    reason = "kernel structures are read through raw pointers"
)]

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, seq_file},
    btf_maps::HashMap,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write},
    macros::btf_map,
};
use lb_ebpf::abi::{Addr, ConnectedFlow, FoundSocket, GONE_BACKENDS, Port, Protocol, SocketLayout};

/// The backends whose sockets are wanted: slot and generation. Told apart here, not in
/// userspace: each time that the output fills a buffer, the kernel walks the sockets
/// that it has passed once more.
#[btf_map]
static GONE: HashMap<[u32; 2], u32, { GONE_BACKENDS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Where the running kernel has the fields that are read below; set by the loader.
#[unsafe(no_mangle)]
static SOCKET_LAYOUT: Global<SocketLayout> = Global::new(SocketLayout {
    family: 0,
    num: 0,
    dport: 0,
    daddr: 0,
    rcv_saddr: 0,
    v6_daddr: 0,
    v6_rcv_saddr: 0,
    bound_dev_if: 0,
    has_cookie: 0,
});

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
    session_id: u64,
    seq_num: u64,
}

/// `struct bpf_iter__bpf_sk_storage_map`: stable ABI, every field 8 bytes wide.
#[repr(C)]
struct Context {
    meta: *const Meta,
    map: *const c_void,
    sk: *mut c_void,
    value: *const ConnectedFlow,
}

/// Reads a field of a socket. The verifier knows the offset, which is read-only data,
/// and checks it against the kernel's own types.
#[inline(always)]
fn field<T: Copy>(sk: *mut c_void, offset: u32) -> T {
    // SAFETY: a field of a live socket; the verifier refuses anything else.
    unsafe { ptr::read_volatile(sk.cast::<u8>().add(offset as usize).cast()) }
}

#[inline(always)]
fn v6(sk: *mut c_void, offset: u32) -> Addr {
    Addr::from_words([
        field(sk, offset),
        field(sk, offset + 4),
        field(sk, offset + 8),
        field(sk, offset + 12),
    ])
}

#[inline(always)]
fn found(sk: *mut c_void, flow: ConnectedFlow) -> FoundSocket {
    let at = SOCKET_LAYOUT.load();
    let family = u32::from(field::<u16>(sk, at.family));
    let (source, destination) = if family == FoundSocket::AF_INET6 {
        (v6(sk, at.v6_rcv_saddr), v6(sk, at.v6_daddr))
    } else {
        (
            Addr::from_v4_word(field(sk, at.rcv_saddr)),
            Addr::from_v4_word(field(sk, at.daddr)),
        )
    };
    let cookie = if at.has_cookie == 0 {
        0
    } else {
        // SAFETY: the socket is a trusted kernel pointer.
        unsafe { bpf_get_socket_cookie(sk) }
    };
    FoundSocket {
        flow,
        cookie,
        source,
        destination,
        source_port: Port::new(field(sk, at.num)),
        destination_port: Port::from_raw(field(sk, at.dport)),
        family,
        device: field(sk, at.bound_dev_if),
        reserved: 0,
    }
}

/// Called once for each socket with a flow, and once more at the end without one.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
// SAFETY: the loader makes a program of every function in a section of this form.
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn lb_find_sockets(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes this structure.
    let (meta, sk, value) = unsafe { ((*ctx).meta, (*ctx).sk, (*ctx).value) };
    if sk.is_null() || value.is_null() {
        return 0;
    }
    // SAFETY: not null: the storage of this socket.
    let flow = unsafe { ptr::read_volatile(value) };
    if flow.protocol != Protocol::Udp as u32 || GONE.get_ptr([flow.slot, flow.generation]).is_none()
    {
        return 0;
    }
    let found = found(sk, flow);
    // SAFETY: the kernel's open file, and a value on our stack of the size that is
    // given. If the file's buffer is full the kernel calls again for this socket.
    unsafe {
        bpf_seq_write(
            (*meta).seq,
            ptr::from_ref(&found).cast(),
            size_of::<FoundSocket>() as u32,
        );
    }
    0
}
