//! `cargo xtask bench`: the criterion benchmarks, then the connect() harness.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::exit::CHECK;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exec, ui};

/// Run the benchmarks: criterion's, then connect() direct, through lb and through iptables.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed to criterion as they are: a filter, `--quick`, `--save-baseline NAME`, …
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pass_on: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let tools = setup::ensure(workspace, &[Scope::Bench])?;
    bpf::build(workspace, &tools)?;
    build::programs(workspace, true)?;
    let heading = ui::heading("criterion");
    let mut criterion = workspace.cargo(&["bench"]);
    criterion
        .args(["--package", "lb-bench", "--"])
        .args(&args.pass_on);
    exec::visibly(&mut criterion, CHECK, "cargo bench")?;
    heading.done();
    let harness = workspace.target.join("release/lb-connect-bench");
    if harness.is_file() {
        let heading = ui::heading("connect()");
        exec::visibly(&mut Command::new(&harness), CHECK, "lb-connect-bench")?;
        heading.done();
    }
    Ok(())
}
