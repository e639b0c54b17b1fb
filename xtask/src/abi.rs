//! The ABI gate: the layout of the maps may not change without a new version.
//!
//! `lb-ebpf/abi.lock` records version and layout as text, so that a change shows in
//! review; comments and names of modules do not trip it.

use std::fs;

use anyhow::{Context, Result};

use crate::exit::{self, CHECK};
use crate::workspace::Workspace;
use crate::{exec, ui};

const LOCK: &str = "lb-ebpf/abi.lock";

/// What follows from the recorded and the present ABI.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// They are the same.
    Same,
    /// Version and layout are new, or nothing is recorded yet: to be recorded.
    New,
    /// The layout differs under the same version; the lines that differ.
    Broken(Vec<String>),
}

fn compare(recorded: Option<&str>, present: &str) -> State {
    let Some(recorded) = recorded else {
        return State::New;
    };
    if recorded == present {
        return State::Same;
    }
    if recorded.lines().next() != present.lines().next() {
        return State::New;
    }
    let only = |sign: char, these: &str, those: &str| -> Vec<String> {
        let missing = these
            .lines()
            .filter(|line| !those.lines().any(|l| l == *line));
        missing.map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = only('-', recorded, present);
    lines.extend(only('+', present, recorded));
    State::Broken(lines)
}

/// Compares the ABI with `lb-ebpf/abi.lock`; with `bless`, records a new version.
///
/// # Errors
/// A layout that changed under the same version; one that is not recorded.
pub(crate) fn check(workspace: &Workspace, bless: bool) -> Result<()> {
    let mut dump = workspace.cargo(&["run"]);
    dump.args(["--quiet", "--package", "lb-ebpf", "--example", "abi"]);
    let present = exec::output(&mut dump)?;
    let path = workspace.root.join(LOCK);
    let recorded = fs::read_to_string(&path).ok();
    match compare(recorded.as_deref(), &present) {
        State::Same => {
            ui::ok(format!("{LOCK} is up to date"));
            Ok(())
        }
        State::New if bless => {
            fs::write(&path, present).with_context(|| format!("cannot write {LOCK}"))?;
            ui::ok(format!("{LOCK} is new"));
            Ok(())
        }
        State::New => Err(exit::failure(
            CHECK,
            format!("the ABI is not recorded: run `cargo xtask lint --bless-abi` ({LOCK})"),
        )),
        State::Broken(lines) => Err(exit::failure(
            CHECK,
            format!(
                "the layout of the maps changed, but ABI_VERSION did not: raise it in \
                 lb-ebpf/src/abi.rs, then run `cargo xtask lint --bless-abi`\n{}",
                lines.join("\n")
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "version 1\ntype A: size 4\n  0 a: u32\n";

    #[test]
    fn same_text_is_the_same_abi() {
        assert_eq!(compare(Some(OLD), OLD), State::Same);
    }

    #[test]
    fn changed_layout_under_the_same_version_is_broken() {
        let new = OLD.replace("u32", "i32");
        let lines = ["-   0 a: u32", "+   0 a: i32"].map(String::from).to_vec();
        assert_eq!(compare(Some(OLD), &new), State::Broken(lines));
    }

    #[test]
    fn moved_line_under_the_same_version_is_broken() {
        let new = "version 1\n  0 a: u32\ntype A: size 4\n";
        assert!(matches!(compare(Some(OLD), new), State::Broken(_)));
    }

    #[test]
    fn new_version_or_no_record_is_to_be_recorded() {
        let new = OLD.replace("version 1", "version 2");
        assert_eq!(compare(Some(OLD), &new), State::New);
        assert_eq!(compare(None, OLD), State::New);
    }
}
