//! `cargo xtask kernels`: other kernels, booted in QEMU's software emulation.
//!
//! Each guest loads every program, serves traffic through the controller, and runs packet rows
//! and cases of the conformance suite. What came of it is kept in `integration/KERNELS.md`.
//!
//! [`packages`] fetches a kernel, [`image`] makes its first root, [`guest`] boots it, and
//! [`console`] reads what it says.

mod console;
mod cpio;
mod guest;
mod image;
mod modules;
mod packages;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use self::console::{Report, Verdict};
use self::packages::{KERNELS, Kernel};
use crate::exit::{self, CHECK, STEP};
use crate::setup::apt::Apt;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exec, ui};

/// What the verb runs, and the packages it comes from.
const NEEDED: [(&str, &str); 5] = [
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/share/seabios/bios-256k.bin", "seabios"),
    ("/bin/busybox", "busybox-static"),
    ("/sbin/depmod", "kmod"),
    ("/usr/bin/xz", "xz-utils"),
];

/// Boot other kernels in QEMU and see that everything works there.
///
/// Needs no virtualisation and no root but for installing QEMU; kernels are fetched from the Debian mirrors that apt
/// knows here. integration/KERNELS.md has what was found.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these series, such as 6.1,6.12
    #[arg(long, value_name = "SERIES", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds that a guest may take
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    limit: u64,
    /// Cases of the conformance suite that guests run, as its --focus; may be a list
    #[arg(long, value_name = "REGEX", value_delimiter = ',')]
    focus: Vec<String>,
    /// Look for newer kernels of each series
    #[arg(long)]
    update: bool,
}

/// What came of one kernel.
struct Outcome {
    kernel: &'static Kernel,
    report: Report,
    took: Duration,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wanted = wanted(&args.only)?;
    let tools = setup::ensure(workspace, &[Scope::Demo, Scope::Test])?;
    let needed = NEEDED.map(|(file, package)| (package.to_owned(), PathBuf::from(file)));
    Apt::new(workspace).install_missing(&needed, "QEMU and what guests are made of")?;
    bpf::build(workspace, &tools)?;
    build::programs(workspace, false)?;
    let packets = packets(workspace)?;
    let mut outcomes = Vec::new();
    for kernel in wanted {
        let heading = ui::heading(&format!("Linux {}", kernel.series));
        outcomes.push(try_kernel(workspace, kernel, &packets, args)?);
        heading.done();
    }
    print!("{}", table(&outcomes));
    let bad = outcomes
        .iter()
        .filter(|outcome| outcome.kernel.required && !outcome.report.is_good());
    let bad: Vec<&str> = bad.map(|outcome| outcome.kernel.series).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let message = format!("not everything works on Linux {}", bad.join(", "));
    Err(exit::failure(CHECK, message))
}

fn wanted(only: &[String]) -> Result<Vec<&'static Kernel>> {
    if let Some(unknown) = only
        .iter()
        .find(|series| KERNELS.iter().all(|kernel| kernel.series != **series))
    {
        let known = KERNELS.map(|kernel| kernel.series).join(", ");
        let message = format!("no kernel {unknown}: there are {known}");
        return Err(exit::failure(exit::USAGE, message));
    }
    let is_wanted =
        |kernel: &&Kernel| only.is_empty() || only.iter().any(|series| series == kernel.series);
    Ok(KERNELS.iter().filter(is_wanted).collect())
}

fn try_kernel(
    workspace: &Workspace,
    kernel: &'static Kernel,
    packets: &std::path::Path,
    args: &Args,
) -> Result<Outcome> {
    let unpacked = packages::fetch(workspace, kernel, args.update)?;
    ui::ok(format!("{}, of {}", unpacked.release, kernel.suite()));
    let directory = workspace.target.join("kernels");
    let root = directory.join("root.cpio");
    image::write(workspace, &unpacked, packets, &root)?;
    let log = directory.join(format!("console-{}.log", kernel.series));
    let focus = match args.focus.as_slice() {
        [] => String::new(),
        focus => format!("lb.focus={}", focus.join(",")),
    };
    let limit = Duration::from_secs(args.limit);
    let (report, took) = guest::boot(workspace, (&unpacked.image, &root), &focus, &log, limit)?;
    show(&report);
    Ok(Outcome {
        kernel,
        report,
        took,
    })
}

