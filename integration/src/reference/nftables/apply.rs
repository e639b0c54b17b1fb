//! Bringing the kernel's tables in step, one transaction a family.

use anyhow::{Context, Result};
use lb_controller::{desired::DesiredService, model::Family};
use serde_json::Value;

use super::{table::Table, word};
use crate::{netns::tool, reference::NodeFacts};

/// What was applied to one family, so that the next transaction can remove what is stale.
#[derive(Debug)]
pub struct Applied {
    family: Family,
    table: Option<Table>,
}

// === impl Applied ===

impl Applied {
    /// Nothing is known of `family` yet.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            table: None,
        }
    }

    /// Makes the kernel's rules those for `services`.
    pub fn apply(&mut self, services: &[DesiredService], facts: &NodeFacts) -> Result<()> {
        let table = super::table(services, facts, self.family);
        if self.table.as_ref() == Some(&table) {
            return Ok(());
        }
        let text = match &self.table {
            Some(before) => table.transaction(before),
            None => table.transaction(&existing(self.family)?),
        };
        nft(&text)?;
        self.table = Some(table);
        Ok(())
    }
}

/// Removes both tables.
pub fn cleanup() -> Result<()> {
    for family in Family::ALL {
        let table = format!("{} kube-proxy", word(family));
        // Adding what exists is no error, deleting what does not is one.
        nft(&format!("add table {table}\ndelete table {table}\n"))?;
    }
    Ok(())
}

/// Names of what an earlier run left.
fn existing(family: Family) -> Result<Table> {
    let mut table = Table::empty(family);
    let ip = word(family);
    let add = format!("add table {ip} kube-proxy\n");
    nft(&add)?;
    let listed = tool::run("nft", &["-j", "list", "table", ip, "kube-proxy"], "")?;
    let listed: Value = serde_json::from_str(&listed).context("what `nft -j list` printed")?;
    let objects = listed["nftables"].as_array();
    for object in objects.into_iter().flatten() {
        for kind in ["chain", "set", "map"] {
            if let Some(name) = object[kind]["name"].as_str() {
                table.found(kind, name);
            }
        }
    }
    Ok(table)
}

fn nft(text: &str) -> Result<()> {
    tool::run("nft", &["-f", "-"], text)
        .map(drop)
        .with_context(|| format!("in this transaction:\n{text}"))
}
