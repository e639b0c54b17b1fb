//! `cargo xtask test`: set-up, build, lints, all tests, and one closing line.

mod observe;
mod variants;

use std::io::{stderr, stdout};
use std::process::Command;

use anyhow::Result;

use self::observe::{Observed, observe};

use crate::exit::CHECK;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, lint, ui};

/// Set up, build, lint and run all tests.
///
/// At the end, what failed tests said is told again. The last line on standard output is
/// `N passed, N failed, N skipped`, over all test programs and documentation tests; a failed lint, or a runner that fails without a failed
/// test, counts as one failure. Most tests of the cluster and the kernel need root; without
/// it, use --no-netns.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag leaves out a part of its own"
)]
pub(crate) struct Args {
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Leave out what needs root: the cluster tests (package lb-integration) and all tests
    /// with `netns` in their path
    #[arg(long)]
    no_netns: bool,
    /// Leave out the conformance suite with one address family, with objects from an API
    /// server, and through the reference proxy; --filter leaves them out, too
    #[arg(long)]
    no_variants: bool,
    /// Leave out formatting and clippy
    #[arg(long)]
    no_lint: bool,
    /// Run with cargo-nextest (a process per test) instead of cargo test
    #[arg(long)]
    nextest: bool,
    /// Passed to the test programs as they are, such as `--test-threads 1`
    #[arg(last = true, value_name = "ARGS")]
    pass_on: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut all = Observed::default();
    let done = run_all(workspace, args, &mut all);
    // A failure may be an hour of output ago.
    for failure in &all.failures {
        println!("\n{failure}");
    }
    let mut total = all.total;
    if let Err(error) = &done {
        ui::error(&format!("{error:#}"));
        total.failed = total.failed.max(1);
    }
    println!("{total}");
    match done {
        Ok(()) if total.failed == 0 => Ok(()),
        // Nothing may follow the closing line, not even an error message.
        Ok(()) => std::process::exit(CHECK.into()),
        Err(error) => std::process::exit(crate::exit::code(&error).into()),
    }
}

fn run_all(workspace: &Workspace, args: &Args, all: &mut Observed) -> Result<()> {
    let scope = if args.no_netns {
        Scope::Build
    } else {
        Scope::Test
    };
    let tools = setup::ensure(workspace, &[scope])?;
    bpf::build(workspace, &tools)?;
    build::programs(workspace, false)?;
    if !args.no_lint
        && let Err(error) = lint::check(workspace, &tools)
    {
        // The tests still run: who broke a lint wants to know about both.
        ui::error(&format!("{error:#}"));
        all.total.failed += 1;
    }
    for runner in runners(workspace, args) {
        part("tests", runner, all)?;
    }
    if args.no_netns || args.no_variants || args.filter.is_some() {
        return Ok(());
    }
    for variant in variants::all(workspace)? {
        let title = format!("conformance suite: {}", variant.name);
        part(&title, variant.command, all)?;
    }
    Ok(())
}

/// Runs one runner; what fails in it is told again at the end, under its title.
fn part(title: &str, mut runner: Command, all: &mut Observed) -> Result<()> {
    let heading = ui::heading(title);
    let observed = observe(&mut runner, stdout(), stderr())?;
    all.total += observed.total;
    let named = |failure| format!("== {title}\n{failure}");
    all.failures
        .extend(observed.failures.into_iter().map(named));
    heading.done();
    Ok(())
}

/// The commands that run the tests.
fn runners(workspace: &Workspace, args: &Args) -> Vec<Command> {
    let mut pass_on: Vec<&str> = args.pass_on.iter().map(String::as_str).collect();
    if args.no_netns {
        pass_on.extend(["--skip", "netns"]);
    }
    let colour = if ui::colour() { "always" } else { "never" };
    let cargo = |verb: &[&str]| {
        let mut command = workspace.cargo(verb);
        command.args(["--workspace", "--no-fail-fast", "--color", colour]);
        if args.no_netns {
            command.args(["--exclude", "lb-integration"]);
        }
        command.args(&args.filter).arg("--").args(&pass_on);
        command
    };
    if args.nextest {
        // nextest does not run documentation tests.
        return vec![cargo(&["nextest", "run"]), cargo(&["test", "--doc"])];
    }
    vec![cargo(&["test"])]
}
