//! `lb-conformance`: any service proxy through the conformance suite; see
//! `integration/CONFORMANCE.md`.

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use lb_integration::conformance::{
    self, Case,
    options::{Options, Output, word},
    progress::Console,
    report::{Counts, Report, junit, list, not_covered, text},
    suite::run_all,
};

/// A case failed.
const CHECK: u8 = 1;
/// The suite could not be run.
const STEP: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    run(&options).unwrap_or_else(|error| {
        eprintln!("lb-conformance: {error:#}");
        ExitCode::from(STEP)
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let cases: Vec<&Case> = conformance::all().collect();
    let selection = options.selection();
    if options.list {
        let listed = list::write(&cases, &selection)?;
        io::stdout().write_all(listed.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let (started, start) = (jiff::Timestamp::now(), Instant::now());
    let site = options.build_site().context("building the site")?;
    let console = Console::new(cases.len());
    let results = run_all(&cases, &selection, &site, options.jobs(), &console);
    let report = Report {
        site: site.name().to_owned(),
        families: word(&site.families()),
        source: options.source(),
        proxy: options.proxy().to_owned(),
        started: started.to_string(),
        took: start.elapsed(),
        counts: Counts::default(),
        cases: Vec::new(),
        not_covered: not_covered(),
    }
    .with_results(results);
    // The cluster goes before anything is said, so that the closing line is the last.
    drop(site);
    deliver(&report, options)?;
    Ok(match report.counts.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(CHECK),
    })
}

/// Writes the report to where it was asked for.
fn deliver(report: &Report, options: &Options) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    if let Some(file) = &options.report_json {
        fs::write(file, &json).with_context(|| format!("writing {}", file.display()))?;
    }
    if let Some(file) = &options.report_junit {
        let xml = junit::write(report)?;
        fs::write(file, xml).with_context(|| format!("writing {}", file.display()))?;
    }
    let mut stdout = io::stdout().lock();
    match options.output {
        Output::Json => {
            writeln!(stdout, "{json}")?;
            eprintln!("{}", report.counts);
        }
        Output::Text => {
            write!(stdout, "{}", text::write(report, options.verbose)?)?;
            writeln!(stdout, "\n{}", report.counts)?;
        }
    }
    Ok(())
}
