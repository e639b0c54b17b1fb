//! Finds halves without a mate in one pass, without a lookup for each.
//!
//! Every half that is scanned flips its flow's bit; both halves of a whole flow leave the
//! bit as it was. A bit that is set afterwards belongs to a flow that has lost a half (or
//! changed under the scan): the next run looks at the flows of these bits, and of these
//! bits only.

use lb_ebpf::{
    abi::ConntrackKey,
    hash::{Mixer, tuple_hash},
};

/// 128 KiB, whatever the number of flows: whole flows leave no trace, so only lost halves
/// compete for bits.
const WORDS: usize = 1 << 14;

/// One bit for many flows: whether an odd number of halves was seen.
#[derive(Debug)]
pub struct Parity {
    words: Vec<u64>,
    seed: u64,
}

impl Parity {
    /// No half was seen. Two flows share a bit for one seed and not for another.
    pub fn new(seed: u64) -> Self {
        Self {
            words: vec![0; WORDS],
            seed,
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A half of the flow with this initiator key was seen.
    pub fn flip(&mut self, initiator: &ConntrackKey) {
        let (word, bit) = self.place(initiator);
        self.words[word] ^= bit;
    }

    /// Whether an odd number of halves was seen.
    pub fn is_odd(&self, initiator: &ConntrackKey) -> bool {
        let (word, bit) = self.place(initiator);
        self.words[word] & bit != 0
    }

    fn place(&self, initiator: &ConntrackKey) -> (usize, u64) {
        let hash = Mixer::new(tuple_hash(initiator)).mix(self.seed).finish();
        ((hash >> 6) as usize % WORDS, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::table::tests::flow;

    #[test]
    fn only_flows_that_lost_a_half_are_odd() {
        let mut parity = Parity::new(7);
        for number in 0..10_000 {
            let [(key, _), _] = flow(number);
            parity.flip(&key);
            if number % 100 != 0 {
                parity.flip(&key);
            }
        }
        let odd = |number| parity.is_odd(&flow(number)[0].0);
        assert!((0..10_000).step_by(100).all(odd));
        let innocent = (0..10_000).filter(|n| n % 100 != 0 && odd(*n)).count();
        assert!(innocent < 20, "{innocent} whole flows are suspected");
    }
}
