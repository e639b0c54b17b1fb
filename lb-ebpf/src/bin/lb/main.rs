//! The BPF object: the programs of all hooks and their maps.
//!
//! On the host this is an empty `main`, so that `cargo check --workspace` and rust
//! tooling work without a BPF toolchain; `cargo xtask build` builds the object.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// `core`'s stable atomics do not exist on this target; the intrinsic does. Assembly is the
// one way to keep the compiler from computing with the context pointer.
#![cfg_attr(
    target_arch = "bpf",
    feature(asm_experimental_arch, core_intrinsics),
    expect(internal_features, reason = "intrinsics are internal"),
    expect(
        clippy::inline_always,
        reason = "a hook is one function: calls cost the verifier and the packet"
    )
)]

#[cfg(target_arch = "bpf")]
mod cgroup;
#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod ctx;
#[cfg(target_arch = "bpf")]
mod fib;
#[cfg(target_arch = "bpf")]
mod iter;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod storage;
#[cfg(target_arch = "bpf")]
mod subprograms;
#[cfg(target_arch = "bpf")]
mod tc;
#[cfg(target_arch = "bpf")]
mod xdp;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Some helpers (clocks among them) are for GPL-compatible programs only.
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
