//! Bringing the kernel's tables in step, one transaction a table and family.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lb_controller::{desired::DesiredService, model::Family};

use super::tables::Tables;
use crate::{netns::tool, reference::NodeFacts};

/// Where packets enter our chains: table, chain, match, target. In each chain, the first comes
/// first.
const JUMPS: [(&str, &str, &str, &str); 14] = [
    ("filter", "INPUT", NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "INPUT", "", "KUBE-NODEPORTS"),
    ("filter", "INPUT", NEW, "KUBE-EXTERNAL-SERVICES"),
    ("filter", "INPUT", "", "KUBE-FIREWALL"),
    ("filter", "FORWARD", NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", "", "KUBE-FORWARD"),
    ("filter", "FORWARD", NEW, "KUBE-SERVICES"),
    ("filter", "FORWARD", NEW, "KUBE-EXTERNAL-SERVICES"),
    ("filter", "OUTPUT", NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "OUTPUT", NEW, "KUBE-SERVICES"),
    ("filter", "OUTPUT", "", "KUBE-FIREWALL"),
    ("nat", "PREROUTING", "", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "", "KUBE-POSTROUTING"),
];
const NEW: &str = "-m conntrack --ctstate NEW ";

/// What was applied to one family, so that the next transaction can remove what is stale.
#[derive(Debug)]
pub struct Applied {
    family: Family,
    tables: Option<Tables>,
    /// Chains of ours in the kernel, by table.
    chains: [BTreeSet<String>; 2],
}

// === impl Applied ===

impl Applied {
    /// Nothing is known of `family` yet.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            tables: None,
            chains: Default::default(),
        }
    }

    /// Makes the kernel's rules those for `services`.
    pub fn apply(&mut self, services: &[DesiredService], facts: &NodeFacts) -> Result<()> {
        let tables = super::tables(services, facts, self.family);
        if self.tables.as_ref() == Some(&tables) {
            return Ok(());
        }
        let mut jumps = [Vec::new(), Vec::new()];
        if self.tables.is_none() {
            for (index, table) in ["filter", "nat"].into_iter().enumerate() {
                let saved = save(self.family, table)?;
                self.chains[index] = chains_in(&saved);
                jumps[index] = missing_jumps(table, &saved);
            }
        }
        let mut text = String::new();
        let known = self.chains.iter().zip(&jumps);
        for ((name, table), (known, jumps)) in tables.named().into_iter().zip(known) {
            let stale = known.difference(&table.names()).cloned().collect();
            text.push_str(&table.write(name, jumps, &stale));
        }
        restore(self.family, &text)?;
        self.chains = [tables.filter.names(), tables.nat.names()];
        self.tables = Some(tables);
        Ok(())
    }
}

/// What `iptables-restore --noflush` (or `ip6tables-restore`) reads in a namespace without
/// rules: everything, with the ways into it.
pub fn script(services: &[DesiredService], facts: &NodeFacts, family: Family) -> String {
    let tables = super::tables(services, facts, family);
    let texts = tables.named().map(|(name, table)| {
        let jumps = missing_jumps(name, "");
        table.write(name, &jumps, &BTreeSet::new())
    });
    texts.concat()
}

/// Removes every jump and chain of ours.
pub fn cleanup() -> Result<()> {
    for family in Family::ALL {
        let mut text = String::new();
        for table in ["filter", "nat"] {
            let saved = save(family, table)?;
            text.push_str(&removal(table, &saved));
        }
        restore(family, &text)?;
    }
    Ok(())
}

/// `-I` puts a rule first, so the last of a chain goes in first.
fn missing_jumps(table: &str, saved: &str) -> Vec<String> {
    let of_table = JUMPS.iter().filter(|jump| jump.0 == table).rev();
    of_table
        .filter(|(_, chain, _, target)| !jumps_in(saved).any(|jump| jump == (*chain, *target)))
        .map(|(_, chain, matching, target)| format!("-I {chain} {matching}-j {target}"))
        .collect()
}

fn removal(table: &str, saved: &str) -> String {
    let ours = |target: &str| JUMPS.iter().any(|jump| jump.3 == target);
    let chains = chains_in(saved);
    let declared = chains.iter().map(|chain| format!(":{chain} - [0:0]"));
    let jumps = saved.lines().filter_map(|line| {
        let (chain, target) = jump_of(line)?;
        let outside = !chains.contains(chain) && ours(target);
        outside.then(|| line.replacen("-A ", "-D ", 1))
    });
    let removed = chains.iter().map(|chain| format!("-X {chain}"));
    let lines: Vec<String> = jumps.chain(declared).chain(removed).collect();
    format!("*{table}\n{}\nCOMMIT\n", lines.join("\n"))
}

/// Names of our chains in what `iptables-save` printed.
fn chains_in(saved: &str) -> BTreeSet<String> {
    let declared = saved.lines().filter_map(|line| line.strip_prefix(':'));
    let names = declared.filter_map(|line| line.split(' ').next());
    names
        .filter(|name| {
            let fixed = JUMPS.iter().any(|jump| jump.3 == *name) || *name == "KUBE-MARK-MASQ";
            let prefixes = [
                "KUBE-SVC-",
                "KUBE-SVL-",
                "KUBE-SEP-",
                "KUBE-EXT-",
                "KUBE-FW-",
            ];
            fixed || prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
        .map(str::to_owned)
        .collect()
}

fn jumps_in(saved: &str) -> impl Iterator<Item = (&str, &str)> {
    saved.lines().filter_map(jump_of)
}

/// Chain and target of a rule that `iptables-save` printed.
fn jump_of(line: &str) -> Option<(&str, &str)> {
    let rule = line.strip_prefix("-A ")?;
    Some((rule.split(' ').next()?, rule.rsplit_once("-j ")?.1))
}

fn save(family: Family, table: &str) -> Result<String> {
    tool::run(&program(family, "save"), &["-t", table], "")
}

fn restore(family: Family, text: &str) -> Result<()> {
    let program = program(family, "restore");
    tool::run(&program, &["--noflush"], text)
        .map(drop)
        .with_context(|| format!("in this transaction:\n{text}"))
}

fn program(family: Family, verb: &str) -> String {
    match family {
        Family::V4 => format!("iptables-{verb}"),
        Family::V6 => format!("ip6tables-{verb}"),
    }
}
