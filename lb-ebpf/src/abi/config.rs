//! What the controller tells the packet programs about this node.

use super::{AddressRange, Lifetime, abi_type};

/// Length of a tick, the unit of time in flow records: 2^30 ns (about 1.07 s) of
/// `CLOCK_MONOTONIC`, so that a program needs a shift and no division.
pub const TICK_NS: u64 = 1 << TICK_SHIFT;

/// `TICK_NS` as a shift.
pub const TICK_SHIFT: u32 = 30;

abi_type! {
    /// The one element of `CONFIG`.
    pub struct Config [120] {
        /// Cookie of the host's network namespace (loopback NodePorts are for it only).
        pub host_netns: u64,
        /// [`ConfigFlags`].
        pub flags: u32,
        /// First port of the SNAT range, host order.
        pub snat_first: u32,
        /// Number of ports of the SNAT range; 0 switches SNAT off.
        pub snat_count: u32,
        /// Until this tick, TCP packets of unknown flows are left to the kernel even for
        /// DSR services: netfilter may own them (take-over from another proxy).
        pub takeover_until: u32,
        /// Rejections (RST, ICMP) per CPU and tick.
        pub rejects_per_tick: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
        /// Lifetimes in ticks, by [`Lifetime`].
        pub lifetimes: [u32; Lifetime::COUNT],
        /// With [`ConfigFlags::LOCAL_BY_SOURCE`]: IPv4 sources that are pods (rule F9).
        pub local_v4: AddressRange,
        /// The same for IPv6.
        pub local_v6: AddressRange,
    }
}

impl Config {
    /// The lifetime of a class, in ticks.
    #[inline(always)]
    pub const fn lifetime(&self, class: Lifetime) -> u32 {
        // One by one: an index that a program computes would have to be proven in bounds.
        match class {
            Lifetime::HalfOpen => self.lifetimes[0],
            Lifetime::Established => self.lifetimes[1],
            Lifetime::CloseWait => self.lifetimes[2],
            Lifetime::Closed => self.lifetimes[3],
            Lifetime::UdpNew => self.lifetimes[4],
            Lifetime::UdpStream => self.lifetimes[5],
        }
    }
}

/// Bits of [`Config::flags`].
#[derive(Debug)]
pub struct ConfigFlags;

impl ConfigFlags {
    /// ClusterIPs are served to clients outside the cluster (rule E2).
    pub const EXTERNAL_CLUSTER_IP: u32 = 1;
    /// Who counts as a pod is decided by the source address of its packets, not by the
    /// device they come from (rule F9). A socket of a pod has no source address yet: it
    /// leaves frontends whose scopes differ to the packet path.
    pub const LOCAL_BY_SOURCE: u32 = 1 << 1;
}
