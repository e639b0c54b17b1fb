//! cargo-mutants: found or built, run, and its records read.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Args, Kind, pure, report};
use crate::{exec, exit::STEP, ui, workspace::Workspace};

const VERSION: &str = "27.1.0";
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// What cargo-mutants knows of each outcome: its file, and the word for it.
const OUTCOMES: [(&str, &str); 4] = [
    ("caught.txt", "caught"),
    ("missed.txt", "missed"),
    ("timeout.txt", "timed out"),
    ("unviable.txt", "do not compile"),
];

pub(super) fn run(workspace: &Workspace, kind: Kind, args: &Args) -> Result<()> {
    let name = match kind {
        Kind::Faults => return Ok(()),
        Kind::Desired => "desired",
        Kind::LbEbpf => "lb-ebpf",
    };
    let heading = ui::heading(name);
    let records = match &args.records {
        Some(dir) => dir.clone(),
        None => workspace.target.join("mutants").join(name),
    };
    if !args.report {
        let mut cargo = command(workspace, kind, args)?;
        cargo.arg("--output").arg(&records);
        tests_of(&mut cargo, kind);
        mutate(&mut cargo)?;
    }
    let text = summary(&records.join("mutants.out"), args)?;
    report::replace(workspace, name, &text)?;
    heading.done();
    Ok(())
}

/// cargo-mutants on the right package, without the tests to run.
fn command(workspace: &Workspace, kind: Kind, args: &Args) -> Result<Command> {
    let tool = ensure(workspace)?;
    let mut cargo = Command::new(tool);
    cargo
        .arg("mutants")
        .args(["--jobs", "1", "--colors", "never", "--caught", "--unviable"])
        .args(["--exclude", "**/tests.rs", "--exclude", "**/tests/**"])
        .args(["--timeout", &args.timeout.to_string()])
        // The first build of a copy compiles everything.
        .args(["--build-timeout", "1200"])
        .env("CARGO", &workspace.cargo)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    if let Some(shard) = &args.shard {
        cargo.args(["--shard", shard]);
    }
    let files: &[&str] = match kind {
        Kind::Faults | Kind::Desired => {
            let dir = pure::make(workspace)?;
            // The copy lies in a directory that git ignores.
            cargo.current_dir(dir).arg("--gitignore=false");
            &["src/desired.rs", "src/desired/*.rs"]
        }
        Kind::LbEbpf => {
            cargo.current_dir(&workspace.root);
            cargo.args(["--package", "lb-ebpf", "--exclude", "lb-ebpf/src/bin/**"]);
            // Rows of packets notice most, and belong to another package, which the run without
            // any mutant leaves out.
            cargo.args(["--baseline", "skip"]);
            cargo.args(["--test-package", "lb-ebpf,lb-integration"]);
            &[]
        }
    };
    let chosen = args.file.iter().map(String::as_str);
    let chosen: Vec<&str> = if args.file.is_empty() {
        files.to_vec()
    } else {
        chosen.collect()
    };
    for file in chosen {
        cargo.args(["--file", file]);
    }
    Ok(cargo)
}

/// Adds what the tests are, which must come last.
fn tests_of(cargo: &mut Command, kind: Kind) {
    match kind {
        Kind::Faults | Kind::Desired => cargo.args(["--", "--lib"]),
        // Named for the build, too: the package has many more.
        Kind::LbEbpf => cargo
            .args(["--cargo-arg=--test=datapath", "--cargo-arg=--test=packets"])
            .args(["--", "--", "--skip", "kernel", "--skip", "timed"]),
    };
}

/// Mutants that no test notices are no failure of the run: the report lists them.
fn mutate(cargo: &mut Command) -> Result<()> {
    const MISSED: i32 = 2;
    const TIMED_OUT: i32 = 3;
    let status = cargo.status().context("cannot start cargo-mutants")?;
    match status.code() {
        Some(0 | MISSED | TIMED_OUT) => Ok(()),
        _ => Err(crate::exit::failure(
            STEP,
            format!("cargo mutants failed ({status})"),
        )),
    }
}

/// Counts, and the mutants that nothing notices.
fn summary(records: &Path, args: &Args) -> Result<String> {
    let mut lines = Vec::new();
    for (file, _) in OUTCOMES {
        let path = records.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("no record {}", path.display()))?;
        lines.push(text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    let mut out = String::new();
    let total: usize = lines.iter().map(Vec::len).sum();
    let part = args
        .shard
        .as_ref()
        .map_or_else(String::new, |shard| format!(" (part {shard})"));
    let _ = write!(out, "{total} mutants{part}");
    for ((_, word), lines) in OUTCOMES.iter().zip(&lines) {
        let _ = write!(out, ", {} {word}", lines.len());
    }
    out.push_str(".\n");
    for mutant in lines.get(1).into_iter().flatten() {
        let _ = write!(out, "\n- `{mutant}`");
    }
    out.push('\n');
    Ok(out)
}

fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.tools().join("bin/cargo-mutants");
    if path.is_file() {
        return Ok(path);
    }
    let mut cargo = Command::new(&workspace.cargo);
    cargo
        .args([
            "install",
            "cargo-mutants",
            "--version",
            VERSION,
            "--locked",
            "--debug",
        ])
        .arg("--root")
        .arg(workspace.tools())
        .current_dir("/");
    let log = workspace.logs().join("cargo-mutants.log");
    exec::logged(
        &mut cargo,
        &format!("cargo-mutants {VERSION}"),
        &log,
        BUILD_LIMIT,
    )?;
    Ok(path)
}
