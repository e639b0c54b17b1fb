//! A table as data, and the transaction that makes the kernel's one like it.

use std::{collections::BTreeMap, fmt::Write as _};

use lb_controller::model::Family;

use super::word;

/// One of the two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: Family,
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Hook and priority of a base chain.
    hook: Option<String>,
    rules: Vec<String>,
}

/// A set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    /// `set` or `map`.
    kind: &'static str,
    declaration: String,
    /// Key and, in a map, verdict. Of two Services that claim one key the first has it.
    elements: BTreeMap<String, Option<String>>,
    /// Rules fill it: its contents outlive transactions.
    dynamic: bool,
}

// === impl Table ===

impl Table {
    pub(super) fn empty(family: Family) -> Self {
        Self {
            family,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        }
    }

    pub(super) fn base_chain(&mut self, name: &str, hook: &str) {
        self.chains.entry(name.to_owned()).or_default().hook = Some(hook.to_owned());
    }

    pub(super) fn chain(&mut self, name: &str) {
        self.chains.entry(name.to_owned()).or_default();
    }

    pub(super) fn rule(&mut self, chain: &str, rule: impl Into<String>) {
        let chain = self.chains.entry(chain.to_owned()).or_default();
        chain.rules.push(rule.into());
    }

    pub(super) fn set(&mut self, kind: &'static str, name: &str, declaration: &str) {
        let set = Set {
            kind,
            declaration: declaration.to_owned(),
            elements: BTreeMap::new(),
            dynamic: false,
        };
        self.sets.insert(name.to_owned(), set);
    }

    /// A set that rules fill.
    pub(super) fn dynamic_set(&mut self, name: &str, declaration: &str) {
        self.set("set", name, declaration);
        if let Some(set) = self.sets.get_mut(name) {
            set.dynamic = true;
        }
    }

    pub(super) fn element(&mut self, set: &str, key: String, verdict: Option<String>) {
        if let Some(set) = self.sets.get_mut(set) {
            set.elements.entry(key).or_insert(verdict);
        }
    }

    /// Records what the kernel has of an earlier run.
    pub(super) fn found(&mut self, kind: &str, name: &str) {
        match kind {
            "chain" => self.chain(name),
            "set" => self.set("set", name, ""),
            "map" => self.set("map", name, ""),
            _ => {}
        }
    }

    /// Makes the kernel's table, which is like `before`, like this one: one transaction.
    ///
    /// Rules and elements are written anew, so order does not matter; dynamic sets that stay
    /// keep what they hold.
    pub(super) fn transaction(&self, before: &Self) -> String {
        let table = format!("{} kube-proxy", word(self.family));
        let mut text = format!("add table {table}\n");
        for (name, chain) in &self.chains {
            let hook = chain.hook.as_deref().unwrap_or_default();
            let _ = writeln!(text, "add chain {table} {name} {hook}");
        }
        for (name, set) in &self.sets {
            let (kind, declaration) = (set.kind, &set.declaration);
            let _ = writeln!(text, "add {kind} {table} {name} {{ {declaration}; }}");
        }
        let _ = writeln!(text, "flush table {table}");
        for (name, set) in self.sets.iter().filter(|(_, set)| !set.dynamic) {
            let _ = writeln!(text, "flush {} {table} {name}", set.kind);
        }
        for (name, chain) in &self.chains {
            for rule in &chain.rules {
                let _ = writeln!(text, "add rule {table} {name} {rule}");
            }
        }
        for (name, set) in self.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
            let _ = writeln!(text, "add element {table} {name} {{");
            for (key, verdict) in &set.elements {
                let verdict = verdict.as_ref().map(|verdict| format!(" : {verdict}"));
                let _ = writeln!(text, "  {key}{},", verdict.unwrap_or_default());
            }
            text.push_str("}\n");
        }
        self.remove_stale(before, &table, &mut text);
        text
    }

    /// Maps no longer lead to stale chains, and rules no longer to stale sets.
    fn remove_stale(&self, before: &Self, table: &str, text: &mut String) {
        for (name, set) in &before.sets {
            if !self.sets.contains_key(name) {
                let _ = writeln!(text, "delete {} {table} {name}", set.kind);
            }
        }
        let stale = || {
            let chains = before.chains.keys();
            chains.filter(|name| !self.chains.contains_key(*name))
        };
        for name in stale() {
            let _ = writeln!(text, "delete chain {table} {name}");
        }
    }
}
