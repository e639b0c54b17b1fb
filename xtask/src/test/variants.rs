//! The conformance suite again, where `cargo test` does not take it: one address family, objects
//! from an API server, and the reference proxy, which shows that the suite asks nothing that only
//! ours could answer.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// How many cases run at once: they wait more than they work.
const JOBS: &str = "4";

/// A run of the suite.
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) command: Command,
}

/// All of them; their programs must have been built.
pub(super) fn all(workspace: &Workspace) -> Result<Vec<Variant>> {
    let ours = [
        (
            "IPv4, from an API server",
            vec!["--families", "v4", "--source", "api"],
        ),
        ("IPv6", vec!["--families", "v6"]),
    ];
    let mut variants: Vec<_> = ours
        .into_iter()
        .map(|(name, arguments)| {
            let mut command = suite(workspace);
            command.args(arguments);
            let name = name.to_owned();
            Variant { name, command }
        })
        .collect();
    for mode in ["iptables", "nftables"] {
        variants.push(reference(workspace, mode)?);
    }
    Ok(variants)
}

fn suite(workspace: &Workspace) -> Command {
    let mut command = Command::new(workspace.target.join("debug/lb-conformance"));
    command.args(["--jobs", JOBS]);
    command
}

/// The reference proxy says itself which rules it lacks.
fn reference(workspace: &Workspace, mode: &str) -> Result<Variant> {
    let proxy = workspace.target.join("debug/lb-reference-proxy");
    let asked = Command::new(&proxy)
        .args(["lacks", "--mode", mode])
        .output()
        .with_context(|| format!("cannot ask {} what it lacks", proxy.display()))?;
    ensure!(
        asked.status.success(),
        "{} lacks: {}",
        proxy.display(),
        asked.status
    );
    let lacks = String::from_utf8(asked.stdout).context("what the reference proxy lacks")?;
    let rules: Vec<&str> = lacks
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let mut command = suite(workspace);
    let run = format!(
        "exec {} run --mode {mode} --source-files {{files}} --node-name {{node}}",
        proxy.display()
    );
    command.args(["--proxy-command", &run]);
    if !rules.is_empty() {
        command.args(["--proxy-lacks", &rules.join(",")]);
    }
    Ok(Variant {
        name: format!("the reference proxy, {mode}"),
        command,
    })
}
