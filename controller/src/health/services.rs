//! The servers behind `healthCheckNodePort` (rules J1–J8).
//!
//! Input: what Services need, as the reconciler worked it out, and this node's addresses.
//! Output: a listening socket for each Service and address, and what could not listen.
//!
//! Invariant: after [`HealthChecks::sync`], whatever is not wanted refuses connections.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Health, RETRY, listen::bind, routes};
use crate::{
    desired::HealthCheck,
    model::{Family, ObjectName},
};

/// All servers of this node.
#[derive(Debug)]
pub struct HealthChecks {
    health: Arc<Health>,
    servers: BTreeMap<Place, Server>,
    /// Why something does not listen.
    failed: BTreeMap<Place, String>,
    retry_at: Instant,
}

/// A Service and where it is answered for.
type Place = (ObjectName, SocketAddr);

/// Something that should listen and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For which Service.
    pub service: ObjectName,
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub reason: String,
}

#[derive(Debug)]
struct Server {
    answer: Arc<Answer>,
    stop: CancellationToken,
    /// Ends when the socket is closed.
    closed: oneshot::Receiver<()>,
}

/// What one server says.
#[derive(Debug)]
struct Answer {
    service: ObjectName,
    local_endpoints: AtomicU32,
    health: Arc<Health>,
}

impl HealthChecks {
    /// None yet; they answer for `health`, too.
    pub fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            servers: BTreeMap::new(),
            failed: BTreeMap::new(),
            retry_at: Instant::now(),
        }
    }

    /// Whether something does not listen that should, and it is time to try again.
    pub fn retry_is_due(&self) -> bool {
        !self.failed.is_empty() && Instant::now() >= self.retry_at
    }

    /// Makes the servers what `wanted` says, at these addresses of the node; returns what
    /// does not listen, as far as that is news.
    pub async fn sync(
        &mut self,
        wanted: &BTreeMap<ObjectName, HealthCheck>,
        addresses: &[IpAddr],
    ) -> Vec<Failure> {
        let wanted = places(wanted, addresses);
        // First, so that a port may pass from one Service to another.
        let unwanted = self
            .servers
            .extract_if(.., |at, _| !wanted.contains_key(at));
        for ((service, address), server) in unwanted.collect::<Vec<_>>() {
            server.stop.cancel();
            let _ = server.closed.await;
            info!(%service, %address, "closed a health-check node port");
        }
        let mut failed = BTreeMap::new();
        let mut news = Vec::new();
        for (place, count) in wanted {
            if let Some(server) = self.servers.get(&place) {
                let answer = &server.answer;
                answer.local_endpoints.store(count, Ordering::Relaxed);
                continue;
            }
            match self.open(&place, count) {
                Ok(server) => _ = self.servers.insert(place, server),
                Err(error) => {
                    let reason = error.to_string();
                    if self.failed.get(&place) != Some(&reason) {
                        let (service, address) = place.clone();
                        warn!(%service, %address, reason, retry_in = ?RETRY,
                            "cannot listen at a health-check node port");
                        news.push(Failure {
                            service,
                            address,
                            reason: reason.clone(),
                        });
                    }
                    failed.insert(place, reason);
                }
            }
        }
        self.failed = failed;
        self.retry_at = Instant::now() + RETRY;
        news
    }

    fn open(&self, (service, address): &Place, count: u32) -> io::Result<Server> {
        let listener = bind(*address)?;
        let answer = Arc::new(Answer {
            service: service.clone(),
            local_endpoints: AtomicU32::new(count),
            health: Arc::clone(&self.health),
        });
        let routes = Router::new()
            .fallback(|State(answer): State<Arc<Answer>>| async move { answer.response() })
            .with_state(Arc::clone(&answer));
        let (open, closed) = oneshot::channel();
        let listener = Watched {
            listener,
            _open: open,
        };
        let stop = CancellationToken::new();
        let served =
            axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = served.await {
                debug!(%error, "a health-check server stopped");
            }
        });
        info!(%service, %address, "answering at a health-check node port");
        Ok(Server {
            answer,
            stop,
            closed,
        })
    }
}

/// What listens where, and the number that it tells.
fn places(
    wanted: &BTreeMap<ObjectName, HealthCheck>,
    addresses: &[IpAddr],
) -> BTreeMap<Place, u32> {
    let mut places = BTreeMap::new();
    for (service, check) in wanted {
        for (family, count) in Family::ALL.into_iter().zip(check.local_endpoints) {
            let Some(count) = count else { continue };
            let of_family = addresses.iter().filter(|ip| Family::of(**ip) == family);
            for ip in of_family {
                let address = SocketAddr::new(*ip, check.port);
                places.insert((service.clone(), address), count);
            }
        }
    }
    places
}

impl Answer {
    fn response(&self) -> Response {
        const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
        let count = self.local_endpoints.load(Ordering::Relaxed);
        // Whether the node is to go does not matter here (rule J6).
        let healthy = self.health.is_healthy();
        let body = json!({
            "service": { "namespace": &*self.service.namespace, "name": &*self.service.name },
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        });
        let mut response = routes::answer(routes::code(count > 0 && healthy), &body);
        let headers = response.headers_mut();
        headers.insert(WEIGHT, HeaderValue::from(count));
        response
    }
}

/// A listener whose end can be awaited.
struct Watched {
    listener: TcpListener,
    _open: oneshot::Sender<()>,
}

impl axum::serve::Listener for Watched {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        // Waits out the lack of descriptors.
        axum::serve::Listener::accept(&mut self.listener).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests;
