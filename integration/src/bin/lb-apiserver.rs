//! The test API server as a process of its own.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use lb_integration::apiserver::{ApiServer, Cidr, Listen, Options, load_manifests};
use tokio::signal::unix::{SignalKind, signal};

/// Serves the part of the Kubernetes API a service proxy uses, without TLS or
/// authentication. For tests and experiments: anyone who can
/// reach the address may read and write everything.
///
/// Try: lb-apiserver --kubeconfig-out /tmp/kc & kubectl --kubeconfig /tmp/kc get services -A
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Write a kubeconfig for kubectl to this file.
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,

    /// Apply the manifests in this file or directory (YAML or JSON) at start; repeatable.
    #[arg(long, value_name = "PATH")]
    load: Vec<PathBuf>,

    /// Ranges cluster IPs are taken from, at most one per family.
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:96::/112"
    )]
    service_cidrs: Vec<Cidr>,

    /// Create the Service default/kubernetes for this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    advertise: Option<SocketAddr>,

    /// Make EndpointSlices of Services and Pods, as the control plane's controller does.
    #[arg(long)]
    endpoint_slices: bool,

    /// Seconds between bookmarks of a watch.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    bookmark_interval: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let server = ApiServer::start(Options {
        listen: Listen::Address(arguments.listen),
        service_cidrs: arguments.service_cidrs,
        advertise: arguments.advertise,
        endpoint_slices: arguments.endpoint_slices,
        bookmark_interval: Duration::from_secs(arguments.bookmark_interval.max(1)),
        ..Options::default()
    })
    .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    for path in &arguments.load {
        for object in load_manifests(path)? {
            let (kind, name) = (object["kind"].clone(), object["metadata"]["name"].clone());
            server
                .apply(object)
                .with_context(|| format!("{}: {kind} {name}", path.display()))?;
        }
    }
    if let Some(path) = &arguments.kubeconfig_out {
        std::fs::write(path, server.kubeconfig())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("{}", server.url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.shutdown().await?;
    Ok(())
}
