//! `cargo xtask setup`: installs what is missing, and nothing else.
//!
//! Input: the machine and a [`Scope`]. Output: [`BpfTools`] and one line per step. Running it
//! again changes nothing and takes well under a second.

pub(crate) mod apt;
pub(crate) mod components;
mod linker;
mod mounts;
mod packages;
pub(crate) mod rustc;
mod toolchain;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::toolchain::Toolchain;
use crate::ui;
use crate::workspace::Workspace;

/// Install what is missing: a rustc that can build for BPF, bpf-linker, system packages.
///
/// Needs root and Debian's apt-get for what is missing; without them it says what to install
/// by hand and ends with exit code 2. All other commands run the part they need themselves.
/// LB_BPF_RUSTC=/path/to/rustc chooses the compiler for the BPF object.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to make the machine ready for, besides building [default: all]
    #[arg(long = "for", value_name = "SCOPE")]
    scope: Option<Scope>,
}

/// What a machine is made ready for. The BPF build is part of every scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Scope {
    Build,
    Demo,
    Test,
    Bench,
}

impl Scope {
    /// Whether the scope runs our programs: that takes root, bpffs and cgroup v2.
    fn runs_programs(self) -> bool {
        self != Self::Build
    }
}

/// What the BPF object is built with; all paths absolute.
pub(crate) struct BpfTools {
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let scopes = match args.scope {
        Some(scope) => vec![scope],
        None => Scope::value_variants().to_vec(),
    };
    ensure(workspace, &scopes).map(drop)
}

/// Makes the machine ready for `scopes`.
pub(crate) fn ensure(workspace: &Workspace, scopes: &[Scope]) -> Result<BpfTools> {
    let heading = ui::heading("setup");
    let mut apt = apt::Apt::new(workspace);
    packages::ensure(&mut apt, scopes)?;
    let toolchain = toolchain::ensure(workspace, &mut apt)?;
    let linker = linker::ensure(workspace, &mut apt, toolchain.llvm)?;
    if scopes.iter().any(|scope| scope.runs_programs()) {
        mounts::ensure()?;
    }
    heading.done();
    Ok(BpfTools { toolchain, linker })
}
