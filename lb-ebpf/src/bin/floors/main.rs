//! Yardsticks for benchmarks: the least that packets of a load balancer can cost, and a way to
//! run any XDP program on the same packet again and again.
//!
//! `replay` puts a packet's headers back to what they were, or makes the packet one of a new
//! flow, and calls the program under test. What it costs itself is what it costs in front of
//! `floor_return`. This is no part of what nodes run; on the host it is an empty `main`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::inline_always,
        reason = "packets are only read where the verifier sees their bounds"
    )
)]

#[cfg(target_arch = "bpf")]
mod floor;
#[cfg(target_arch = "bpf")]
mod replay;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[expect(
    unsafe_code,
    reason = "placing a static in a section is an unsafe attribute"
)]
// SAFETY: the loader reads this section as a NUL-terminated string and nothing else.
#[unsafe(link_section = "license")]
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: a program with a surviving panic path does not load.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
