//! The FIB helper, the same for XDP and TC.
#![expect(unsafe_code, reason = "the helper fills a C structure")]

use core::{ffi::c_void, mem};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as Parameters,
    },
    helpers::generated::bpf_fib_lookup,
};
use lb_ebpf::{
    abi::NextHop,
    route::{Query, Route},
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Asks the FIB of the device's namespace, as if the packet had come in at `ifindex`.
#[inline(always)]
pub(crate) fn route(ctx: *mut c_void, ifindex: u32, query: &Query) -> Route {
    // SAFETY: plain integers, for which zero is valid.
    let mut parameters: Parameters = unsafe { mem::zeroed() };
    parameters.ifindex = ifindex;
    parameters.l4_protocol = query.protocol;
    parameters.sport = query.src_port.raw();
    parameters.dport = query.dst_port.raw();
    // Any length: it makes the helper tell the MTU (5.12).
    parameters.__bindgen_anon_1.tot_len = 1;
    if query.src.is_v4() {
        parameters.family = AF_INET;
        parameters.__bindgen_anon_3.ipv4_src = query.src.v4_word();
        parameters.__bindgen_anon_4.ipv4_dst = query.dst.v4_word();
    } else {
        parameters.family = AF_INET6;
        parameters.__bindgen_anon_3.ipv6_src = query.src.words();
        parameters.__bindgen_anon_4.ipv6_dst = query.dst.words();
    }
    // SAFETY: the context is this hook's; the structure outlives the call.
    let answer =
        unsafe { bpf_fib_lookup(ctx, &raw mut parameters, size_of::<Parameters>() as i32, 0) };
    let hop = |dst_mac, src_mac| NextHop {
        ifindex: parameters.ifindex,
        dst_mac,
        src_mac,
    };
    // SAFETY: both sides of the union are the same integer.
    let mtu = u32::from(unsafe { parameters.__bindgen_anon_1.mtu_result });
    // Before 5.12 the field still says what was asked.
    let mtu = if mtu > 1 { mtu } else { 0 };
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Route::Hop(hop(parameters.dmac, parameters.smac), mtu),
        BPF_FIB_LKUP_RET_NO_NEIGH => Route::Hop(hop([0; 6], [0; 6]), mtu),
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        _ => Route::None,
    }
}
