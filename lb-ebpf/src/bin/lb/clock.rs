//! Clocks and chance for packet hooks.
#![expect(unsafe_code, reason = "helpers are unsafe to call")]

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
};
use lb_ebpf::abi::TICK_SHIFT;

/// Whether the kernel has the coarse clock (5.11), which costs a quarter of the other.
#[unsafe(no_mangle)]
pub(crate) static HAS_COARSE_CLOCK: Global<u32> = Global::new(1);

/// The current tick.
#[inline(always)]
pub(crate) fn tick() -> u32 {
    let now = if HAS_COARSE_CLOCK.load() == 0 {
        now_ns()
    } else {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    };
    (now >> TICK_SHIFT) as u32
}

/// Monotonic clock, nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// 32 uniformly random bits.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: no arguments.
    unsafe { bpf_get_prandom_u32() }
}
