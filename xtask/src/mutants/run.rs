//! One package: its mutants listed, built, run and reported.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Args, Kind,
    build::{self, Built},
    list::Mutant,
    package,
    records::{Outcome, Records},
    report,
    runner::{self, Limits},
    summary, tool,
};
use crate::{ui, workspace::Workspace};

/// Reasons of what is missed, written by hand.
const REASONS: &str = "integration/mutants-reasons.md";

/// Name of the section, what its files are below, and which files.
fn about(kind: Kind) -> (&'static str, &'static str, &'static [&'static str]) {
    match kind {
        Kind::Faults | Kind::Desired => (
            "desired",
            "controller/",
            &["src/desired.rs", "src/desired/*.rs"],
        ),
        Kind::Control => (
            "control",
            "controller/",
            &[
                "src/convert.rs",
                "src/convert/*.rs",
                "src/store.rs",
                "src/store/*.rs",
                "src/plan.rs",
                "src/plan/*.rs",
            ],
        ),
        Kind::LbEbpf => (
            "lb-ebpf",
            "lb-ebpf/",
            // Rows are tests; faults are constants without their feature.
            &["!src/packets.rs", "!src/packets/**", "!src/fault.rs"],
        ),
    }
}

/// Names of missed mutants without a reason.
pub(super) fn run(workspace: &Workspace, kind: Kind, args: &Args) -> Result<Vec<String>> {
    let (name, root, files) = about(kind);
    let heading = ui::heading(name);
    let dir = package::make(workspace, kind, &format!("{name}-one"))?;
    let mutants = tool::mutants(workspace, &dir, files)?;
    let path = workspace.target.join("mutants").join(format!("{name}.txt"));
    let mut records = Records::read(&path)?;
    if !args.report {
        let started = Instant::now();
        try_all(workspace, kind, args, &mutants, &mut records, (name, &dir))?;
        ui::ok(format!("took {}", ui::seconds(started.elapsed())));
    }
    let outcomes: Vec<_> = mutants
        .iter()
        .map(|mutant| (mutant, records.get(&mutant.key)))
        .collect();
    let reasons = fs::read_to_string(workspace.root.join(REASONS)).context(REASONS)?;
    let summary = summary::section(root, &outcomes, &summary::reasons(&reasons));
    report::replace(workspace, name, &summary.text)?;
    if summary.open > 0 {
        ui::warn(format!(
            "{} mutants of {name} have not been run",
            summary.open
        ));
    }
    heading.done();
    Ok(summary.unexplained)
}

/// Whether the run is to try mutant `number`.
fn chosen(args: &Args, number: u32, mutant: &Mutant, known: Option<Outcome>) -> bool {
    let in_shard = |(k, n): (usize, usize)| number as usize % n == k;
    let settled = matches!(known, Some(Outcome::Caught | Outcome::Unviable));
    args.shard.is_none_or(in_shard)
        && (args.file.is_empty() || args.file.iter().any(|file| mutant.file.contains(file)))
        && !(args.again && settled)
}

fn try_all(
    workspace: &Workspace,
    kind: Kind,
    args: &Args,
    mutants: &[Mutant],
    records: &mut Records,
    (name, one): (&str, &Path),
) -> Result<()> {
    let limits = Limits {
        timeout: Duration::from_secs(args.timeout),
        jobs: args
            .jobs
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
    };
    let numbered = || (1..).zip(mutants);
    let wanted: BTreeSet<u32> = numbered()
        .filter(|(number, mutant)| chosen(args, *number, mutant, records.get(&mutant.key)))
        .map(|(number, _)| number)
        .collect();
    let cargo = |dir: &Path| cargo(workspace, dir);
    let dir = package::make(workspace, kind, &format!("{name}-all"))?;
    let mut known = Built::default();
    for (number, mutant) in numbered() {
        // What is not asked for is left out, which is quicker to build.
        let outcome = records.get(&mutant.key);
        if !wanted.contains(&number) || outcome == Some(Outcome::Unviable) {
            known.unviable.insert(number);
        } else if outcome == Some(Outcome::Alone) {
            known.alone.insert(number);
        }
    }
    let built = build::build(&dir, cargo, mutants, known)?;
    let of = |number: u32| &mutants[number as usize - 1];
    for number in built.unviable.intersection(&wanted) {
        records.set(&of(*number).key, Outcome::Unviable);
    }
    for number in built.alone.intersection(&wanted) {
        records.set(&of(*number).key, Outcome::Alone);
    }
    records.write()?;
    let apart = |number: &u32| built.unviable.contains(number) || built.alone.contains(number);
    let together: Vec<u32> = wanted.iter().copied().filter(|n| !apart(n)).collect();
    ui::ok(format!(
        "{} mutants in one program, {} alone",
        together.len(),
        built.alone.intersection(&wanted).count()
    ));
    let shared = Mutex::new(records);
    let said = |number: u32, outcome: Outcome| {
        if matches!(outcome, Outcome::Missed | Outcome::TimedOut) {
            let mutant = of(number);
            let (file, line, what) = (&mutant.file, mutant.line, &mutant.what);
            ui::ok(format!("{outcome:?}: {file}:{line}: {what}"));
        }
        if let Ok(mut records) = shared.lock() {
            records.set(&of(number).key, outcome);
        }
    };
    // A copy: another build of the same package would replace it under our feet.
    let program = dir.join("tests");
    fs::copy(&built.program, &program).context("cannot copy the tests")?;
    runner::all(&program, &together, limits, &said)?;
    if let Ok(records) = shared.lock() {
        records.write()?;
    }
    for number in built.alone.intersection(&wanted) {
        said(
            *number,
            runner::alone(one, cargo, of(*number), limits.timeout)?,
        );
        if let Ok(records) = shared.lock() {
            records.write()?;
        }
    }
    Ok(())
}

/// The unit tests of a package: all that it has.
fn cargo(workspace: &Workspace, dir: &Path) -> Command {
    let mut cargo = Command::new(&workspace.cargo);
    cargo
        .args(["test", "--quiet", "--lib"])
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", workspace.target.join("mutants/target"));
    cargo
}
