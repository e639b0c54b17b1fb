//! `cargo xtask conformance`: set-up, a build, and then the conformance suite in our place.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;

use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exit};

/// Run a service proxy, ours or another, through the conformance suite.
///
/// Options after `conformance` are the suite's own; `cargo xtask conformance -- --help` lists
/// them, and integration/CONFORMANCE.md explains them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed to the suite as they are (`--focus`, …)
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pass_on: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let tools = setup::ensure(workspace, &[Scope::Demo])?;
    bpf::build(workspace, &tools)?;
    build::programs(workspace, false)?;
    let suite = workspace.target.join("debug/lb-conformance");
    // It takes over this process, so the terminal's signals and its exit code are its own.
    let error = Command::new(&suite).args(&args.pass_on).exec();
    Err(exit::failure(
        exit::STEP,
        format!("cannot start {}: {error}", workspace.show(&suite)),
    ))
}
