//! Lists of device names: globs, and globs with `!` that exclude.

use std::{convert::Infallible, str::FromStr};

use wildmatch::WildMatch;

/// A list of patterns. Empty, or of exclusions alone, leaves the others to automatic choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patterns {
    included: Vec<WildMatch>,
    excluded: Vec<WildMatch>,
}

/// What a list says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is chosen.
    Included,
    /// It is excluded by name.
    Excluded,
    /// Others are chosen by name.
    Unlisted,
    /// Nothing is said of it.
    Automatic,
}

impl Patterns {
    pub(super) fn verdict(&self, name: &str) -> Verdict {
        let any = |patterns: &[WildMatch]| patterns.iter().any(|pattern| pattern.matches(name));
        if any(&self.excluded) {
            Verdict::Excluded
        } else if any(&self.included) {
            Verdict::Included
        } else if self.included.is_empty() {
            Verdict::Automatic
        } else {
            Verdict::Unlisted
        }
    }
}

impl FromStr for Patterns {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let mut patterns = Self::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word.strip_prefix('!') {
                Some(name) => patterns.excluded.push(WildMatch::new(name)),
                None => patterns.included.push(WildMatch::new(word)),
            }
        }
        Ok(patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_included_excluded_or_left_to_choice() {
        let rows = [
            ("", "eth0", Verdict::Automatic),
            ("eth0", "eth0", Verdict::Included),
            ("eth0", "eth1", Verdict::Unlisted),
            ("eth*, bond0", "bond0", Verdict::Included),
            ("eth*,!eth9", "eth9", Verdict::Excluded),
            ("!eth9", "eth9", Verdict::Excluded),
            ("!eth9", "eth0", Verdict::Automatic),
            ("en?s0", "en5s0", Verdict::Included),
        ];
        for (list, name, verdict) in rows {
            let patterns: Patterns = list.parse().unwrap();
            assert_eq!(patterns.verdict(name), verdict, "{list:?} on {name}");
        }
    }
}
