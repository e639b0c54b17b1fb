//! Ranges of addresses that a program compares without a lookup.

use super::{Addr, abi_type};

/// Most ranges of a family in [`ServiceRanges`].
pub const SERVICE_RANGES: usize = 8;

abi_type! {
    /// A network: `address & mask == net`.
    pub struct AddressRange [32] {
        /// Its address.
        pub net: Addr,
        /// Ones where addresses must agree with `net`; for IPv4 also in the 96 bits of the
        /// v4-mapping.
        pub mask: Addr,
    }
}

impl AddressRange {
    /// The range without any address.
    pub const NONE: Self = Self {
        net: Addr::from_words([!0; 4]),
        mask: Addr::UNSPECIFIED,
    };

    /// The network of the first `bits` bits of `addr` (an IPv4 prefix counts its 96 bits of
    /// v4-mapping).
    pub fn new(addr: Addr, bits: u32) -> Self {
        let ones = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
        let words = |all: u128| {
            let bytes = all.to_be_bytes();
            let word = |at: usize| {
                u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            };
            Addr::from_words([word(0), word(4), word(8), word(12)])
        };
        Self {
            net: words(u128::from_be_bytes(addr.octets()) & ones),
            mask: words(ones),
        }
    }

    /// Whether `addr` is in it. What decides most often is compared first.
    #[inline(always)]
    pub const fn contains(&self, addr: &Addr) -> bool {
        let ([a, b, c, d], net, mask) = (addr.words(), self.net.words(), self.mask.words());
        d & mask[3] == net[3]
            && a & mask[0] == net[0]
            && b & mask[1] == net[1]
            && c & mask[2] == net[2]
    }

    /// Number of leading ones of the mask.
    pub fn bits(&self) -> u32 {
        u128::from_be_bytes(self.mask.octets()).leading_ones()
    }
}

abi_type! {
    /// A range of [`ServiceRanges`].
    pub struct ServiceRange [40] {
        /// The addresses.
        pub range: AddressRange,
        /// [`ServiceRangeFlags`].
        pub flags: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
    }
}

impl ServiceRange {
    /// An unused place.
    pub const NONE: Self = Self {
        range: AddressRange::NONE,
        flags: 0,
        reserved: 0,
    };
}

/// Bits of [`ServiceRange::flags`].
#[derive(Debug)]
pub struct ServiceRangeFlags;

impl ServiceRangeFlags {
    /// The range is set aside for ClusterIPs: packets to those that no Service has are
    /// dropped. Without it, the range only says where ClusterIPs are.
    pub const SERVICE_CIDR: u32 = 1;
}

abi_type! {
    /// The one element of `SERVICE_RANGES`: where ClusterIPs are (rule E3).
    ///
    /// An address in none of these is no ClusterIP, which a program learns without a hash
    /// lookup. `v4_used` and `v6_used` are one more than the index of the last place that
    /// is in use; a place that is emptied is used again only after a grace period.
    pub struct ServiceRanges [648] {
        /// Places of `v4` to look at.
        pub v4_used: u32,
        /// Places of `v6` to look at.
        pub v6_used: u32,
        /// IPv4.
        pub v4: [ServiceRange; SERVICE_RANGES],
        /// IPv6.
        pub v6: [ServiceRange; SERVICE_RANGES],
    }
}

impl ServiceRanges {
    /// No range at all: nothing is refused or dropped by rule E3.
    pub const NONE: Self = Self {
        v4_used: 0,
        v6_used: 0,
        v4: [ServiceRange::NONE; SERVICE_RANGES],
        v6: [ServiceRange::NONE; SERVICE_RANGES],
    };

    /// Flags of the first range that has `addr`.
    #[inline(always)]
    pub fn find(&self, addr: &Addr) -> Option<u32> {
        let (used, places) = if addr.is_v4() {
            (self.v4_used, &self.v4)
        } else {
            (self.v6_used, &self.v6)
        };
        let places = places.iter().take(used as usize);
        let mut found = places.filter(|place| place.range.contains(addr));
        found.next().map(|place| place.flags)
    }
}
