//! `lb-controller run`: sources, reconciler and servers, wired together.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use nix::fcntl::{Flock, FlockArg};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    config::{self, Run},
    conntrack::{Collector, FlowSizes, Machine, Report, lifetimes},
    datapath::{DatapathError, Network, Place},
    devices::{self, Inventory, watch::Watcher},
    exit::{Exit, sentence},
    health::{self, Health},
    kernel::{self, Features, Unsuitable},
    loader::Cgroup,
    metrics,
    model::Event,
    pins::Pins,
    plan::Retired,
    reaper::Reaper,
    reconcile::{ReconcileError, Reconciler},
    source::{ApiSource, FilesSource, Phase, Source, SourceError, SourceState},
};

/// Batches of events that may wait to be observed.
const QUEUE: usize = 64;

/// How soon after a change freed indices are recycled.
const IDLE_TICK: Duration = Duration::from_secs(1);

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

/// Runs until SIGINT or SIGTERM. The datapath stays in force afterwards.
pub async fn run(options: &Run) -> Result<(), DaemonError> {
    let node_name = options.node_name();
    if node_name.is_empty() {
        let problem = "the name of this node is empty: give it with --node-name";
        return Err(DaemonError::Usage(problem.into()));
    }
    kernel::check_kernel()?;
    kernel::check_privileges()?;
    let cgroup_path = cgroup_path(options)?;
    kernel::check_cgroup2(&cgroup_path)?;
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

    let health = Arc::new(Health::new(options.sync_period * 2));
    let (refresh, refreshed) = mpsc::channel(1);
    let stop = CancellationToken::new();
    serve(options, &health, refresh, &stop).await?;

    let reconciler = Reconciler::start(place, options.settings())?;
    let adopted = reconciler.datapath().is_some();
    let (events, received) = mpsc::channel(QUEUE);
    let (state, states) = watch::channel(SourceState::default());
    tokio::spawn(report_state(states));
    let (inventories, observed) = mpsc::channel(1);
    tokio::spawn(watcher.run(inventories));
    let source = source.run(events, state, stop.clone());
    let daemon = Daemon {
        reconciler,
        adopted,
        reaper,
        collector,
        collected,
        health,
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

/// The loop around the reconciler.
struct Daemon<'a> {
    reconciler: Reconciler,
    /// A predecessor's state is in force.
    adopted: bool,
    reaper: Reaper,
    collector: Collector,
    collected: mpsc::Receiver<Report>,
    health: Arc<Health>,
    received: mpsc::Receiver<Vec<Event>>,
    refreshed: mpsc::Receiver<oneshot::Sender<()>>,
    /// What this node's network looks like, after each change.
    observed: mpsc::Receiver<Inventory>,
    options: &'a Run,
}

impl Daemon<'_> {
    async fn follow(mut self) -> Result<(), DaemonError> {
        let mut tick = interval(IDLE_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let far = Duration::from_secs(365 * 24 * 3600);
        let mut retry_at = Instant::now() + far;
        loop {
            tokio::select! {
                batch = self.received.recv() => {
                    let Some(batch) = batch else { return Ok(()) };
                    self.gather(batch).await;
                    retry_at = self.reconcile()?.unwrap_or_else(|| Instant::now() + far);
                }
                () = sleep_until(retry_at) => {
                    retry_at = self.reconcile()?.unwrap_or_else(|| Instant::now() + far);
                }
                Some(done) = self.refreshed.recv() => {
                    if let Some(datapath) = self.reconciler.datapath() {
                        metrics::scrape(datapath, self.reconciler.usage());
                    }
                    let _ = done.send(());
                }
                Some(report) = self.collected.recv() => self.shut_out(&report.unused),
                Some(inventory) = self.observed.recv() => {
                    // The next look at the network repeats what failed.
                    if let Err(error) = self.reconciler.observe_network(inventory) {
                        error!(error = sentence(&error), "cannot follow the devices");
                    }
                }
                _ = tick.tick() => self.reconciler.idle(),
            }
        }
    }

    /// Takes in a batch, and what follows within the batch window.
    async fn gather(&mut self, batch: Vec<Event>) {
        let until = Instant::now() + self.options.batch_window;
        self.observe(batch);
        while let Ok(Some(batch)) = timeout_at(until, self.received.recv()).await {
            self.observe(batch);
        }
    }

    fn observe(&mut self, batch: Vec<Event>) {
        for event in batch {
            match &event {
                Event::Service(..) => metrics::observed(true),
                Event::EndpointSlice(..) => metrics::observed(false),
                Event::Listing(_) | Event::Listed(_) | Event::Node(_) | Event::ServiceCidr(..) => {}
            }
            self.reconciler.observe(event);
        }
    }

    /// Takes out what let packets of removed frontends in: no flow needs them any more.
    fn shut_out(&mut self, unused: &[Retired]) {
        if unused.is_empty() {
            return;
        }
        debug!(
            frontends = unused.len(),
            "no flow uses these frontends any more"
        );
        if let Err(error) = self.reconciler.retire_done(unused) {
            warn!(
                error = sentence(&error),
                "removed frontends still let packets in"
            );
        }
        self.collector.retire(self.reconciler.retired());
    }

    /// When to try again, if something could not be written.
    ///
    /// While nothing is in force yet, a kernel that refuses the programs or the maps ends
    /// the daemon, with its own exit code: retrying would only hide that.
    fn reconcile(&mut self) -> Result<Option<Instant>, DaemonError> {
        if !self.reconciler.has_work() {
            return Ok(None);
        }
        self.health.queued();
        match self.reconciler.reconcile() {
            Ok(outcome) => {
                self.health.updated();
                if !outcome.gone.is_empty() {
                    self.collector.purge();
                }
                self.collector.retire(self.reconciler.retired());
                self.reaper.submit(outcome.gone);
                Ok(None)
            }
            Err(ReconcileError::Datapath(error)) if !self.adopted && !self.reconciler.synced() => {
                Err(error.into())
            }
            Err(error) => {
                let wait = self.options.sync_period.min(Duration::from_secs(1));
                let error = sentence(&error);
                error!(error, retry_in = ?wait, "cannot program everything");
                Ok(Some(Instant::now() + wait))
            }
        }
    }
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

/// Starts the servers. `refresh` asks the loop to read counters before a scrape.
async fn serve(
    options: &Run,
    health: &Arc<Health>,
    refresh: health::Refresh,
    stop: &CancellationToken,
) -> Result<(), DaemonError> {
    let handle = metrics::install().map_err(|error| io_error_of("cannot record metrics", error))?;
    let servers = [
        (options.healthz(), health::health_routes(Arc::clone(health))),
        (options.metrics(), health::metrics_routes(handle, refresh)),
    ];
    for (address, routes) in servers {
        let Some(address) = address.map_err(DaemonError::Usage)? else {
            continue;
        };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| DaemonError::Listen {
                address: address.to_string(),
                source,
            })?;
        let stop = stop.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, routes)
                .with_graceful_shutdown(async move { stop.cancelled().await });
            if let Err(error) = served.await {
                warn!(%error, %address, "a server stopped");
            }
        });
    }
    Ok(())
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
