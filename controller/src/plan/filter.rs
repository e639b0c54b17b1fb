//! The frontend filter: a bit per frontend, shared by those that hash alike.

use std::collections::HashMap;

use lb_ebpf::{abi::FrontendKey, hash::filter_bit};

/// Counts the frontends behind each set bit.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    counts: HashMap<(u32, u64), u32>,
}

impl Filter {
    /// A frontend appears; the bit to set, if it was clear.
    pub(crate) fn add(&mut self, key: &FrontendKey) -> Option<(u32, u64)> {
        let bit = filter_bit(key);
        let count = self.counts.entry(bit).or_default();
        *count += 1;
        (*count == 1).then_some(bit)
    }

    /// A frontend goes; the bit to clear, if it was the last one behind it.
    pub(crate) fn remove(&mut self, key: &FrontendKey) -> Option<(u32, u64)> {
        let bit = filter_bit(key);
        let count = self.counts.get_mut(&bit)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove(&bit);
        Some(bit)
    }

    /// All words that should not be zero.
    pub(crate) fn words(&self) -> HashMap<u32, u64> {
        let mut words = HashMap::new();
        for (word, bit) in self.counts.keys() {
            *words.entry(*word).or_default() |= bit;
        }
        words
    }
}
