//! Subprograms with global linkage: the verifier walks each once, apart from its callers.
#![expect(unsafe_code, reason = "exported names are unsafe attributes")]

use lb_ebpf::checksum::crc32c;

use crate::maps;

/// [`crc32c::updated`] with arguments of register size.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn lb_updated_crc(crc: u32, old: u32, new: u32, after: u32) -> u32 {
    crc32c::updated(crc, old, new, after as u16)
}

/// Counts an event, given by its number, at a device.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn lb_count_event(ifindex: u32, event: u32, detail: u32) -> u32 {
    maps::count_event(ifindex, event, detail)
}
