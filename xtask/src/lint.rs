//! `cargo xtask lint`: formatting, then clippy on both sides, warnings being errors, then
//! the ABI gate.

use std::process::Command;

use anyhow::Result;

use crate::exit::{self, CHECK};
use crate::setup::{self, BpfTools, Scope, components};
use crate::workspace::Workspace;
use crate::{abi, bpf, exec, ui};

/// Check formatting, run clippy on the host side and on the BPF program, and check that the
/// layout of the maps did not change without a new version.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record the layout of the maps under a new ABI_VERSION, and do nothing else
    #[arg(long)]
    bless_abi: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.bless_abi {
        return abi::check(workspace, true);
    }
    let tools = setup::ensure(workspace, &[Scope::Build])?;
    bpf::build(workspace, &tools)?;
    check(workspace, &tools)
}

/// All lints, also after one has failed; the BPF object must have been built.
pub(crate) fn check(workspace: &Workspace, tools: &BpfTools) -> Result<()> {
    let heading = ui::heading("lint");
    let missing = components::ensure_linters(workspace);
    if !missing.is_empty() {
        let names = missing.join(" ");
        return Err(exit::machine(format!(
            "linting needs {names}: run `rustup component add {names}`, or leave linting out \
             (`cargo xtask test --no-lint`)"
        )));
    }
    // `cargo fmt` knows no target directory, so it is not made by `Workspace::cargo`.
    let mut fmt = Command::new(&workspace.cargo);
    fmt.args(["fmt", "--all", "--check"])
        .current_dir(&workspace.root);
    let mut clippy = workspace.cargo(&["clippy"]);
    clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    let outcomes = [
        exec::visibly(&mut fmt, CHECK, "cargo fmt --all --check"),
        exec::visibly(&mut clippy, CHECK, "cargo clippy"),
        bpf_program(workspace, tools),
        abi::check(workspace, false),
    ];
    heading.done();
    let failed: Vec<String> = outcomes
        .into_iter()
        .filter_map(|outcome| Some(outcome.err()?.to_string()))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(exit::failure(CHECK, failed.join("; ")))
}

/// Clippy on the BPF program where its toolchain has one (Debian's has not); the build has
/// shown the compiler's own warnings already.
fn bpf_program(workspace: &Workspace, tools: &BpfTools) -> Result<()> {
    let driver = tools.toolchain.sysroot.join("bin/cargo-clippy");
    if !driver.is_file() {
        ui::warn("the BPF program is not linted: its rustc comes without clippy");
        return Ok(());
    }
    let mut clippy = bpf::command(workspace, tools, Some(&driver), "clippy", &bpf::Object::ALL);
    clippy.args(["--", "-D", "warnings"]);
    exec::visibly(&mut clippy, CHECK, "cargo clippy on the BPF program")
}
