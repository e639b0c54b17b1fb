//! `cargo xtask mutants`: how much the tests notice.
//!
//! Two kinds of changes must make a test fail: mutants, changes of single expressions that
//! cargo-mutants lists, and faults, each of which takes one rule of the datapath away. What was
//! found is kept in `integration/mutants.md`, a section for each kind.
//!
//! Mutants: a [`package`] of copies, the [`list`] of its mutants, [`build`] of one program with
//! [`switches`] for all of them, [`runner`] for each, [`records`] and their [`summary`].

mod build;
mod datapath;
mod faults;
mod list;
mod package;
mod pure;
mod records;
mod report;
mod run;
mod runner;
mod summary;
mod switches;
mod tool;

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

/// Change the code and see whether a test fails; writes integration/mutants.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kind; by default the faults, then the controller's modules, then the datapath
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// A part of the mutants, such as 0/8; what other parts found is kept
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Only mutants of files whose path contains this (such as select.rs); may be repeated
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// Only mutants that are not known to be caught, nor not to compile
    #[arg(long)]
    again: bool,
    /// Seconds after which a mutant's tests count as hanging
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    /// Test programs at the same time; by default one a CPU
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
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
    /// Expressions of the modules before and after: objects to the model, changes of maps
    Control,
    /// Expressions of the datapath
    LbEbpf,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let valid = parsed.filter(|(k, n): &(usize, usize)| k < n);
    valid.ok_or_else(|| "not a part such as 0/8".to_owned())
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wanted = |kind| args.only.is_none_or(|only| only == kind);
    if wanted(Kind::Faults) {
        faults::run(workspace)?;
    }
    let mut failures = Vec::new();
    for kind in [Kind::Desired, Kind::Control, Kind::LbEbpf] {
        if wanted(kind) {
            failures.extend(run::run(workspace, kind, args)?);
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let message = format!("missed without a reason:\n{}", failures.join("\n"));
    Err(crate::exit::failure(crate::exit::CHECK, message))
}
