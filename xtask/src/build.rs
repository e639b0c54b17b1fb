//! `cargo xtask build`: the BPF object, then the programs that embed it.

use anyhow::Result;

use crate::bpf;
use crate::exec;
use crate::exit::STEP;
use crate::setup::{self, Scope};
use crate::ui;
use crate::workspace::Workspace;

/// Build the BPF object and all programs into the target directory.
///
/// The object goes to <target>/bpf/lb.o; plain cargo commands find it there afterwards.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build the programs with optimisation, into <target>/release (the BPF object always is)
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let tools = setup::ensure(workspace, &[Scope::Build])?;
    bpf::build(workspace, &tools)?;
    programs(workspace, args.release)
}

/// Builds the workspace's programs for this machine.
pub(crate) fn programs(workspace: &Workspace, release: bool) -> Result<()> {
    let profile = if release { "release" } else { "debug" };
    let heading = ui::heading(&format!("programs ({profile})"));
    let mut cargo = workspace.cargo(&["build"]);
    cargo.args(["--workspace", "--exclude", "xtask", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    exec::visibly(&mut cargo, STEP, "building the programs")?;
    heading.done();
    Ok(())
}
