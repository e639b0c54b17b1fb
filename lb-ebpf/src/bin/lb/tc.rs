//! TC: a socket buffer. Reads go to packet memory; writes go through helpers, because a
//! program that writes directly makes the kernel copy the headers of every cloned packet,
//! foreign ones too.
#![expect(unsafe_code, reason = "packet memory is raw kernel memory")]

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_INGRESS,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{
        bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room,
        bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};
use lb_ebpf::{
    abi::PacketEvent,
    checksum::Delta,
    packet::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, Place, Verdict},
    parse::{NotOurs, parse},
    pipeline::{self, Step},
    route::{Query, Route},
};

use crate::{
    clock, fib,
    maps::{Maps, scratch},
    memory,
    subprograms::{lb_count_event, lb_updated_crc},
};

/// `TC_ACT_UNSPEC`, `TCX_NEXT`: whoever comes next decides.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`, `TCX_DROP`.
const DROP: i32 = 2;

/// Bytes that have to lie in one piece: every header that is looked at.
const HEADERS: u32 = 192;

/// Where a program is attached.
trait At {
    const PLACE: Place;
}

/// A socket buffer at a TC hook.
struct Buffer<A> {
    skb: *mut __sk_buff,
    at: core::marker::PhantomData<A>,
}

/// Reads a 32-bit field of the context.
///
/// The verifier takes only "context + constant" in one instruction, and the compiler likes
/// to share the sum among several: assembly keeps it from that.
macro_rules! field {
    ($skb:expr, $field:ident) => {{
        let value: u64;
        // SAFETY: a load of a field of the context that the kernel gave.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({skb} + {offset})",
                value = out(reg) value,
                skb = in(reg) $skb,
                offset = const core::mem::offset_of!(__sk_buff, $field),
                options(nostack, readonly, preserves_flags),
            );
        }
        value
    }};
}

impl<A> Buffer<A> {
    #[inline(always)]
    const fn new(skb: *mut __sk_buff) -> Self {
        Self {
            skb,
            at: core::marker::PhantomData,
        }
    }

    #[inline(always)]
    fn data(&self) -> usize {
        field!(self.skb, data) as usize
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        field!(self.skb, data_end) as usize
    }

    /// Makes the headers lie in one piece, if they do not.
    #[inline(always)]
    fn linearize(&self) {
        let len = self.skb_len();
        let wanted = if len < HEADERS { len } else { HEADERS };
        if self.data() + wanted as usize > self.data_end() {
            // SAFETY: the context is this hook's. On failure the parser stops at the end.
            unsafe { bpf_skb_pull_data(self.skb, wanted) };
        }
    }

    #[inline(always)]
    fn skb_len(&self) -> u32 {
        field!(self.skb, len) as u32
    }

    #[inline(always)]
    fn store(&self, at: usize, bytes: *const u8, len: u32) -> bool {
        // SAFETY: `bytes` are `len` bytes on the stack.
        unsafe { bpf_skb_store_bytes(self.skb.cast(), at as u32, bytes.cast(), len, 0) == 0 }
    }
}

