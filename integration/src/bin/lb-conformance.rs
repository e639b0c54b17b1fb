//! `lb-conformance`: any service proxy through the conformance suite; see
//! `integration/CONFORMANCE.md`.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{self, Path},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use lb_integration::{
    conformance::{
        self, Case,
        options::{KindArgs, Options, Output, word},
        progress::Console,
        report::{Counts, Report, junit, list, not_covered, text},
        suite::run_all,
    },
    kind::{
        DryRun, Runner, System, commands,
        tools::{self, Missing},
        upstream,
    },
};

/// A case failed.
const CHECK: u8 = 1;
/// The suite could not be run.
const STEP: u8 = 3;
/// The machine lacks something.
const MISSING: u8 = 4;

fn main() -> ExitCode {
    let options = Options::parse();
    run(&options).unwrap_or_else(|error| {
        eprintln!("lb-conformance: {error:#}");
        let missing = error.downcast_ref::<Missing>().is_some();
        ExitCode::from(if missing { MISSING } else { STEP })
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
    let mut upstream = Vec::new();
    if options.kind.upstream && options.upstream_junit.is_none() {
        let Some(xml) = run_upstream(&options.kind)? else {
            return Ok(ExitCode::SUCCESS);
        };
        upstream = conformance::upstream::read(&xml)?;
    }
    if let Some(file) = &options.upstream_junit {
        let xml = fs::read_to_string(file);
        let xml = xml.with_context(|| format!("reading {}", file.display()))?;
        upstream = conformance::upstream::read(&xml)?;
    }
    let (results, families) = if options.kind.upstream {
        (Vec::new(), options.families)
    } else {
        let site = options.build_site().context("building the site")?;
        let console = Console::new(cases.len());
        let results = run_all(&cases, &selection, &site, options.jobs(), &console);
        // The cluster goes before anything is said, so that the closing line is the last.
        (results, site.families())
    };
    let report = Report {
        site: options.place(),
        families: word(&families),
        source: options.source(),
        proxy: options.proxy().to_owned(),
        started: started.to_string(),
        took: start.elapsed(),
        counts: Counts::default(),
        cases: Vec::new(),
        not_covered: not_covered(),
        upstream: Vec::new(),
    }
    .with_results(results)
    .with_upstream(upstream);
    deliver(&report, options)?;
    Ok(match report.counts.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(CHECK),
    })
}

/// Runs upstream's tests in the kind cluster; their JUnit file, if it was more than a dry run.
fn run_upstream(options: &KindArgs) -> Result<Option<String>> {
    let results = path::absolute(&options.results)?;
    let run = upstream::Run {
        image: &options.image,
        focus: options.focus.as_deref(),
        skip: &options.skip,
        results: &results,
    };
    let kubeconfig = commands::kubeconfig(&options.cluster, true);
    if options.dry_run {
        for invocation in [kubeconfig, run.invocation()] {
            DryRun.output(&invocation)?;
        }
        return Ok(None);
    }
    tools::check()?;
    let runner = System {
        logs: results.clone(),
    };
    let kubeconfig = runner.output(&kubeconfig)?;
    fs::create_dir_all(&results)?;
    write_secret(&results.join("kubeconfig"), &kubeconfig)?;
    let junit = results.join(upstream::JUNIT);
    // What an earlier run has left is not this one's.
    let _ = fs::remove_file(&junit);
    // Failed tests end it with an error; its report counts.
    let ended = runner.output(&run.invocation());
    match fs::read_to_string(&junit) {
        Ok(xml) => Ok(Some(xml)),
        Err(error) => {
            ended?;
            Err(error).context("the run has left no report")
        }
    }
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    Ok(file.write_all(text.as_bytes())?)
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
