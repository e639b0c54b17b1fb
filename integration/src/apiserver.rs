//! An in-process Kubernetes API server for tests: real HTTP, real lists and
//! watches over a table of kinds, no authentication, and one control loop on request.
//!
//! It fills in what a service proxy depends on (cluster IPs, node ports,
//! defaults of Services) and can misbehave on request ([`Faults`], outages,
//! forgotten history). On request a control loop makes EndpointSlices of Services and
//! Pods. There is no garbage collection by owner; a Pod deleted with a grace period stays,
//! marked, until it is deleted without one; `v1` and `events.k8s.io` Events are
//! separate. Bodies are JSON or YAML: the few kubectl commands that send protobuf
//! (`create namespace`) are answered 415, where `apply -f` works. Objects written through [`ApiServer`] directly keep the status they
//! come with and bring their Namespace into being; over HTTP the rules of a real
//! server hold.

mod allocator;
mod connection;
mod controllers;
mod defaults;
mod direct;
mod discovery;
mod error;
mod faults;
mod kinds;
mod kubeconfig;
mod list;
mod manifests;
mod object;
mod patch;
mod requests;
mod routes;
mod selectors;
mod store;
mod target;
mod watch;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::{
    allocator::{Cidr, CidrError},
    error::ApiError,
    faults::Faults,
    kinds::{Kind, KindRef, Scope, by_name as kind},
    manifests::{ManifestError, load as load_manifests, parse as parse_manifests},
    requests::RequestRecord,
    watch::EventType,
};
use self::{
    connection::{Gate, GatedListener},
    requests::RequestLog,
    store::Store,
};

/// Where to listen.
#[derive(Debug)]
pub enum Listen {
    /// Bind this address; port 0 picks one.
    Address(SocketAddr),
    /// A bound, listening socket, made inside a network namespace for instance.
    /// For outages it must have been bound to a fixed port.
    Socket(TcpListener),
}

/// How a server is set up.
#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    /// Ranges of cluster IPs, at most one per family.
    pub service_cidrs: Vec<Cidr>,
    /// Changes kept for watches to resume from.
    pub history_limit: usize,
    /// Time between bookmarks (a real server: about a minute).
    pub bookmark_interval: Duration,
    /// Creates `default/kubernetes` with its EndpointSlice for this address, as a
    /// real server does for itself.
    pub advertise: Option<SocketAddr>,
    /// Makes EndpointSlices of Services and Pods, as the control plane's controller does.
    pub endpoint_slices: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cidrs = ["10.96.0.0/16", "fd00:96::/112"];
        Self {
            listen: Listen::Address((Ipv4Addr::LOCALHOST, 0).into()),
            service_cidrs: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
            history_limit: 100_000,
            bookmark_interval: Duration::from_secs(2),
            advertise: None,
            endpoint_slices: false,
        }
    }
}

/// What request handlers share.
#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    faults: Arc<Faults>,
    requests: RequestLog,
    bookmark_interval: Duration,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    stop: CancellationToken,
    task: Option<JoinHandle<io::Result<()>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How long connections may take to end at shutdown; they are reset, so no time at all.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Starts serving on the current tokio runtime.
    pub fn start(options: Options) -> io::Result<Self> {
        let socket = match options.listen {
            Listen::Address(address) => bind(address)?,
            Listen::Socket(socket) => socket,
        };
        let gate = Arc::new(Gate::new(socket)?);
        let listener = GatedListener::new(Arc::clone(&gate))?;
        let shared = Arc::new(Shared {
            store: Arc::new(Store::new(options.history_limit, &options.service_cidrs)),
            faults: Arc::default(),
            requests: RequestLog::default(),
            bookmark_interval: options.bookmark_interval,
        });
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, routes::router(Arc::clone(&shared)))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(serving.into_future());
        if options.endpoint_slices {
            tokio::spawn(controllers::run(Arc::clone(&shared.store), stop.clone()));
        }
        let running = Self {
            shared,
            gate,
            stop,
            task: Some(task),
            thread: None,
        };
        running
            .create_own_objects(&options.service_cidrs, options.advertise)
            .map_err(io::Error::other)?;
        Ok(running)
    }

    /// Starts serving on a thread of its own, for tests that block theirs. Dropping
    /// the server waits until the thread has ended.
    pub fn start_on_thread(options: Options) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut running = {
            let _entered = runtime.enter();
            Self::start(options)?
        };
        let (stop, task) = (running.stop.clone(), running.task.take());
        let serve = async move {
            stop.cancelled().await;
            if let Some(task) = task {
                // A connection that does not end is cut off with the runtime.
                let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, task).await;
            }
        };
        let thread = std::thread::Builder::new().name("apiserver".into());
        running.thread = Some(thread.spawn(move || runtime.block_on(serve))?);
        Ok(running)
    }

    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A kubeconfig for kubectl and kube-rs, as YAML.
    pub fn kubeconfig(&self) -> String {
        kubeconfig::kubeconfig(&self.url())
    }

    /// The fault switches.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Forgets history: every resourceVersion and continue token handed out so far
    /// answers 410. Open watches that are up to date go on.
    pub fn compact(&self) {
        self.shared.store.compact();
    }

    /// Resets every connection once.
    pub fn reset_connections(&self) {
        self.gate.reset_connections();
    }

    /// Refuses connections and resets those that exist, until [`Self::resume`].
    pub fn begin_outage(&self) -> io::Result<()> {
        self.gate.close()
    }

    /// Ends an outage: same address, same objects, same history.
    pub fn resume(&self) -> io::Result<()> {
        self.gate.reopen()
    }

    /// Requests since the start or the last [`Self::clear_requests`].
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.requests.all()
    }

    pub fn clear_requests(&self) {
        self.shared.requests.clear();
    }

    /// Stops serving and waits until the connections are gone.
    pub async fn shutdown(mut self) -> io::Result<()> {
        self.stop.cancel();
        self.gate.reset_connections();
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        match tokio::time::timeout(SHUTDOWN_PATIENCE, task).await {
            Ok(ended) => ended.map_err(io::Error::other)?,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.gate.reset_connections();
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

/// Binds; a free port is looked up first and then bound by number, because a
/// socket that let the kernel choose loses its port when it stops listening.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    const ATTEMPTS: usize = 16;
    if address.port() != 0 {
        return TcpListener::bind(address);
    }
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..ATTEMPTS {
        let free = TcpListener::bind(address)?.local_addr()?;
        result = TcpListener::bind(free);
        if result.is_ok() {
            break;
        }
    }
    result
}
