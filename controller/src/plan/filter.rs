//! The bits that let packets of a frontend in: one of `FILTER`, or one of `NODE_PORTS`
//! for a NodePort; frontends that hash alike, and both families of a NodePort, share one.
//!
//! A frontend that is removed is *retired*: flows that began at it go on (rule C16), and
//! a program looks for a flow only where the bit is set. Whoever knows the flows says
//! when none is left; until then the bit stays.

use std::collections::HashMap;

use lb_ebpf::{
    abi::FrontendKey,
    hash::{filter_bit, node_port_bit},
};

use super::Batch;

/// Arrays of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bits {
    /// `FILTER`.
    Filter,
    /// `NODE_PORTS`.
    NodePorts,
}

/// A bit: its array and its number there.
type Bit = (Bits, u32);

/// A removed frontend whose bit is still set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The frontend, in the internal scope.
    pub key: FrontendKey,
    /// Number of this retirement: one that came back and went again has another.
    pub since: u64,
}

/// Counts the frontends behind each set bit, retired ones included.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    counts: HashMap<Bit, u32>,
    retired: HashMap<FrontendKey, u64>,
    retirements: u64,
}

/// `None` for a NodePort of a protocol that no Service has.
fn bit_of(key: &FrontendKey) -> Option<Bit> {
    let (bits, (word, mask)) = if key.addr.is_unspecified() {
        (
            Bits::NodePorts,
            node_port_bit(key.protocol, key.port.get())?,
        )
    } else {
        (Bits::Filter, filter_bit(key))
    };
    Some((bits, word * 64 + mask.trailing_zeros()))
}

/// Index of its word and mask of a bit.
fn place(number: u32) -> (u32, u64) {
    (number / 64, 1 << (number % 64))
}

impl Filter {
    /// A frontend appears.
    pub(crate) fn add(&mut self, key: &FrontendKey, batch: &mut Batch) {
        if self.retired.remove(key).is_some() {
            return;
        }
        let Some(bit) = bit_of(key) else { return };
        let count = self.counts.entry(bit).or_default();
        *count += 1;
        if *count == 1 {
            batch.set_bit(bit.0, place(bit.1));
        }
    }

    /// A frontend goes; its bit stays until [`Self::forget`].
    pub(crate) fn retire(&mut self, key: &FrontendKey) {
        self.retirements += 1;
        self.retired.insert(*key, self.retirements);
    }

    /// All that wait to be forgotten.
    pub(crate) fn retired(&self) -> impl Iterator<Item = Retired> + '_ {
        let retired = self.retired.iter();
        retired.map(|(key, since)| Retired {
            key: *key,
            since: *since,
        })
    }

    /// No flow needs the bit any more; it is cleared if no other frontend does.
    pub(crate) fn forget(&mut self, done: &Retired, batch: &mut Batch) {
        if self.retired.get(&done.key) != Some(&done.since) {
            return;
        }
        self.retired.remove(&done.key);
        let Some(bit) = bit_of(&done.key) else { return };
        let Some(count) = self.counts.get_mut(&bit) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&bit);
            batch.clear_bit(bit.0, place(bit.1));
        }
    }

    /// All words of an array that should not be zero.
    pub(crate) fn words(&self, bits: Bits) -> HashMap<u32, u64> {
        let mut words = HashMap::new();
        for (_, number) in self.counts.keys().filter(|(of, _)| *of == bits) {
            let (word, mask) = place(*number);
            *words.entry(word).or_default() |= mask;
        }
        words
    }
}
