//! `cargo xtask test`: set-up, build, lints, all tests, and one closing line.

mod variants;

use std::io::{BufRead, BufReader, Read, Write, stderr, stdout};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result};

use crate::exit::CHECK;
use crate::setup::{self, Scope};
use crate::summary::Summary;
use crate::workspace::Workspace;
use crate::{bpf, build, lint, ui};

/// Set up, build, lint and run all tests.
///
/// The last line on standard output is `N passed, N failed, N skipped`, over all test
/// programs and documentation tests; a failed lint, or a runner that fails without a failed
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
    let mut total = Summary::default();
    let done = run_all(workspace, args, &mut total);
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

fn run_all(workspace: &Workspace, args: &Args, total: &mut Summary) -> Result<()> {
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
        total.failed += 1;
    }
    let heading = ui::heading("tests");
    for mut runner in runners(workspace, args) {
        *total += observe(&mut runner, stdout(), stderr())?;
    }
    heading.done();
    if args.no_netns || args.no_variants || args.filter.is_some() {
        return Ok(());
    }
    for mut variant in variants::all(workspace)? {
        let heading = ui::heading(&format!("conformance suite: {}", variant.name));
        *total += observe(&mut variant.command, stdout(), stderr())?;
        heading.done();
    }
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

/// Runs a test runner, copies its output, and adds up the summaries in it. A runner that
/// fails although no test did (a test program that does not compile) is one failure.
fn observe(
    runner: &mut Command,
    to_out: impl Write + Send,
    to_err: impl Write + Send,
) -> Result<Summary> {
    let mut child = runner
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the test runner")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (sender, summaries) = channel();
    thread::scope(|scope| {
        let also = sender.clone();
        scope.spawn(move || out.map(|pipe| tee(pipe, to_out, &sender)));
        scope.spawn(move || err.map(|pipe| tee(pipe, to_err, &also)));
    });
    let mut total = Summary::default();
    for summary in summaries {
        total += summary;
    }
    let status = child.wait().context("cannot wait for the test runner")?;
    if !status.success() {
        total.failed = total.failed.max(1);
    }
    Ok(total)
}

/// Copies lines from `from` to `to` and reports the summaries among them.
fn tee(from: impl Read, mut to: impl Write, summaries: &Sender<Summary>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // A reader that has gone away must not stop the tests.
        let _ = to.write_all(&line);
        if let Some(summary) = Summary::parse(&String::from_utf8_lossy(&line)) {
            // The receiver outlives the threads.
            let _ = summaries.send(summary);
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::sink;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn summaries_of_both_streams_are_added() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored'; \
                      echo 'Summary [ 0.1s] 3 tests run: 3 passed, 0 skipped' >&2";
        let total = observe(&mut shell(script), sink(), sink()).expect("sh runs");
        assert_eq!(
            total,
            Summary {
                passed: 5,
                failed: 0,
                skipped: 1
            }
        );
    }

    #[test]
    fn runner_that_fails_without_a_failed_test_counts_as_failure() {
        let total = observe(&mut shell("exit 101"), sink(), sink()).expect("sh runs");
        assert_eq!(total.failed, 1);
    }
}
