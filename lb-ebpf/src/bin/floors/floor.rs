//! Programs that do parts of what a load balancer must do.
#![expect(unsafe_code, reason = "packet memory is raw kernel memory")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "contexts come by value, as the macro hands them over"
)]

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    btf_maps::HashMap,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_ebpf::checksum;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// One address of IPv6 length.
#[btf_map]
static SHORT: HashMap<[u32; 4], u64, 65536, NO_PREALLOC> = HashMap::new();
/// Two of them with ports and a protocol: a flow.
#[btf_map]
static LONG: HashMap<[u32; 10], u64, 65536, NO_PREALLOC> = HashMap::new();

/// Offsets in a TCP packet over IPv4 without options.
mod offset {
    pub(super) const ETHERTYPE: usize = 12;
    pub(super) const PROTOCOL: usize = 23;
    pub(super) const IP_CHECKSUM: usize = 24;
    pub(super) const SOURCE: usize = 26;
    pub(super) const DESTINATION: usize = 30;
    pub(super) const PORTS: usize = 34;
    pub(super) const TCP_CHECKSUM: usize = 50;
    pub(super) const END: usize = 54;
}

/// The headers of a packet that has all of them, and what they say.
struct Headers {
    start: *mut u8,
    source: u32,
    destination: u32,
    ports: u32,
}

/// The least of all.
#[xdp(frags)]
fn floor_return(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Parses, rewrites the destination with both checksums, and sends the packet back.
#[xdp(frags)]
fn floor_tx(ctx: XdpContext) -> u32 {
    match parse(&ctx) {
        Some(headers) => rewrite(&headers, 1),
        None => xdp_action::XDP_PASS,
    }
}

/// The same with what a hash map says about the destination.
#[xdp(frags)]
fn floor_short_key(ctx: XdpContext) -> u32 {
    let Some(headers) = parse(&ctx) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: benchmarks do not change the map under a running program.
    let found = unsafe { SHORT.get([0, 0, 0xffff_0000, headers.destination]) };
    match found {
        Some(delta) => rewrite(&headers, *delta as u32),
        None => xdp_action::XDP_DROP,
    }
}

/// The same with what a hash map says about the flow.
#[xdp(frags)]
fn floor_long_key(ctx: XdpContext) -> u32 {
    let Some(headers) = parse(&ctx) else {
        return xdp_action::XDP_PASS;
    };
    let Headers {
        source,
        destination,
        ports,
        ..
    } = headers;
    let mapped = 0xffff_0000;
    let key = [0, 0, mapped, source, 0, 0, mapped, destination, ports, 6];
    // SAFETY: as above.
    let found = unsafe { LONG.get(key) };
    match found {
        Some(delta) => rewrite(&headers, *delta as u32),
        None => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn parse(ctx: &XdpContext) -> Option<Headers> {
    // The verifier knows the bounds of this pointer, not of another one to the same place.
    let start = ctx.data() as *mut u8;
    if start as usize + offset::END > ctx.data_end() {
        return None;
    }
    let is_tcp = read::<u16>(start, offset::ETHERTYPE) == 0x0800u16.to_be()
        && read::<u8>(start, offset::PROTOCOL) == 6;
    is_tcp.then(|| Headers {
        start,
        source: read(start, offset::SOURCE),
        destination: read(start, offset::DESTINATION),
        ports: read(start, offset::PORTS),
    })
}

#[inline(always)]
fn rewrite(headers: &Headers, change: u32) -> u32 {
    let (start, old) = (headers.start, headers.destination);
    let new = old ^ change;
    let difference = checksum::diff(old, new);
    write(start, offset::DESTINATION, new);
    for at in [offset::IP_CHECKSUM, offset::TCP_CHECKSUM] {
        write(start, at, checksum::updated(read(start, at), difference));
    }
    // Back to where it came from.
    for at in [0, 2, 4] {
        let (to, from): (u16, u16) = (read(start, at), read(start, at + 6));
        write(start, at, from);
        write(start, at + 6, to);
    }
    xdp_action::XDP_TX
}

#[inline(always)]
fn read<T: Copy>(start: *mut u8, at: usize) -> T {
    // SAFETY: `parse` has checked that the packet has all headers. BPF loads need no alignment
    // in packet memory where the kernel has efficient unaligned access.
    unsafe { ptr::read_volatile(start.add(at).cast::<T>()) }
}

#[inline(always)]
fn write<T>(start: *mut u8, at: usize, value: T) {
    // SAFETY: as in `read`.
    unsafe { ptr::write_volatile(start.add(at).cast::<T>(), value) }
}
