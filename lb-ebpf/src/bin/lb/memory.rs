//! Reading packet memory, the same for XDP and TC.
#![expect(unsafe_code, reason = "packet memory is raw kernel memory")]

use core::ptr;

/// Offsets beyond this are not used: headers end before. The verifier wants a bound on what
/// is added to a packet pointer.
pub(crate) const MAX_OFFSET: usize = 0x3fff;

/// `N` words at `at` of the packet from `data` to `end`.
#[inline(always)]
pub(crate) fn words<const N: usize>(data: usize, end: usize, at: usize) -> Option<[u32; N]> {
    let start = data + (at & MAX_OFFSET);
    if start + N * 4 > end {
        return None;
    }
    let start = start as *const u32;
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: within the bounds just checked. BPF loads need no alignment in packet
        // memory where the kernel has efficient unaligned access.
        *word = unsafe { ptr::read_volatile(start.add(index)) };
    }
    Some(words)
}

/// The half-word at `at` of the packet from `data` to `end`.
#[inline(always)]
pub(crate) fn half(data: usize, end: usize, at: usize) -> Option<u16> {
    let start = data + (at & MAX_OFFSET);
    if start + 2 > end {
        return None;
    }
    // SAFETY: as in `words`.
    Some(unsafe { ptr::read_volatile(start as *const u16) })
}
