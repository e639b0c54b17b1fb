//! The text that `iptables-restore --noflush` reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

/// The tables of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) filter: Table,
    pub(super) nat: Table,
}

/// Chains of our own with their rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    chains: BTreeMap<String, Vec<String>>,
}

impl Tables {
    pub(super) fn named(&self) -> [(&'static str, &Table); 2] {
        [("filter", &self.filter), ("nat", &self.nat)]
    }
}

impl Table {
    /// Makes the chain exist, without rules as yet.
    pub(super) fn declare(&mut self, chain: &str) {
        self.chains.entry(chain.to_owned()).or_default();
    }

    /// Appends a rule, as `iptables` takes it.
    pub(super) fn rule(&mut self, chain: &str, rule: &str) {
        let rules = self.chains.entry(chain.to_owned()).or_default();
        rules.push(rule.to_owned());
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.chains.keys().cloned().collect()
    }

    /// The transaction of this table: rules of all its chains are replaced, `jumps` added,
    /// and chains in `stale` removed.
    pub(super) fn write(&self, name: &str, jumps: &[String], stale: &BTreeSet<String>) -> String {
        let mut text = format!("*{name}\n");
        // Declaring a chain empties it.
        for chain in self.chains.keys().chain(stale) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for jump in jumps {
            let _ = writeln!(text, "{jump}");
        }
        for (chain, rules) in &self.chains {
            for rule in rules {
                let _ = writeln!(text, "-A {chain} {rule}");
            }
        }
        for chain in stale {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
        text
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, table) in self.named() {
            f.write_str(&table.write(name, &[], &BTreeSet::new()))?;
        }
        Ok(())
    }
}
