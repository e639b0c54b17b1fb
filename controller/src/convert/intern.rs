//! Shared strings: a zone or port name is stored once, however many records name it.
#![forbid(unsafe_code)]

use std::{collections::HashSet, sync::Arc};

/// Hands out one `Arc<str>` per distinct text.
///
/// Strings that no record holds any more are dropped from time to time, so the size
/// follows what is in use, not what ever was.
#[derive(Debug, Default)]
pub struct Interner {
    strings: HashSet<Arc<str>>,
    /// Size at which to look for unused strings next.
    sweep_at: usize,
}

/// No sweep below this size.
const SMALL: usize = 4096;

impl Interner {
    /// The shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        if self.strings.len() >= self.sweep_at.max(SMALL) {
            self.strings.retain(|string| Arc::strong_count(string) > 1);
            self.sweep_at = self.strings.len() * 2;
        }
        let new: Arc<str> = text.into();
        self.strings.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_allocation() {
        let mut interner = Interner::default();
        let first = interner.intern("zone-a");
        assert!(Arc::ptr_eq(&first, &interner.intern("zone-a")));
        assert!(!Arc::ptr_eq(&first, &interner.intern("zone-b")));
    }

    #[test]
    fn strings_nobody_holds_are_dropped() {
        let mut interner = Interner::default();
        let kept = interner.intern("kept");
        for number in 0..10 * SMALL {
            interner.intern(&number.to_string());
        }
        assert!(interner.strings.len() <= SMALL);
        assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
    }

    /// A sweep looks at all strings: one for each new string would make a large cluster slow.
    #[test]
    fn sweeps_are_rare_however_many_strings_are_held() {
        let mut interner = Interner::default();
        let mut held = Vec::new();
        let mut sweeps = 0;
        for number in 0..4 * SMALL {
            let before = interner.strings.len();
            held.push(interner.intern(&format!("held-{number}")));
            interner.intern(&format!("dropped-{number}"));
            sweeps += u32::from(interner.strings.len() < before + 2);
            assert!(sweeps < 10, "after {number} strings");
        }
        assert!(interner.strings.len() <= 2 * held.len() + SMALL);
    }
}
