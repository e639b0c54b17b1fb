//! Lifetimes of flows, from flags to ticks.

use std::time::Duration;

use lb_ebpf::abi::{Lifetime, TICK_NS};

use crate::config::ConntrackArgs;

/// Ticks by [`Lifetime`], as in `CONFIG`.
pub type Lifetimes = [u32; Lifetime::COUNT];

/// TCP of which both directions have ended: long enough for what was under way.
const CLOSED: Duration = Duration::from_secs(10);

/// What goes into `CONFIG`.
pub fn lifetimes(options: &ConntrackArgs) -> Lifetimes {
    let mut out = [0; Lifetime::COUNT];
    for (class, lifetime) in [
        (Lifetime::HalfOpen, options.tcp_timeout_half_open),
        (Lifetime::Established, options.tcp_timeout_established),
        (Lifetime::CloseWait, options.tcp_timeout_close_wait),
        (Lifetime::Closed, CLOSED.min(options.tcp_timeout_close_wait)),
        (Lifetime::UdpNew, options.udp_timeout),
        (Lifetime::UdpStream, options.udp_timeout_stream),
    ] {
        out[class as usize] = ticks(lifetime);
    }
    out
}

/// The least number of ticks, at least one, that are no shorter than `duration`.
pub fn ticks(duration: Duration) -> u32 {
    let ticks = duration.as_nanos().div_ceil(u128::from(TICK_NS));
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_never_shorter_than_what_was_asked_for() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_secs(1)), 1);
        assert_eq!(ticks(Duration::from_secs(30)), 28);
        assert_eq!(ticks(Duration::from_secs(24 * 3600)), 80_467);
        assert_eq!(ticks(Duration::MAX), u32::MAX);
    }

    #[test]
    fn defaults_are_those_of_kube_proxy_and_of_the_kernel() {
        let lifetimes = lifetimes(&ConntrackArgs::default());
        let of = |class: Lifetime| lifetimes[class as usize];
        for (class, seconds) in [
            (Lifetime::HalfOpen, 60),
            (Lifetime::Established, 24 * 3600),
            (Lifetime::CloseWait, 3600),
            (Lifetime::Closed, 10),
            (Lifetime::UdpNew, 30),
            (Lifetime::UdpStream, 180),
        ] {
            assert_eq!(of(class), ticks(Duration::from_secs(seconds)), "{class:?}");
        }
    }
}
