//! Faults: the tests of the datapath once for each rule that is taken away.

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::report;
use crate::{
    exit::{CHECK, failure},
    ui,
    workspace::Workspace,
};

/// Test programs, from the quick to the slow: the feature to build each with and the tests
/// to run.
const PROGRAMS: [(&[&str], &str, &[&str]); 2] = [
    (
        &["--package", "lb-integration", "--test", "packets"],
        "lb-ebpf/faults",
        &["rows_hold_in_the_host_pipeline"],
    ),
    (
        &["--package", "lb-ebpf", "--test", "datapath"],
        "faults",
        &[],
    ),
];

/// Names of tests in a report that are enough.
const NAMED: usize = 3;

/// A fault: its name and the rule that it breaks.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    name: String,
    breaks: String,
}

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let heading = ui::heading("faults");
    let source = workspace.root.join("lb-ebpf/src/fault.rs");
    let text = fs::read_to_string(&source).context("the list of faults")?;
    let faults = listed(&text);
    ensure!(!faults.is_empty(), "no fault in {}", source.display());
    let clean = killers(workspace, None)?;
    ensure!(
        clean.is_empty(),
        "fails without any fault: {}",
        clean.join(", ")
    );
    let mut table = String::from("| fault | what goes wrong | noticed by |\n|---|---|---|\n");
    let mut survivors = Vec::new();
    for fault in &faults {
        let killers = killers(workspace, Some(&fault.name))?;
        let by = match killers.as_slice() {
            [] => "**nothing**".to_owned(),
            some => shortened(some),
        };
        ui::ok(format!("{}: {by}", fault.name));
        let _ = writeln!(table, "| `{}` | {} | {by} |", fault.name, fault.breaks);
        if killers.is_empty() {
            survivors.push(fault.name.as_str());
        }
    }
    let summary = format!(
        "{} faults, {} noticed.\n\n",
        faults.len(),
        faults.len() - survivors.len()
    );
    report::replace(workspace, "faults", &(summary + &table))?;
    heading.done();
    if survivors.is_empty() {
        return Ok(());
    }
    let message = format!("no test notices {}", survivors.join(", "));
    Err(failure(CHECK, message))
}

/// The faults in the source of the list: documentation lines, each group followed by a name.
fn listed(text: &str) -> Vec<Fault> {
    let list = text.lines().skip_while(|line| *line != "faults! {").skip(1);
    let mut breaks = String::new();
    let mut faults = Vec::new();
    for line in list.take_while(|line| *line != "}").map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            breaks += doc;
        } else if let Some(name) = line.strip_suffix(',') {
            faults.push(Fault {
                name: name.to_owned(),
                breaks: std::mem::take(&mut breaks).trim().to_owned(),
            });
        }
    }
    faults
}

/// Tests and rows that fail with a fault, of the first program in which any does.
fn killers(workspace: &Workspace, fault: Option<&str>) -> Result<Vec<String>> {
    for (program, feature, tests) in PROGRAMS {
        let mut cargo = workspace.cargo(&["test", "--quiet", "--no-fail-fast"]);
        cargo
            .args(program)
            .args(["--features", feature, "--"])
            .args(tests);
        // Proptest would keep the cases that it finds.
        cargo.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        cargo.env("RUST_BACKTRACE", "0");
        if let Some(fault) = fault {
            cargo.env("LB_FAULT", fault);
        }
        let (passed, output) = output(&mut cargo)?;
        let mut found = failed(&output);
        if !passed && found.is_empty() {
            found.push("a test program that ends early".to_owned());
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn output(command: &mut Command) -> Result<(bool, String)> {
    let program = command.get_program().display().to_string();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(!text.contains("error: could not compile"), "{text}");
    Ok((out.status.success(), text))
}

/// Rows, where a test says which cases of which rows fail; else tests.
fn failed(output: &str) -> Vec<String> {
    let mut rows: Vec<&str> = Vec::new();
    let mut tests: Vec<&str> = Vec::new();
    for line in output.lines() {
        if let Some((row, _)) = line.split_once(" (").filter(|(_, rest)| is_case(rest)) {
            rows.push(row);
        }
        if let Some(test) = line
            .strip_prefix("---- ")
            .and_then(|l| l.strip_suffix(" stdout ----"))
        {
            tests.push(test);
        }
    }
    let mut found = if rows.is_empty() { tests } else { rows };
    found.dedup();
    found.into_iter().map(str::to_owned).collect()
}

/// What follows a row's name: hook, family, protocol.
fn is_case(rest: &str) -> bool {
    let case = rest.split(')').next().unwrap_or("");
    let parts: Vec<&str> = case.split(", ").collect();
    parts.len() == 3 && matches!(parts[1], "V4" | "V6")
}

fn shortened(killers: &[String]) -> String {
    let named = killers.iter().take(NAMED).map(|name| format!("`{name}`"));
    let named = named.collect::<Vec<_>>().join(", ");
    match killers.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_off_their_list() {
        let text = "x! { no }\nfaults! {\n    /// Rule A1: one\n    /// two.\n    First,\n    /// B.\n    Second,\n}\n/// Not\nThis,\n";
        let fault = |name: &str, breaks: &str| Fault {
            name: name.into(),
            breaks: breaks.into(),
        };
        assert_eq!(
            listed(text),
            [fault("First", "Rule A1: one two."), fault("Second", "B.")]
        );
    }

    #[test]
    fn rows_are_named_before_the_test_that_holds_them() {
        let output = "---- rows_hold stdout ----\n2 cases fail:\n\
                      a row (Xdp, V4, Tcp): step 1\nanother (Egress, V6, Udp): step 2: x (y)\n";
        assert_eq!(failed(output), ["a row", "another"]);
        assert_eq!(
            failed("---- some::test stdout ----\nx (y)\n"),
            ["some::test"]
        );
        assert_eq!(failed("test result: ok\n"), [""; 0]);
    }
}
