//! `lb-kind`: a kind cluster with lb in place of kube-proxy, for `lb-conformance --site kind`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lb_integration::{
    cluster::Families,
    kind::{DryRun, KindCluster, Runner, System, cluster::Options, tools},
};

/// A step could not be carried out.
const STEP: u8 = 3;
const USAGE: u8 = 64;

/// Makes a kind cluster with lb in place of kube-proxy, for `lb-conformance --site kind`. Needs
/// kind, kubectl and docker with an engine; the images come from `cargo xtask image --output`.
#[derive(Parser)]
#[command(
    name = "lb-kind",
    version,
    after_help = "\
Exit codes:
  0   done
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
    /// Print the commands instead of running them
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Create the cluster, load the images, apply the manifests, wait until lb is ready.
    Up {
        /// Address families of the cluster; with v6 alone, /healthz must be bound to [::], by
        /// a kustomization of your own
        #[arg(long, value_enum, default_value_t)]
        families: Families,
        /// Archive with both images
        #[arg(long, default_value = "target/image.tar")]
        archive: PathBuf,
        /// Image of the nodes [default: kind's]
        #[arg(long)]
        node_image: Option<String>,
        /// Kustomization of lb
        #[arg(long, default_value = "manifests")]
        manifests: PathBuf,
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
    if !arguments.dry_run
        && let Err(missing) = tools::check()
    {
        eprintln!("lb-kind: {missing}");
        return ExitCode::from(tools::EXIT_MISSING);
    }
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-kind: {error:#}");
            ExitCode::from(STEP)
        }
    }
}

fn execute(arguments: &Arguments) -> Result<()> {
    let runner: Arc<dyn Runner> = if arguments.dry_run {
        Arc::new(DryRun)
    } else {
        let logs = std::env::temp_dir().join(format!("lb-kind-{}", std::process::id()));
        Arc::new(System { logs })
    };
    match &arguments.verb {
        Verb::Up {
            families,
            archive,
            node_image,
            manifests,
        } => {
            let options = Options {
                name: arguments.name.clone(),
                families: *families,
                node_image: node_image.clone(),
                archive: archive.clone(),
                manifests: manifests.clone(),
            };
            KindCluster::create(runner, &options).map(drop)
        }
        Verb::Down => KindCluster::existing(runner, &arguments.name).delete(),
    }
}
