//! Addresses and ports, in network byte order.
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

use core::net::{IpAddr, Ipv6Addr};

use super::abi_type;

abi_type! {
    /// An IP address in 16 bytes, network byte order; IPv4 is v4-mapped.
    ///
    /// Kept as four words so that programs move it with word loads; each word
    /// holds four network-order bytes in memory order.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct Addr [16] { words: [u32; 4] }
}

/// Third word of a v4-mapped address: bytes `00 00 ff ff`.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// `::`, the unspecified address.
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// From four words in memory (network) order, as `user_ip6` has them.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// From one IPv4 word in memory (network) order, as `user_ip4` has it.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self {
            words: [0, 0, MAPPED, word],
        }
    }

    /// The four words in memory (network) order.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.words
    }

    /// The IPv4 word in memory (network) order; meaningless unless [`Self::is_v4`].
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        self.words[3]
    }

    /// Whether this is a v4-mapped address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// The unspecified address of the same family: `::ffff:0.0.0.0` or `::`.
    #[inline(always)]
    #[must_use]
    pub const fn unspecified(self) -> Self {
        if self.is_v4() {
            Self::from_v4_word(0)
        } else {
            Self::UNSPECIFIED
        }
    }

    /// 127.0.0.1 for all of 127.0.0.0/8, which is this host's as a whole; others as they are.
    #[inline(always)]
    #[must_use]
    pub const fn loopback_as_one(self) -> Self {
        if self.is_v4() && self.words[3].to_ne_bytes()[0] == 127 {
            Self::from_v4_word(u32::from_ne_bytes([127, 0, 0, 1]))
        } else {
            self
        }
    }

    /// Whether this is the unspecified address of its family.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.words[0] == 0
            && self.words[1] == 0
            && (self.words[2] == 0 || self.words[2] == MAPPED)
            && self.words[3] == 0
    }

    /// The sixteen bytes in network order.
    pub fn octets(self) -> [u8; 16] {
        let mut out = [0; 16];
        for (chunk, word) in out.chunks_exact_mut(4).zip(self.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    /// As the standard library's type, unmapped.
    pub fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(octets.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self { words }
    }
}

abi_type! {
    /// A port in network byte order.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct Port [2] { raw: u16 }
}

impl Port {
    /// From a number in host byte order.
    #[inline(always)]
    pub const fn new(port: u16) -> Self {
        Self { raw: port.to_be() }
    }

    /// From a field that already is in network byte order.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self { raw }
    }

    /// The field in network byte order.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.raw
    }

    /// The number in host byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.raw)
    }
}
