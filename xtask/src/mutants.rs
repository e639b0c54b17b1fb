//! `cargo xtask mutants`: how much the tests notice.
//!
//! Two kinds of changes must make a test fail: mutants, which cargo-mutants makes of single
//! expressions, and faults, each of which takes one rule of the datapath away. What was found
//! is kept in `integration/mutants.md`, a section for each kind; runs replace their section.

mod faults;
mod pure;
mod report;
mod tool;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

/// Change the code and see whether a test fails; writes integration/mutants.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kind; by default the faults, then the desired state, then the datapath
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// A part of the mutants, such as 0/8
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Only mutants of these files (such as src/select.rs); may be repeated
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// Seconds after which a mutant's tests count as hanging
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
    /// Where cargo-mutants leaves its records, from which a report can be made again
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
    /// Run nothing: make the report of the records that are there
    #[arg(long)]
    report: bool,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Rules of the datapath, one at a time, in the host's build of it
    Faults,
    /// Expressions of the modules that decide what is programmed
    Desired,
    /// Expressions of the datapath
    LbEbpf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wanted = |kind| args.only.is_none_or(|only| only == kind);
    if wanted(Kind::Faults) {
        faults::run(workspace)?;
    }
    for kind in [Kind::Desired, Kind::LbEbpf] {
        if wanted(kind) {
            tool::run(workspace, kind, args)?;
        }
    }
    Ok(())
}