/// Builds the test program of the packet rows; its path.
fn packets(workspace: &Workspace) -> Result<PathBuf> {
    let heading = ui::heading("packet rows");
    let mut cargo = workspace.cargo(&["test"]);
    cargo
        .args(["--package", "lb-integration", "--test", "packets"])
        .args(["--no-run", "--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit());
    let messages = exec::output(&mut cargo)
        .map_err(|error| exit::failure(STEP, format!("building the packet rows: {error:#}")))?;
    let path = executable(&messages).context("cargo built no test program")?;
    heading.done();
    Ok(path)
}

/// The test program in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == "packets");
    let path = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from))?;
    Some(path)
}

/// What went wrong, and what this kernel cannot do.
fn show(report: &Report) {
    for program in report.programs.iter().filter(|program| !program.loaded) {
        ui::warn(format!("the kernel refuses {}", program.name));
    }
    for check in &report.checks {
        let line = match check.words.as_str() {
            "" => check.name.clone(),
            words => format!("{}: {words}", check.name),
        };
        match check.verdict {
            Verdict::Passed => ui::ok(line),
            Verdict::Failed => ui::warn(format!("failed: {line}")),
        }
    }
    for degradation in &report.degradations {
        ui::ok(format!("degraded: {degradation}"));
    }
    if !report.complete {
        ui::warn("the guest did not come to its end");
    }
}

/// A line for each kernel, in Markdown.
fn table(outcomes: &[Outcome]) -> String {
    const HEAD: &str = "\
| kernel | programs loaded | most instructions walked | checks passed | failed | degradations | took |
|---|---|---|---|---|---|---|
";
    outcomes
        .iter()
        .map(row)
        .fold(HEAD.to_owned(), |mut table, row| {
            table += &row;
            table
        })
}

fn row(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let name = match report.release.as_str() {
        "" => outcome.kernel.series,
        release => release,
    };
    let most = report.programs.iter().map(|program| program.verified).max();
    let most = most.filter(|most| *most > 0);
    let most = most.map_or_else(|| "not told".to_owned(), |most| most.to_string());
    format!(
        "| {name} | {} of {} | {most} | {} | {}{} | {} | {} |\n",
        report.loaded(),
        report.programs.len(),
        report.count(Verdict::Passed),
        report.count(Verdict::Failed),
        if report.complete { "" } else { ", unfinished" },
        report.degradations.len(),
        ui::seconds(outcome.took),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_series() {
        let series = |only: &[&str]| -> Option<Vec<&str>> {
            let only: Vec<String> = only.iter().map(ToString::to_string).collect();
            let wanted = wanted(&only).ok()?;
            Some(wanted.iter().map(|kernel| kernel.series).collect())
        };
        assert_eq!(series(&["6.12", "6.1"]), Some(vec!["6.1", "6.12"]));
        assert_eq!(series(&[]).map(|all| all.len()), Some(KERNELS.len()));
        assert_eq!(series(&["6.1", "2.4"]), None);
    }

    #[test]
    fn the_test_program_is_found_in_cargos_messages() {
        let messages = "\
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"lb-ebpf\"},\"executable\":null}
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"packets\"},\"executable\":\"/t/debug/deps/packets-1\"}
{\"reason\":\"build-finished\",\"success\":true}
";
        assert_eq!(
            executable(messages),
            Some(PathBuf::from("/t/debug/deps/packets-1"))
        );
        assert_eq!(executable(""), None);
    }

    #[test]
    fn the_table_has_a_line_for_each_kernel() {
        let report =
            "lb: kernel 6.1.0-50\nlb: program a loaded 1.0 42\nlb: pass b\nlb: fail c: d\n";
        let outcomes = [Outcome {
            kernel: &KERNELS[1],
            report: Report::parse(report),
            took: Duration::from_secs(60),
        }];
        let table = table(&outcomes);
        let last = table.lines().last();
        assert_eq!(
            last,
            Some("| 6.1.0-50 | 1 of 1 | 42 | 1 | 1, unfinished | 0 | 60 s |")
        );
    }
}