impl<A: At> Packet for Buffer<A> {
    const PLACE: Place = A::PLACE;

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        field!(self.skb, ifindex) as u32
    }

    #[inline(always)]
    fn network(&self) -> Option<(usize, bool)> {
        let protocol = field!(self.skb, protocol) as u16;
        let v4 = match u16::from_be(protocol) {
            ETHERTYPE_IPV4 => true,
            ETHERTYPE_IPV6 => false,
            _ => return None,
        };
        // Where generic XDP had to copy a packet, the kernel shows it to TC without its
        // Ethernet header (`skb_pp_cow_data` does not copy `mac_len`; seen in 6.18).
        let ethernet = self.half(ETHERNET - 2)? == protocol;
        Some((if ethernet { ETHERNET } else { 0 }, v4))
    }

    #[inline(always)]
    fn complete(&mut self) -> Option<usize> {
        let protocol = field!(self.skb, protocol) as u16;
        if self.half(ETHERNET - 2)? == protocol {
            return Some(0);
        }
        // Also makes `mac_len` right. The addresses are lost, but have been looked at.
        // SAFETY: the context is this hook's.
        if unsafe { bpf_skb_change_head(self.skb, ETHERNET as u32, 0) } != 0 {
            return None;
        }
        self.set_half(ETHERNET - 2, protocol).then_some(ETHERNET)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        memory::words(self.data(), self.data_end(), at)
    }

    #[inline(always)]
    fn half(&self, at: usize) -> Option<u16> {
        memory::half(self.data(), self.data_end(), at)
    }

    #[inline(always)]
    fn set_words<const N: usize>(&mut self, at: usize, words: [u32; N]) -> bool {
        self.store(at, words.as_ptr().cast(), N as u32 * 4)
    }

    #[inline(always)]
    fn set_half(&mut self, at: usize, half: u16) -> bool {
        self.store(at, (&raw const half).cast(), 2)
    }

    #[inline(always)]
    fn fix_checksum(&mut self, at: usize, delta: Delta, udp: bool) -> bool {
        let mangled = if udp {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let replace = |difference: u32, flags: u64| {
            // SAFETY: the context is this hook's. Size 0 (the low bits of the flags) says
            // that `to` is a difference.
            difference == 0
                || unsafe {
                    bpf_l4_csum_replace(
                        self.skb,
                        at as u32,
                        0,
                        u64::from(difference),
                        flags | mangled,
                    )
                } == 0
        };
        // Where the device completes checksums later, only the pseudo header is in yet.
        replace(delta.pseudo, u64::from(BPF_F_PSEUDO_HDR)) && replace(delta.segment, 0)
    }

    #[inline(always)]
    fn is_super_packet(&self) -> bool {
        field!(self.skb, gso_segs) > 1
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.skb_len() as usize
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        // SAFETY: the context is this hook's.
        len <= self.len() && unsafe { bpf_skb_change_tail(self.skb, len as u32, 0) == 0 }
    }

    #[inline(always)]
    fn push_front<const N: usize>(&mut self, words: [u32; N], tunnel: bool) -> bool {
        let flags = match (tunnel, N) {
            (false, _) => 0,
            (true, 5) => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            (true, _) => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        };
        // SAFETY: the context is this hook's.
        let grown = unsafe {
            bpf_skb_adjust_room(self.skb, N as i32 * 4, BPF_ADJ_ROOM_MAC, u64::from(flags))
        };
        grown == 0 && self.set_words(ETHERNET, words)
    }

    #[inline(always)]
    fn pull_front(&mut self, len: usize) -> bool {
        // SAFETY: the context is this hook's.
        let shrunk = unsafe { bpf_skb_adjust_room(self.skb, -(len as i32), BPF_ADJ_ROOM_MAC, 0) };
        shrunk == 0
    }

    #[inline(always)]
    fn route(&self, query: &Query) -> Route {
        fib::route(self.skb.cast(), self.ifindex(), query)
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

/// Takes a packet apart, into this CPU's scratch; a number as [`NotOurs::number`] gives it.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_parse_buffer(skb: *mut __sk_buff) -> u32 {
    // Parsing is the same at every place.
    let buffer = Buffer::<Ingress>::new(skb);
    buffer.linearize();
    let parsed = match scratch() {
        Some(scratch) => parse(&buffer, &mut scratch.parsed),
        None => Err(NotOurs::Foreign),
    };
    NotOurs::number(parsed)
}

/// What [`judge`] says, as a number that crosses the border of a subprogram.
const PASS: u32 = 0;
const SHOOT: u32 = 1;
const FORWARD: u32 = 2;
const REFUSE: u32 = 3;
const REFUSE_UNDEFINED: u32 = 4;

#[inline(always)]
fn judge<A: At>(skb: *mut __sk_buff, parsed: u32) -> u32 {
    let Some(scratch) = scratch() else {
        return PASS;
    };
    let mut buffer = Buffer::<A>::new(skb);
    match pipeline::judge(&mut buffer, &Maps, NotOurs::from_number(parsed), scratch) {
        Step::Done(Verdict::Drop) => SHOOT,
        Step::Done(_) => PASS,
        Step::Forward => FORWARD,
        Step::Answer(PacketEvent::UndefinedPort, _) => REFUSE_UNDEFINED,
        Step::Answer(..) => REFUSE,
    }
}

#[inline(always)]
fn finish<A: At>(skb: *mut __sk_buff, step: u32) -> i32 {
    let Some(scratch) = scratch() else {
        return NEXT;
    };
    let mut buffer = Buffer::<A>::new(skb);
    let refusal_of = match step {
        FORWARD => None,
        REFUSE_UNDEFINED => Some(PacketEvent::UndefinedPort),
        _ => Some(PacketEvent::Refused),
    };
    match pipeline::finish(&mut buffer, &Maps, refusal_of, scratch) {
        Verdict::Pass => NEXT,
        Verdict::Drop => DROP,
        // The kernel resolves the neighbour, and waits for one that is not known yet.
        // SAFETY: takes integers and no parameters.
        Verdict::Redirect(hop) => unsafe {
            bpf_redirect_neigh(hop.ifindex, ptr::null_mut(), 0, 0) as i32
        },
        // SAFETY: takes integers.
        Verdict::Bounce => unsafe {
            bpf_redirect(buffer.ifindex(), u64::from(BPF_F_INGRESS)) as i32
        },
    }
}

macro_rules! programs {
    ($($name:ident, $judge:ident, $finish:ident, $at:ident, $place:expr;)*) => {$(
        struct $at;
        impl At for $at {
            const PLACE: Place = $place;
        }
        // SAFETY: no other item has this name.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $judge(skb: *mut __sk_buff, parsed: u32) -> u32 {
            judge::<$at>(skb, parsed)
        }
        // SAFETY: no other item has this name.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $finish(skb: *mut __sk_buff, step: u32) -> i32 {
            finish::<$at>(skb, step)
        }
        // The three parts are called one after the other, not from within each other: the
        // stacks of a chain of calls add up.
        #[classifier]
        fn $name(ctx: TcContext) -> i32 {
            let skb = ctx.as_ptr().cast();
            match $judge(skb, lb_parse_buffer(skb)) {
                SHOOT => DROP,
                step @ (FORWARD | REFUSE | REFUSE_UNDEFINED) => $finish(skb, step),
                _ => NEXT,
            }
        }
    )*};
}

programs! {
    lb_ingress, lb_judge_ingress, lb_finish_ingress, Ingress, Place::INGRESS;
    lb_egress, lb_judge_egress, lb_finish_egress, Egress, Place::EGRESS;
    lb_pod_ingress, lb_judge_pod_ingress, lb_finish_pod_ingress, PodIngress, Place::POD_INGRESS;
    lb_pod_egress, lb_judge_pod_egress, lb_finish_pod_egress, PodEgress, Place::POD_EGRESS;
}
