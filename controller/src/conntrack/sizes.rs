//! Sizes of the tables, from flags, CPUs and memory.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use crate::config::ConntrackArgs;

/// kube-proxy's upper bound of the default.
const MOST_CONNECTIONS: u64 = 1 << 20;

/// The least that is allocated, however little memory there is.
const FEWEST_CONNECTIONS: u64 = 1024;

/// Entries of a connection: one a direction.
const HALVES: u64 = 2;

/// Kernel memory of an entry: key, value and the kernel's own header in a slab object of
/// 192 bytes, and its bucket.
const ENTRY_BYTES: u64 = 192 + 16;

/// Share of memory for a full table of proven connections.
const PROVEN_SHARE: u64 = 50;
/// Share of memory for the others, which is taken when the table is made.
const HALF_OPEN_SHARE: u64 = 200;

/// What the defaults depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that are online, whatever share of them this process may use.
    pub cpus: u64,
    /// Memory in bytes; 0 is unknown.
    pub memory: u64,
}

impl Machine {
    /// This one.
    pub fn current() -> Self {
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpus: cpus.and_then(|cpus| cpus.try_into().ok()).unwrap_or(1),
            memory: total_memory(&meminfo).unwrap_or(0),
        }
    }

    /// Connections that fit in a share of memory.
    fn fit(self, share: u64) -> u64 {
        match self.memory {
            0 => u64::MAX,
            memory => (memory / share / (ENTRY_BYTES * HALVES)).max(FEWEST_CONNECTIONS),
        }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// Elements of the maps of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSizes {
    /// `CONNTRACK`.
    pub conntrack: u32,
    /// `HALF_OPEN`.
    pub half_open: u32,
    /// `FRAGMENTS`.
    pub fragments: u32,
}

impl FlowSizes {
    /// As the flags say, and for the rest as befits the machine.
    pub fn new(options: &ConntrackArgs, machine: Machine) -> Self {
        let by_cpus = u64::from(options.max_per_core)
            .saturating_mul(machine.cpus)
            .max(options.min.into())
            .clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS);
        let proven = options
            .entries
            .map_or_else(|| by_cpus.min(machine.fit(PROVEN_SHARE)), u64::from);
        let half_open = options.half_open_entries.map_or_else(
            || {
                (proven / 4)
                    .max(FEWEST_CONNECTIONS)
                    .min(machine.fit(HALF_OPEN_SHARE))
            },
            u64::from,
        );
        let entries = |connections: u64| (connections * HALVES) as u32;
        Self {
            conntrack: entries(proven),
            half_open: entries(half_open),
            fragments: options.fragment_entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn sizes(cpus: u64, memory: u64) -> FlowSizes {
        FlowSizes::new(&ConntrackArgs::default(), Machine { cpus, memory })
    }

    #[test]
    fn defaults_follow_kube_proxy_within_a_share_of_memory() {
        let halves = |connections: u32| connections * 2;
        assert_eq!(sizes(2, 64 * GIB).conntrack, halves(131_072));
        assert_eq!(sizes(8, 64 * GIB).conntrack, halves(8 * 32_768));
        assert_eq!(sizes(128, 512 * GIB).conntrack, halves(1 << 20));
        assert_eq!(sizes(2, 0).conntrack, halves(131_072));
        let small = sizes(2, GIB);
        assert!(small.conntrack < halves(131_072));
        assert!(u64::from(small.conntrack) * ENTRY_BYTES <= GIB / 50);
        assert!(u64::from(small.half_open) * ENTRY_BYTES <= GIB / 200);
        assert_eq!(
            sizes(8, 64 * GIB).half_open,
            sizes(8, 64 * GIB).conntrack / 4
        );
    }

    #[test]
    fn explicit_sizes_are_taken_as_they_are() {
        let options = ConntrackArgs {
            entries: Some(3),
            half_open_entries: Some(5),
            fragment_entries: 7,
            ..ConntrackArgs::default()
        };
        let machine = Machine { cpus: 1, memory: 1 };
        let wanted = FlowSizes {
            conntrack: 6,
            half_open: 10,
            fragments: 7,
        };
        assert_eq!(FlowSizes::new(&options, machine), wanted);
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       16384256 kB\nMemFree:         8 kB\n";
        assert_eq!(total_memory(meminfo), Some(16_384_256 * 1024));
        assert_eq!(total_memory("garbage"), None);
    }

    proptest! {
        #[test]
        fn maps_are_never_empty_nor_larger_than_the_share(
            cpus in 1u64..4096, memory in 1u64..1 << 50,
            max_per_core in 0u32..1 << 28, min in 0u32..1 << 28,
        ) {
            let options = ConntrackArgs { max_per_core, min, ..ConntrackArgs::default() };
            let sizes = FlowSizes::new(&options, Machine { cpus, memory });
            let fits = |entries: u32, share| {
                u64::from(entries) * ENTRY_BYTES <= memory / share
                    || u64::from(entries) == FEWEST_CONNECTIONS * HALVES
            };
            prop_assert!(fits(sizes.conntrack, PROVEN_SHARE));
            prop_assert!(fits(sizes.half_open, HALF_OPEN_SHARE));
            prop_assert!(u64::from(sizes.conntrack) <= MOST_CONNECTIONS * HALVES);
        }
    }
}
