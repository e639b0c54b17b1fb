//! `lb-kind`: a kind cluster with lb in place of kube-proxy, and tests against it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lb_integration::{
    cluster::Families,
    conformance::{self, Outcome, Site},
    kind::{
        DryRun, KindCluster, KindSite, Runner, System,
        cluster::Options,
        commands, tools,
        upstream::{self, RowResult},
    },
};

/// A test failed.
const CHECK: u8 = 1;
/// A step could not be carried out.
const STEP: u8 = 3;
const USAGE: u8 = 64;

/// Makes a kind cluster with lb in place of kube-proxy, and runs tests against it. Needs kind,
/// kubectl and docker with an engine; the images come from `cargo xtask image --output`.
#[derive(Parser)]
#[command(
    name = "lb-kind",
    version,
    after_help = "\
Exit codes:
  0   done, everything held
  1   a test failed
  2   the machine lacks something; the message says what
  3   a step failed
  64  wrong usage"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Name of the kind cluster
    #[arg(long, default_value = "lb", global = true)]
    name: String,
    /// Address families of the cluster
    #[arg(long, value_enum, default_value_t, global = true)]
    families: Families,
    /// Archive with both images
    #[arg(long, default_value = "target/image.tar", global = true)]
    archive: PathBuf,
    /// Print the commands instead of running them
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Create the cluster, load the images, apply the manifests, wait until lb is ready.
    Up {
        /// Image of the nodes [default: kind's]
        #[arg(long)]
        node_image: Option<String>,
        /// Kustomization of lb
        #[arg(long, default_value = "manifests")]
        manifests: PathBuf,
    },
    /// Run the cases of the conformance suite, one after another, in real pods.
    Run {
        /// Only cases whose name contains this
        filter: Option<String>,
        /// Image of the pods
        #[arg(long, default_value = concat!("lb-conformance-agent:", env!("CARGO_PKG_VERSION")))]
        image: String,
    },
    /// Run Kubernetes' own tests of our rows (its conformance image), and say what came of each.
    Upstream {
        /// The image
        #[arg(long, default_value = upstream::IMAGE)]
        image: String,
        /// Which tests, as an expression for Ginkgo [default: all rows]
        #[arg(long)]
        focus: Option<String>,
        /// Which of them not
        #[arg(long, default_value = upstream::SKIP)]
        skip: String,
        /// Directory for its results
        #[arg(long, default_value = "target/upstream")]
        results: PathBuf,
        /// Run nothing, and read this JUnit file
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Delete the cluster.
    Down,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe while printing help is not worth a message.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let reads_only = matches!(&arguments.verb, Verb::Upstream { junit: Some(_), .. });
    if !arguments.dry_run
        && !reads_only
        && let Err(missing) = tools::check()
    {
        eprintln!("lb-kind: {missing}");
        return ExitCode::from(tools::EXIT_MISSING);
    }
    match execute(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CHECK),
        Err(error) => {
            eprintln!("lb-kind: {error:#}");
            ExitCode::from(STEP)
        }
    }
}

/// Whether everything held.
fn execute(arguments: &Arguments) -> Result<bool> {
    let runner: Arc<dyn Runner> = if arguments.dry_run {
        Arc::new(DryRun)
    } else {
        let logs = std::env::temp_dir().join(format!("lb-kind-{}", std::process::id()));
        Arc::new(System { logs })
    };
    match &arguments.verb {
        Verb::Up {
            node_image,
            manifests,
        } => {
            let options = Options {
                name: arguments.name.clone(),
                families: arguments.families,
                node_image: node_image.clone(),
                archive: arguments.archive.clone(),
                manifests: manifests.clone(),
            };
            KindCluster::create(runner, &options).map(|_| true)
        }
        Verb::Run { filter, image } => run(arguments, runner, filter.as_deref(), image),
        Verb::Upstream {
            junit: Some(file), ..
        } => {
            let xml = fs::read_to_string(file);
            report(&xml.with_context(|| format!("reading {}", file.display()))?)
        }
        Verb::Upstream {
            image,
            focus,
            skip,
            results,
            junit: None,
        } => {
            let results = std::path::absolute(results)?;
            let run = upstream::Run {
                image,
                focus: focus.as_deref(),
                skip,
                results: &results,
                dry_run: false,
            };
            run_upstream(arguments, runner.as_ref(), &run)
        }
        Verb::Down => {
            KindCluster::existing(runner, &arguments.name).delete()?;
            Ok(true)
        }
    }
}

fn run(
    arguments: &Arguments,
    runner: Arc<dyn Runner>,
    filter: Option<&str>,
    image: &str,
) -> Result<bool> {
    // The client outside is docker's; nodes have the images already.
    runner.output(&commands::docker_load(&arguments.archive))?;
    if arguments.dry_run {
        return Ok(true);
    }
    let cluster = KindCluster::existing(runner, &arguments.name);
    let site: Arc<dyn Site> = Arc::new(KindSite::new(cluster, arguments.families, image)?);
    let mut failed = 0;
    let chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    for case in conformance::all().filter(|case| chosen(case.name)) {
        let (outcome, took) = conformance::run(case, &site);
        let seconds = took.as_secs();
        let line = match outcome {
            Outcome::Passed => format!("passed   {} ({seconds} s)", case.name),
            Outcome::Skipped(reason) => format!("skipped  {}: {reason}", case.name),
            Outcome::Failed {
                message,
                explanation,
            } => {
                failed += 1;
                format!("FAILED   {}: {message}\n{explanation}", case.name)
            }
        };
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(failed == 0)
}

fn run_upstream(
    arguments: &Arguments,
    runner: &dyn Runner,
    run: &upstream::Run<'_>,
) -> Result<bool> {
    let kubeconfig = runner.output(&commands::kubeconfig(&arguments.name, true))?;
    if arguments.dry_run {
        runner.output(&run.invocation())?;
        return Ok(true);
    }
    fs::create_dir_all(run.results)?;
    write_secret(&run.results.join("kubeconfig"), &kubeconfig)?;
    // Failed tests end it with an error; its report counts.
    let ended = runner.output(&run.invocation());
    match fs::read_to_string(run.results.join(upstream::JUNIT)) {
        Ok(xml) => report(&xml),
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

/// Prints what came of each row; whether none failed.
fn report(xml: &str) -> Result<bool> {
    let results = upstream::read(xml)?;
    let mut out = io::stdout().lock();
    for RowResult {
        row,
        title,
        result,
        message,
        took,
    } in &results
    {
        let (row, seconds) = (row.unwrap_or("-"), took.as_secs());
        let why = if message.is_empty() { "" } else { ": " };
        writeln!(
            out,
            "{result:<8} {row:<5} {title} ({seconds} s){why}{message}"
        )?;
    }
    let not_run: Vec<&str> = upstream::not_run(&results)
        .iter()
        .map(|row| row.id)
        .collect();
    writeln!(out, "not run: {}", not_run.join(" "))?;
    Ok(results.iter().all(|result| result.result != "failed"))
}
