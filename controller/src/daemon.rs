//! `lb-controller run`: sources, reconciler and servers, wired together.

mod follow;
mod servers;

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{follow::Daemon, servers::Servers};
use crate::{
    config::{self, Run},
    conntrack::{Collector, FlowSizes, Machine, lifetimes},
    datapath::{DatapathError, Network, Place},
    devices::{self, watch::Watcher},
    events::{Events, Note},
    exit::Exit,
    health::{Health, HealthChecks},
    kernel::{self, Features, Unsuitable},
    loader::Cgroup,
    metrics,
    pins::Pins,
    reaper::Reaper,
    reconcile::Reconciler,
    source::{ApiSource, FilesSource, Phase, Source, SourceError, SourceState},
};

/// Batches of events that may wait to be observed.
const QUEUE: usize = 64;

/// Why the daemon cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The machine.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// The datapath.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The source of objects.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another controller holds the pin directory.
    #[error("another lb-controller runs on this node: it holds {0}")]
    AlreadyRunning(String),
    /// A server cannot listen.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An option is wrong.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl DaemonError {
    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unsuitable(error) => error.into(),
            Self::Datapath(error) => error.into(),
            Self::Source(SourceError::Unreadable { .. } | SourceError::Malformed { .. }) => {
                Exit::Manifests
            }
            Self::Source(_) => Exit::Kubeconfig,
            Self::AlreadyRunning(_) => Exit::AlreadyRunning,
            Self::Listen { .. } => Exit::Listen,
            Self::Usage(_) => Exit::Usage,
            Self::Io { .. } => Exit::Failure,
        }
    }
}

/// Runs until SIGINT or SIGTERM. The datapath stays in force afterwards. `in_force` are the
/// options as /configz shows them.
pub async fn run(options: &Run, in_force: Value) -> Result<(), DaemonError> {
    let node_name = options.node_name();
    if node_name.is_empty() {
        let problem = "the name of this node is empty: give it with --node-name";
        return Err(DaemonError::Usage(problem.into()));
    }
    kernel::check_kernel()?;
    kernel::check_privileges()?;
    let cgroup_path = cgroup_path(options)?;
    kernel::check_cgroup2(&cgroup_path)?;
    if kernel::is_own_cgroup(&cgroup_path) {
        warn!(
            cgroup = %cgroup_path.display(),
            "this cgroup is the controller's own: only processes of its container are served; \
             mount the node's cgroup v2 hierarchy and name it with --cgroup"
        );
    }
    kernel::check_bpffs(&options.pinned.bpffs)?;
    let pins = Pins::new(&options.pinned.bpffs);
    let _lock = lock(&pins)?;
    let reaper = Reaper::start(pins.clone(), !options.no_netns_walk)
        .map_err(|source| io_error_of("cannot start the thread that ends stale sockets", source))?;
    let (reports, collected) = mpsc::channel(1);
    let collector = Collector::start(pins.clone(), options.conntrack.gc_interval, reports)
        .map_err(|source| io_error_of("cannot start the thread that collects flows", source))?;

    let (watcher, inventory) = Watcher::start()
        .await
        .map_err(|source| io_error_of("cannot ask rtnetlink for the devices", source))?;
    let choices = devices::Options {
        lifetimes: lifetimes(&options.conntrack),
        ..options.network.options()
    };
    let network = Network::new(choices, inventory);
    network.preflight();

    let source = source(options, &node_name).await?;
    let place = Place {
        pins,
        cgroup: Cgroup::open(&cgroup_path)
            .map_err(|source| io_error("cannot open the cgroup", &cgroup_path, source))?,
        features: Features::probe(),
        affinity_entries: options.affinity_entries,
        flow_sizes: FlowSizes::new(&options.conntrack, Machine::current()),
        node_name: node_name.clone(),
        source: match source {
            Source::Files(_) => "files",
            Source::Api(_) => "api",
        },
        network,
    };
    info!(node = node_name, kernel = kernel::release(), cgroup = %cgroup_path.display(),
        version = env!("CARGO_PKG_VERSION"), "starting");

    let events = match &source {
        Source::Files(_) => Events::none(),
        Source::Api(api) => Events::start(api.client()?, &node_name),
    };
    // Without a control plane nobody says what is to become of the node.
    let files = matches!(source, Source::Files(_));
    let health = Arc::new(Health::new(options.sync_period * 2, files));
    let (refresh, refreshed) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let servers = Servers {
        options,
        events: &events,
        stop: &stop,
    };
    servers.start(&health, refresh, in_force).await?;

    let reconciler = Reconciler::start(place, options.settings())?;
    events.tell(Note::Started);
    let adopted = reconciler.datapath().is_some();
    let (sender, received) = mpsc::channel(QUEUE);
    let (state, states) = watch::channel(SourceState::default());
    tokio::spawn(report_state(states));
    let (inventories, observed) = mpsc::channel(1);
    tokio::spawn(watcher.run(inventories));
    let source = source.run(sender, state, stop.clone());
    let daemon = Daemon {
        reconciler,
        adopted,
        reaper,
        collector,
        collected,
        health_checks: HealthChecks::new(Arc::clone(&health)),
        moved: false,
        health,
        events,
        received,
        refreshed,
        observed,
        options,
    };
    let result = tokio::select! {
        result = source => result.map_err(DaemonError::from),
        result = daemon.follow() => result,
        () = terminated() => Ok(()),
    };
    stop.cancel();
    if result.is_ok() {
        info!("stopping; the datapath stays in force");
    }
    result
}

