//! When a flow is over: pure functions of its two halves and the clock.

use lb_ebpf::abi::{ConntrackEntry, ConntrackState, Lifetime, Protocol, TICK_SHIFT};

use super::Lifetimes;
use crate::datapath::now_monotonic_ns;

/// Age in ticks from which a flow is taken for settled: the programs write both halves
/// within one packet, so a half that is alone for longer has lost the other one.
pub const SETTLED_TICKS: u32 = 3;

/// The present, and how long flows live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The current tick.
    pub now: u32,
    /// Lifetimes in ticks.
    pub lifetimes: Lifetimes,
}

impl Clock {
    /// The clock of this moment.
    pub fn new(lifetimes: Lifetimes) -> Self {
        Self {
            now: (now_monotonic_ns() >> TICK_SHIFT) as u32,
            lifetimes,
        }
    }

    /// Ticks since `tick`; none if a program has just written a later one.
    pub fn age(&self, tick: u32) -> u32 {
        self.now.saturating_sub(tick)
    }

    /// Whether the flow was made long enough ago for both halves to be there.
    pub fn is_settled(&self, half: &ConntrackEntry) -> bool {
        self.age(half.created) >= SETTLED_TICKS
    }

    /// `false` proves, without a look at the other half, that this half does not end its
    /// flow. For a flow that has ended, it is `true` of one half at least.
    pub fn may_have_ended(&self, protocol: u8, half: &ConntrackEntry) -> bool {
        let fins = u32::from(half.is(ConntrackState::FIN));
        let alone = self.lifetime(Lifetime::of(protocol, half.state, fins));
        // The other half may have sent its FIN, too.
        let together = self.lifetime(Lifetime::of(protocol, half.state, fins * 2));
        self.age(half.last_seen) > alone.min(together)
    }

    /// How the flow has ended, if it has: neither half was seen for longer than the
    /// lifetime of what is known of both.
    pub fn ended(
        &self,
        protocol: u8,
        half: &ConntrackEntry,
        mate: Option<&ConntrackEntry>,
    ) -> Option<Lifetime> {
        let halves = || std::iter::once(half).chain(mate);
        let state = halves().fold(0, |union, half| union | half.state);
        let fins = halves().filter(|half| half.is(ConntrackState::FIN)).count();
        let class = Lifetime::of(protocol, state, fins as u32);
        let last_seen = halves().map(|half| half.last_seen).max()?;
        (self.age(last_seen) > self.lifetime(class)).then_some(class)
    }

    /// Ticks; 0 means that nobody has written lifetimes yet, and that nothing ends.
    fn lifetime(&self, class: Lifetime) -> u32 {
        match self.lifetimes[class as usize] {
            0 => u32::MAX,
            ticks => ticks,
        }
    }
}

/// Whether rule I1 is about flows of this protocol.
pub(super) const fn is_udp(protocol: u8) -> bool {
    protocol == Protocol::Udp as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conntrack::table::tests::half;

    const LIFETIMES: Lifetimes = [60, 86_400, 3600, 10, 30, 180];
    const TCP: u8 = Protocol::Tcp as u8;
    const UDP: u8 = Protocol::Udp as u8;
    const CLOCK: Clock = Clock {
        now: 1_000_000,
        lifetimes: LIFETIMES,
    };

    fn seen(age: u32, state: u32) -> ConntrackEntry {
        ConntrackEntry {
            last_seen: CLOCK.now - age,
            state,
            ..half()
        }
    }

    #[test]
    fn the_later_half_and_the_union_of_states_decide() {
        use ConntrackState as S;
        let proven = S::REPLIED | S::ESTABLISHED;
        let cases = [
            // Protocol, (age, state) twice, how it ended.
            (TCP, (61, 0), (61, 0), Some(Lifetime::HalfOpen)),
            (TCP, (60, 0), (61, 0), None),
            (TCP, (5000, proven), (5000, proven), None),
            (TCP, (5000, proven), (5000, 0), None),
            (
                TCP,
                (86_401, proven),
                (86_401, proven),
                Some(Lifetime::Established),
            ),
            (TCP, (86_401, proven), (1, proven), None),
            (TCP, (11, proven | S::FIN), (11, proven), None),
            (
                TCP,
                (3601, proven | S::FIN),
                (3601, proven),
                Some(Lifetime::CloseWait),
            ),
            (
                TCP,
                (11, proven | S::FIN),
                (11, proven | S::FIN),
                Some(Lifetime::Closed),
            ),
            (
                TCP,
                (11, proven),
                (11, proven | S::RST),
                Some(Lifetime::Closed),
            ),
            (UDP, (31, 0), (31, 0), Some(Lifetime::UdpNew)),
            (UDP, (31, S::REPLIED), (31, S::REPLIED), None),
            (
                UDP,
                (181, S::REPLIED),
                (181, S::REPLIED),
                Some(Lifetime::UdpStream),
            ),
        ];
        for (protocol, one, other, wanted) in cases {
            let (one, other) = (seen(one.0, one.1), seen(other.0, other.1));
            assert_eq!(CLOCK.ended(protocol, &one, Some(&other)), wanted);
            assert_eq!(CLOCK.ended(protocol, &other, Some(&one)), wanted);
        }
    }

    #[test]
    fn a_packet_of_the_next_tick_is_not_ancient() {
        let future = ConntrackEntry {
            last_seen: CLOCK.now + 1,
            ..half()
        };
        assert_eq!(CLOCK.ended(TCP, &future, None), None);
        assert!(!CLOCK.may_have_ended(TCP, &future));
    }

    proptest! {
        /// Any lifetimes, also those that make no sense.
        #[test]
        fn an_ended_flow_shows_in_one_of_its_halves(
            lifetimes in prop::array::uniform6(0u32..200),
            protocol in prop::sample::select(vec![6u8, 17, 132]),
            one in (0u32..400, 0u32..16),
            other in (0u32..400, 0u32..16),
        ) {
            let clock = Clock { lifetimes, ..CLOCK };
            let (one, other) = (seen(one.0, one.1), seen(other.0, other.1));
            if clock.ended(protocol, &one, Some(&other)).is_some() {
                prop_assert!(
                    clock.may_have_ended(protocol, &one)
                        || clock.may_have_ended(protocol, &other)
                );
            }
        }
    }
}
