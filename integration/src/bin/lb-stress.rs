//! `lb-stress`: traffic that is meant to hurt, with figures; see `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lb_integration::stress::{Report, flood, limits, site::Path, soak, swaps};

/// Something did not hold.
const CHECK: u8 = 1;
/// A scenario could not be carried out.
const STEP: u8 = 3;

/// Drives a cluster of network namespaces with traffic that is meant to hurt, and prints
/// figures. Needs root; nothing outside the namespaces is touched.
#[derive(Parser)]
#[command(
    name = "lb-stress",
    version,
    after_help = "\
Exit codes:
  0  everything held
  1  something did not; the lines with BROKEN say what
  2  wrong usage
  3  a scenario could not be carried out"
)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Where packets from outside are handled; by default each scenario's own choice
    #[arg(long, value_enum, global = true)]
    path: Option<Path>,
    /// A few seconds of each scenario, whatever its own options say
    #[arg(long, global = true)]
    quick: bool,
    /// Print figures as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// Spoofed SYNs that backends answer, while established connections carry data
    Flood(flood::Options),
    /// New connections while the maps outgrow themselves
    Swaps(swaps::Options),
    /// New connections while endpoints come and go
    Soak(soak::Options),
    /// A full table, no source ports left, garbage collected all the time
    Limits,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("lb-stress: {error:#}");
        ExitCode::from(STEP)
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let paths = match (arguments.path, &arguments.scenario) {
        (Some(path), _) => vec![path],
        (None, Scenario::Flood(_)) => vec![Path::Tc, Path::XdpGeneric],
        (None, _) => vec![Path::XdpNative],
    };
    let mut held = true;
    for path in paths {
        for report in scenario(&arguments.scenario, path, arguments.quick)? {
            if arguments.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
            held &= report.broken().is_empty();
        }
    }
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CHECK)
    })
}

fn scenario(scenario: &Scenario, path: Path, quick: bool) -> Result<Vec<Report>> {
    let report = match scenario {
        Scenario::Flood(_) if quick => flood::run(path, flood::Options::QUICK)?,
        Scenario::Flood(options) => flood::run(path, *options)?,
        Scenario::Swaps(_) if quick => swaps::run(path, swaps::Options::QUICK)?,
        Scenario::Swaps(options) => swaps::run(path, *options)?,
        Scenario::Soak(_) if quick => soak::run(path, soak::Options::QUICK)?,
        Scenario::Soak(options) => soak::run(path, *options)?,
        Scenario::Limits => {
            return Ok(vec![
                limits::full_table(path)?,
                limits::no_ports(path)?,
                limits::short_lives(path)?,
            ]);
        }
    };
    Ok(vec![report])
}
