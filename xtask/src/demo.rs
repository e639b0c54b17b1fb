//! `cargo xtask demo`: set-up, an optimised build, and then the demo in our place.

use std::ffi::OsString;

use anyhow::Result;

use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exec};

/// Show lb at work: a small cluster in network namespaces, live traffic, a backend killed.
///
/// Options after `demo` are the demo's own; `cargo xtask demo -- --help` lists them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed to the demo as they are (`--keep`, …)
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
    build::programs(workspace, true)?;
    exec::in_our_place(workspace, "release/lb-demo", &args.pass_on)
}
