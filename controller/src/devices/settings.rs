//! The contents of `CONFIG`. Pure.

use std::ops::RangeInclusive;

use lb_ebpf::abi::{Config, ConfigFlags, TICK_NS};

use super::{Options, local};
use crate::conntrack::ticks;

/// What the packet programs are told about this node. `now_ns` is the monotonic clock.
pub fn config(options: &Options, host_netns: u64, now_ns: u64) -> Config {
    let (first, last) = (*options.snat_ports.start(), *options.snat_ports.end());
    let takeover_until = if options.takeover.is_zero() {
        0
    } else {
        (now_ns / TICK_NS) as u32 + ticks(options.takeover)
    };
    let pods = options.local.networks(&options.pod_cidrs);
    let flags = [
        (
            options.external_cluster_ip,
            ConfigFlags::EXTERNAL_CLUSTER_IP,
        ),
        (pods.is_some(), ConfigFlags::LOCAL_BY_SOURCE),
    ];
    let flags = flags.into_iter().filter(|(holds, _)| *holds);
    Config {
        host_netns,
        flags: flags.fold(0, |all, (_, flag)| all | flag),
        snat_first: first.into(),
        snat_count: u32::from(last.saturating_sub(first)) + u32::from(last >= first),
        takeover_until,
        rejects_per_tick: options.rejects_per_tick,
        reserved: 0,
        lifetimes: options.lifetimes,
        local_v4: local::range(pods.unwrap_or_default(), true),
        local_v6: local::range(pods.unwrap_or_default(), false),
    }
}

/// The SNAT range that a node was told; `None` if SNAT is off.
pub fn snat_ports(config: &Config) -> Option<RangeInclusive<u16>> {
    let first = u16::try_from(config.snat_first).ok()?;
    let last = config
        .snat_count
        .checked_sub(1)?
        .checked_add(first.into())?;
    Some(first..=u16::try_from(last).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn config_says_what_was_asked_for() {
        let options = Options {
            takeover: Duration::from_nanos(2 * TICK_NS),
            external_cluster_ip: false,
            ..Options::default()
        };
        let told = config(&options, 7, 10 * TICK_NS + 5);
        assert_eq!(
            (told.host_netns, told.flags, told.takeover_until),
            (7, 0, 12)
        );
        assert_eq!((told.snat_first, told.snat_count), (20_000, 10_000));
        assert_eq!(snat_ports(&told), Some(20_000..=29_999));
        let told = config(&Options::default(), 7, 10 * TICK_NS);
        assert_eq!(told.flags, ConfigFlags::EXTERNAL_CLUSTER_IP);
        assert_eq!(told.takeover_until, 0);
    }
}
