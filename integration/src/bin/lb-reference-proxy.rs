//! The reference proxy; see `lb_integration::reference`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use lb_integration::reference::{
    LocalDetector, Mode, NodeFacts, lacks, render,
    runner::{self, Origin},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A service proxy of netfilter rules in kube-proxy's layout, to check the conformance suite with.
///
/// It reads the same objects as lb-controller and shares its desired state, but nothing of its
/// datapath. It changes the network namespace that it runs in. Not for production.
#[derive(Debug, Parser)]
#[command(name = "lb-reference-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Program this namespace and follow changes, until SIGINT or SIGTERM; rules stay
    Run(Place),
    /// Print the rules that would be programmed
    Render(Place),
    /// Remove every rule of either mode
    Cleanup,
    /// Print the rules of RULES.md that this proxy does not have: RULE, tab, reason
    Lacks {
        /// Which datapath
        #[arg(long, value_enum)]
        mode: Mode,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Which datapath
    #[arg(long, value_enum)]
    mode: Mode,
    /// Manifests: a file, or a directory with everything below it
    #[arg(long, value_name = "PATH", conflicts_with = "kubeconfig")]
    source_files: Option<PathBuf>,
    /// How to reach the API server
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// This node's name
    #[arg(long, value_name = "NAME")]
    node_name: String,
    /// How packets of this node's pods are told from others: none, cidr:CIDR[,CIDR],
    /// interface-prefix:PREFIX or bridge:NAME
    #[arg(
        long,
        value_name = "HOW",
        default_value = "cidr:10.244.0.0/16,fd00:244::/32"
    )]
    detect_local: LocalDetector,
    /// Ranges of ClusterIPs beside those of ServiceCIDRs: unallocated addresses are dropped
    /// (nftables)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    service_cidrs: Vec<IpNet>,
    /// Serve no node ports at 127.0.0.0/8 (iptables)
    #[arg(long)]
    no_localhost_node_ports: bool,
}

impl Place {
    fn origin(&self) -> Origin {
        Origin {
            files: self.source_files.clone(),
            kubeconfig: self.kubeconfig.clone(),
            node_name: self.node_name.clone(),
        }
    }

    fn facts(&self) -> NodeFacts {
        NodeFacts {
            local: self.detect_local.clone(),
            service_cidrs: self.service_cidrs.clone(),
            localhost_node_ports: !self.no_localhost_node_ports,
            ..NodeFacts::default()
        }
    }
}

fn main() -> ExitCode {
    // The sources say much about each object; `LB_LOG=debug` shows it all.
    let filter = std::env::var("LB_LOG");
    let filter = EnvFilter::new(filter.as_deref().unwrap_or("warn,kube_client=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match execute(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-reference-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: &Command) -> Result<()> {
    match command {
        Command::Run(place) => in_runtime(run(place)),
        Command::Render(place) => in_runtime(async {
            let (services, facts) = runner::snapshot(&place.origin(), place.facts()).await?;
            print!("{}", render(place.mode, &services, &facts));
            Ok(())
        }),
        Command::Cleanup => runner::cleanup(),
        Command::Lacks { mode } => {
            for (rule, reason) in lacks::lacks(*mode) {
                println!("{rule}\t{reason}");
            }
            Ok(())
        }
    }
}

fn in_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // Sources end with the process: nothing is worth waiting for.
    runtime.shutdown_background();
    result
}

async fn run(place: &Place) -> Result<()> {
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let origin = place.origin();
    let proxy = runner::run(place.mode, &origin, place.facts(), stop.clone());
    tokio::select! {
        result = proxy => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
