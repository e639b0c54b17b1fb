//! `lb-demo`: Services at work in a small cluster of network namespaces; see `cargo xtask demo`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use lb_integration::demo::{self, MachineError, Xdp, interrupt};

/// An expectation did not hold.
const CHECK: u8 = 1;
/// The machine lacks something; the message says what.
const MACHINE: u8 = 2;
/// A step could not be carried out.
const STEP: u8 = 3;

/// The repository's, which this program was built in.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/demo");

/// Shows lb at work: two nodes, Services from Kubernetes YAML, live traffic from pods and from
/// outside, a backend killed, the controller killed. Takes half a minute and leaves nothing behind.
#[derive(Parser)]
#[command(
    name = "lb-demo",
    version,
    about,
    after_help = "\
Exit codes:
  0    everything was as expected
  1    an expectation did not hold; the line with ✗ says which
  2    the machine lacks something, or wrong usage; the message says what
  3    a step could not be carried out
  130  interrupted"
)]
struct Arguments {
    /// Leave the cluster up at the end and print how to play with it.
    #[arg(long)]
    keep: bool,
    /// Remove the clusters that --keep has left up, and do nothing else.
    #[arg(long, conflicts_with = "keep")]
    teardown: bool,
    /// Where packets from outside are taken.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Xdp::Generic)]
    xdp: Xdp,
    /// The objects to load [default: manifests/demo of the repository].
    #[arg(long, value_name = "DIR", default_value = MANIFESTS, hide_default_value = true)]
    manifests: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(arguments).unwrap_or_else(|error| {
        eprintln!("lb-demo: {error:#}");
        ExitCode::from(if error.is::<MachineError>() {
            MACHINE
        } else {
            STEP
        })
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.teardown {
        let removed = demo::keep::teardown()?;
        println!("removed {} kept cluster(s)", removed.len());
        return Ok(ExitCode::SUCCESS);
    }
    if !interrupt::is_child() {
        demo::check()?;
        return interrupt::supervise();
    }
    interrupt::prepare_child()?;
    let as_expected = demo::run(&demo::Options {
        manifests: arguments.manifests,
        xdp: arguments.xdp,
        keep: arguments.keep,
    })?;
    Ok(if as_expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CHECK)
    })
}