fn cgroup_path(options: &Run) -> Result<std::path::PathBuf, DaemonError> {
    options
        .cgroup
        .clone()
        .or_else(kernel::find_cgroup2)
        .ok_or_else(|| {
            Unsuitable::NoCgroup2 {
                path: "/sys/fs/cgroup".into(),
            }
            .into()
        })
}

/// Holds the pin directory for as long as the value lives: one controller a node.
///
/// `lbctl status` tries the same lock for an instant where it cannot see the
/// controller's process, so one refusal proves nothing.
fn lock(pins: &Pins) -> Result<Flock<File>, DaemonError> {
    const TRIES: u32 = 5;
    let dir = pins.dir();
    let mut file = std::fs::create_dir_all(dir)
        .and_then(|()| File::open(dir))
        .map_err(|source| io_error("cannot create the pin directory", dir, source))?;
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(DaemonError::AlreadyRunning(dir.display().to_string()))
}

fn io_error_of(
    what: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DaemonError {
    DaemonError::Io {
        what: what.into(),
        source: std::io::Error::other(source),
    }
}

fn io_error(what: &str, path: &Path, source: std::io::Error) -> DaemonError {
    DaemonError::Io {
        what: format!("{what} {}", path.display()),
        source,
    }
}

async fn source(options: &Run, node_name: &str) -> Result<Source, DaemonError> {
    if let Some(path) = &options.source.source_files {
        return Ok(Source::Files(FilesSource::new(path, node_name)?));
    }
    let kubeconfig = options.source.kubeconfig.as_deref();
    Ok(Source::Api(ApiSource::new(kubeconfig, node_name).await?))
}

async fn report_state(mut states: watch::Receiver<SourceState>) {
    while states.changed().await.is_ok() {
        metrics::source_up(states.borrow().phase == Phase::Following);
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// `lb-controller cleanup`: detaches everything and removes all pins of this version.
pub fn cleanup(options: &config::Pinned) -> Result<(), DaemonError> {
    kernel::check_privileges()?;
    let pins = Pins::new(&options.bpffs);
    if !pins.dir().exists() {
        info!(dir = %pins.dir().display(), "nothing to remove");
        return Ok(());
    }
    // What looks like pins elsewhere is somebody's files.
    kernel::check_bpffs(pins.dir())?;
    let _lock = lock(&pins)?;
    crate::datapath::cleanup(&pins)?;
    // Ours if it is empty; a directory that others use stays.
    let _ = std::fs::remove_dir(&options.bpffs);
    info!(dir = %pins.dir().display(), "removed");
    Ok(())
}
