//! `cargo xtask conformance`: set-up, a build, and then the conformance suite in our place.

use std::ffi::OsString;

use anyhow::Result;

use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exec};

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
    exec::in_our_place(workspace, "debug/lb-conformance", &args.pass_on)
}
