//! The one mixing function of the datapath: filter bits, seals and the choice of a backend.
#![forbid(unsafe_code)]

use crate::abi::{ConntrackKey, FILTER_WORDS, FrontendKey, NODE_PORT_WORDS, Protocol};

/// Odd constants with well spread bits (the fractional parts of the golden ratio
/// and of the square root of two).
const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0x6a09_e667_f3bc_c909;

/// Folds 64-bit words into a state; a multiply and a shift a word.
#[derive(Clone, Copy, Debug)]
pub struct Mixer(u64);

impl Mixer {
    /// Starts from `seed`.
    #[inline(always)]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Folds in one word.
    #[inline(always)]
    #[must_use]
    pub const fn mix(self, word: u64) -> Self {
        let h = (self.0 ^ word).wrapping_mul(K1);
        Self(h ^ (h >> 32))
    }

    /// 32 bits, each depending on every word.
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        (self.0.wrapping_mul(K2) >> 32) as u32
    }
}

/// Hash of a frontend without its scope: both scopes share a filter bit.
#[inline(always)]
pub fn frontend_hash(key: &FrontendKey) -> u64 {
    let [a, b, c, d] = key.addr.words();
    Mixer::new(u64::from(key.port.raw()) << 8 | u64::from(key.protocol))
        .mix(u64::from(a) | u64::from(b) << 32)
        .mix(u64::from(c) | u64::from(d) << 32)
        .0
}

/// Hash of a whole tuple: the same on every node, so that every node chooses the same
/// backend for it.
#[inline(always)]
pub fn tuple_hash(key: &ConntrackKey) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (key.src.words(), key.dst.words());
    let ports = u64::from(key.src_port.raw()) << 16 | u64::from(key.dst_port.raw());
    Mixer::new(ports << 8 | u64::from(key.protocol))
        .mix(u64::from(a) | u64::from(b) << 32)
        .mix(u64::from(c) | u64::from(d) << 32)
        .mix(u64::from(e) | u64::from(f) << 32)
        .mix(u64::from(g) | u64::from(h) << 32)
        .0
}

/// Word index and bit mask of a frontend in the `FILTER` map, and of what packets of a
/// responder half come from (as a "frontend") in `FLOW_SOURCES`.
#[inline(always)]
pub fn filter_bit(key: &FrontendKey) -> (u32, u64) {
    let h = Mixer::new(frontend_hash(key)).finish();
    ((h >> 6) & (FILTER_WORDS - 1), 1 << (h & 63))
}

/// Word index and bit mask of a port in the `NODE_PORTS` map; `None` for a protocol that
/// services do not have.
#[inline(always)]
pub const fn node_port_bit(protocol: u8, port: u16) -> Option<(u32, u64)> {
    let base = match Protocol::from_number(protocol) {
        Some(Protocol::Tcp) => 0,
        Some(Protocol::Udp) => NODE_PORT_WORDS / 3,
        Some(Protocol::Sctp) => NODE_PORT_WORDS / 3 * 2,
        None => return None,
    };
    Some((base + (port as u32 >> 6), 1 << (port & 63)))
}
