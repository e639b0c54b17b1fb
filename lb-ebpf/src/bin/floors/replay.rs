//! The same packet again: headers from a template, then the program under test.
#![expect(
    unsafe_code,
    reason = "packet memory and map values are raw kernel memory"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "contexts come by value, as the macro hands them over"
)]

use core::ptr;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Words of a packet that a program may change.
const WORDS: usize = 32;

/// What the benchmark writes: the words, then the offset of the source port (0: it stays), then
/// how many packets there were.
type Template = [u32; WORDS + 2];

#[btf_map]
static TEMPLATE: Array<Template, 1> = Array::new();
/// The program under test.
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

#[xdp(frags)]
fn replay(ctx: XdpContext) -> u32 {
    if restore(&ctx).is_some() {
        // SAFETY: nothing is left to be dropped here.
        unsafe { TARGET.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn restore(ctx: &XdpContext) -> Option<()> {
    let template = TEMPLATE.get_ptr_mut(0)?.cast::<u32>();
    if ctx.data() + WORDS * 4 > ctx.data_end() {
        return None;
    }
    let start = ctx.data() as *mut u32;
    for word in 0..WORDS {
        // SAFETY: both are within the bounds that were checked; map values and packets of test
        // runs are aligned to words.
        unsafe { ptr::write_volatile(start.add(word), ptr::read_volatile(template.add(word))) };
    }
    // SAFETY: within the map's value.
    let at = unsafe { ptr::read_volatile(template.add(WORDS)) } as usize & 0x7f;
    if at == 0 {
        return Some(());
    }
    // SAFETY: within the map's value, which one CPU uses at a time.
    let count = unsafe {
        let count = ptr::read_volatile(template.add(WORDS + 1)).wrapping_add(1);
        ptr::write_volatile(template.add(WORDS + 1), count);
        count
    };
    let port = ctx.data() + at;
    if port + 2 > ctx.data_end() {
        return None;
    }
    // Checksums are brought up to date by those under test, and never verified: the wrong one
    // costs what the right one does. Ports below 1024 stay out of it.
    let source = (count as u16 | 0x8000).to_be();
    // SAFETY: within the packet, as just checked.
    unsafe { ptr::write_volatile(port as *mut u16, source) };
    Some(())
}
