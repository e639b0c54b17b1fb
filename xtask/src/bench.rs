//! `cargo xtask bench`: criterion's benchmarks, the controller at scale, connect(), packets,
//! and on request what is meant to hurt.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::exit::CHECK;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, build, exec, ui};

/// Run the benchmarks; bench/README.md says what each figure means.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this one
    #[arg(value_enum)]
    only: Option<Benchmark>,
    /// Smaller clusters and fewer repetitions: a minute instead of ten
    #[arg(long)]
    quick: bool,
    /// Passed to the benchmarks as they are: a filter for criterion, `-o json`, …
    #[arg(last = true, value_name = "ARGS")]
    pass_on: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Maglev tables, desired state and plans, without a kernel
    Criterion,
    /// Time and memory of lb-controller with thousands of Services (needs root)
    Scale,
    /// TCP and UDP through lb, through kube-proxy's rules and direct (needs root)
    Connect,
    /// Nanoseconds a packet in the XDP program, beside floors (needs root)
    Packets,
    /// A SYN flood around connections that carry data (needs root; only on request)
    Flood,
    /// New connections while maps are swapped for larger ones (needs root; only on request)
    Swaps,
    /// Ten minutes of connections while endpoints change (needs root; only on request)
    Soak,
    /// Full tables, exhausted ports, short lifetimes (needs root; only on request)
    Limits,
}

impl Benchmark {
    /// The scenario of `lb-stress` that it is, if it is one.
    fn scenario(self) -> Option<&'static str> {
        match self {
            Self::Flood => Some("flood"),
            Self::Swaps => Some("swaps"),
            Self::Soak => Some("soak"),
            Self::Limits => Some("limits"),
            Self::Criterion | Self::Scale | Self::Connect | Self::Packets => None,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let tools = setup::ensure(workspace, &[Scope::Bench])?;
    bpf::build(workspace, &tools)?;
    let wanted = |which| args.only.is_none_or(|only| only == which);
    if wanted(Benchmark::Criterion) {
        criterion(workspace, args)?;
    }
    let programs = [
        (Benchmark::Scale, "lb-scale"),
        (Benchmark::Connect, "lb-connect-bench"),
        (Benchmark::Packets, "lb-packet-bench"),
    ];
    if programs.iter().any(|(which, _)| wanted(*which)) {
        build::programs(workspace, true)?;
    }
    if wanted(Benchmark::Packets) {
        bpf::build_one(workspace, &tools, bpf::Object::Floors)?;
    }
    for (which, program) in programs {
        if wanted(which) {
            // Arguments are meant for one benchmark: another would not know them.
            let pass_on = if args.only.is_some() {
                &args.pass_on[..]
            } else {
                &[]
            };
            measure(workspace, args, program, None, pass_on)?;
        }
    }
    if let Some(scenario) = args.only.and_then(Benchmark::scenario) {
        build::programs(workspace, true)?;
        measure(workspace, args, "lb-stress", Some(scenario), &args.pass_on)?;
    }
    Ok(())
}

/// Runs an optimised program of ours.
fn measure(
    workspace: &Workspace,
    args: &Args,
    program: &str,
    scenario: Option<&str>,
    pass_on: &[OsString],
) -> Result<()> {
    let heading = ui::heading(scenario.unwrap_or(program));
    let mut command = Command::new(workspace.target.join("release").join(program));
    command.args(scenario);
    command.args(args.quick.then_some("--quick"));
    command.args(pass_on);
    exec::visibly(&mut command, CHECK, program)?;
    heading.done();
    Ok(())
}

fn criterion(workspace: &Workspace, args: &Args) -> Result<()> {
    let heading = ui::heading("criterion");
    let mut cargo = workspace.cargo(&["bench"]);
    cargo
        .args(["--package", "lb-bench", "--benches", "--"])
        .args(args.quick.then_some("--quick"))
        .args(&args.pass_on);
    exec::visibly(&mut cargo, CHECK, "cargo bench")?;
    heading.done();
    Ok(())
}
