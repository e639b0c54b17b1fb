//! XDP: a packet in the driver's memory, read and written in place.
#![expect(unsafe_code, reason = "packet memory is raw kernel memory")]

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    bindings::{xdp_action, xdp_md},
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head},
    macros::xdp,
    programs::XdpContext,
};
use lb_ebpf::{
    abi::PacketEvent,
    checksum::{self, Delta},
    packet::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, Place, Verdict},
    parse::{NotOurs, parse},
    pipeline::{self, Step},
    route::{Query, Route},
};

use crate::{
    clock, fib,
    maps::{Maps, scratch},
    memory::{self, MAX_OFFSET},
    subprograms::{lb_count_event, lb_updated_crc},
};

/// A frame at an XDP hook.
struct Frame {
    ctx: XdpContext,
}

impl Packet for Frame {
    const PLACE: Place = Place::XDP;

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn network(&self) -> Option<(usize, bool)> {
        match u16::from_be(self.half(ETHERNET - 2)?) {
            ETHERTYPE_IPV4 => Some((ETHERNET, true)),
            ETHERTYPE_IPV6 => Some((ETHERNET, false)),
            _ => None,
        }
    }

    #[inline(always)]
    fn complete(&mut self) -> Option<usize> {
        Some(0)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        memory::words(self.ctx.data(), self.ctx.data_end(), at)
    }

    #[inline(always)]
    fn half(&self, at: usize) -> Option<u16> {
        memory::half(self.ctx.data(), self.ctx.data_end(), at)
    }

    #[inline(always)]
    fn set_words<const N: usize>(&mut self, at: usize, words: [u32; N]) -> bool {
        let start = self.ctx.data() + (at & MAX_OFFSET);
        if start + N * 4 > self.ctx.data_end() {
            return false;
        }
        let start = start as *mut u32;
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: within the bounds just checked; as for loads, alignment is not needed.
            unsafe { ptr::write_volatile(start.add(index), word) };
        }
        true
    }

    #[inline(always)]
    fn set_half(&mut self, at: usize, half: u16) -> bool {
        let start = self.ctx.data() + (at & MAX_OFFSET);
        if start + 2 > self.ctx.data_end() {
            return false;
        }
        // SAFETY: as in `set_words`.
        unsafe { ptr::write_volatile(start as *mut u16, half) };
        true
    }

    #[inline(always)]
    fn fix_checksum(&mut self, at: usize, delta: Delta, udp: bool) -> bool {
        let Some(old) = self.half(at) else {
            return false;
        };
        self.set_half(at, checksum::updated_transport(old, delta, udp))
    }

    #[inline(always)]
    fn is_super_packet(&self) -> bool {
        false
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
    }

    #[inline(always)]
    fn truncate(&mut self, _len: usize) -> bool {
        // Answers are TC's.
        false
    }

    #[inline(always)]
    fn push_front<const N: usize>(&mut self, words: [u32; N], _tunnel: bool) -> bool {
        let Some(ethernet) = self.ethernet() else {
            return false;
        };
        // SAFETY: the context is this hook's.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(N as i32 * 4)) } != 0 {
            return false;
        }
        self.set_ethernet(ethernet) && self.set_words(ETHERNET, words)
    }

    #[inline(always)]
    fn pull_front(&mut self, len: usize) -> bool {
        let Some(ethernet) = self.ethernet() else {
            return false;
        };
        // SAFETY: as in `push_front`.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, len as i32) } != 0 {
            return false;
        }
        self.set_ethernet(ethernet)
    }

    #[inline(always)]
    fn route(&self, query: &Query) -> Route {
        fib::route(self.ctx.as_ptr(), self.ifindex(), query)
    }

    #[inline(always)]
    fn tick(&self) -> u32 {
        clock::tick()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        clock::random()
    }

    #[inline(always)]
    fn updated_crc(&self, crc: u32, old: u32, new: u32, after: u16) -> u32 {
        lb_updated_crc(crc, old, new, u32::from(after))
    }

    #[inline(always)]
    fn count(&self, event: PacketEvent, detail: u32) {
        lb_count_event(self.ifindex(), event as u32, detail);
    }
}

impl Frame {
    #[inline(always)]
    fn ethernet(&self) -> Option<([u32; 3], u16)> {
        Some((self.words(0)?, self.half(12)?))
    }

    #[inline(always)]
    fn set_ethernet(&mut self, (macs, ethertype): ([u32; 3], u16)) -> bool {
        self.set_words(0, macs) && self.set_half(12, ethertype)
    }
}

/// Takes a frame apart, into this CPU's scratch; a number as [`NotOurs::number`] gives it.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_parse_frame(ctx: *mut xdp_md) -> u32 {
    let frame = Frame {
        ctx: XdpContext::new(ctx),
    };
    let parsed = match scratch() {
        Some(scratch) => parse(&frame, &mut scratch.parsed),
        None => Err(NotOurs::Foreign),
    };
    NotOurs::number(parsed)
}

#[xdp(frags)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the attribute's wrapper gives it so"
)]
fn lb_xdp(ctx: XdpContext) -> u32 {
    // One after the other, not from within each other: stacks of a chain of calls add up.
    match lb_judge_frame(ctx.ctx, lb_parse_frame(ctx.ctx)) {
        SHOOT => xdp_action::XDP_DROP,
        FORWARD => lb_finish_frame(ctx.ctx),
        _ => xdp_action::XDP_PASS,
    }
}

/// What [`lb_judge_frame`] says, as a number that crosses the border of a subprogram.
const PASS: u32 = 0;
const SHOOT: u32 = 1;
const FORWARD: u32 = 2;

/// Judges a frame that was parsed with result `parsed`.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_judge_frame(ctx: *mut xdp_md, parsed: u32) -> u32 {
    let Some(scratch) = scratch() else {
        return PASS;
    };
    let mut frame = Frame {
        ctx: XdpContext::new(ctx),
    };
    match pipeline::judge(&mut frame, &Maps, NotOurs::from_number(parsed), scratch) {
        Step::Done(Verdict::Drop) => SHOOT,
        Step::Forward => FORWARD,
        // Answers are TC's.
        Step::Done(_) | Step::Answer(..) => PASS,
    }
}

/// Forwards a frame; its record is in the scratch.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_finish_frame(ctx: *mut xdp_md) -> u32 {
    let Some(scratch) = scratch() else {
        return xdp_action::XDP_PASS;
    };
    let mut frame = Frame {
        ctx: XdpContext::new(ctx),
    };
    match pipeline::finish(&mut frame, &Maps, None, scratch) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop | Verdict::Bounce => xdp_action::XDP_DROP,
        Verdict::Redirect(hop) => {
            let (to, from) = (hop.dst_mac, hop.src_mac);
            let macs = [
                u32::from_ne_bytes([to[0], to[1], to[2], to[3]]),
                u32::from_ne_bytes([to[4], to[5], from[0], from[1]]),
                u32::from_ne_bytes([from[2], from[3], from[4], from[5]]),
            ];
            if !frame.set_words(0, macs) {
                return xdp_action::XDP_DROP;
            }
            if hop.ifindex == frame.ifindex() {
                return xdp_action::XDP_TX;
            }
            // SAFETY: takes integers.
            unsafe { bpf_redirect(hop.ifindex, 0) as u32 }
        }
    }
}
