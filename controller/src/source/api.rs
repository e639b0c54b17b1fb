//! Objects from a Kubernetes API.
//!
//! Input: watches of Services without another proxy's label (rule A1), EndpointSlices
//! without the headless label (rule B2), this node's Node (rule D7), and ServiceCIDRs (rule
//! E3), which a server may do without.
//! Output: their events. While the API is out of reach the last state stays in force
//! and the watches try again for ever, ever more slowly (rule K3).
#![forbid(unsafe_code)]

mod connect;
mod watches;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use kube::{Client, Config};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{BATCH, SourceError, SourceState, state};
use crate::{convert::Converter, model::Event};
use watches::{Change, SERVICE_CIDRS, Watches};

/// How long the first list waits for this node's zone, so that a start does not first
/// program what is then recomputed.
const NODE_WAIT: Duration = Duration::from_secs(5);

/// A Kubernetes API.
#[derive(Debug)]
pub struct ApiSource {
    config: Box<Config>,
    kubeconfig: Option<PathBuf>,
    node_name: String,
}

impl ApiSource {
    /// Uses `kubeconfig` if given, else a pod's service account, else kubectl's default.
    /// `node_name` is this node's (rule L1). Nothing is sent to the API yet.
    pub async fn new(kubeconfig: Option<&Path>, node_name: &str) -> Result<Self, SourceError> {
        let config = connect::config(kubeconfig).await?;
        // What is wrong with keys and certificates shows only when a client is made.
        connect::client(config.clone(), kubeconfig, || {})?;
        Ok(Self {
            config: Box::new(config),
            kubeconfig: kubeconfig.map(Path::to_owned),
            node_name: node_name.to_owned(),
        })
    }

    /// A client for anything else that the API is told.
    pub fn client(&self) -> Result<Client, SourceError> {
        let config = Config::clone(&self.config);
        connect::client(config, self.kubeconfig.as_deref(), || {})
    }

    pub(super) async fn run(
        self,
        events: mpsc::Sender<Vec<Event>>,
        state: &watch::Sender<SourceState>,
    ) -> Result<(), SourceError> {
        let server = self.config.cluster_url.to_string();
        let mut follower = Follower {
            converter: Converter::new(&self.node_name),
            server: server.clone(),
            state,
            cidrs_absent: false,
        };
        // A connection for each watch, so that each tells of itself whether it is well.
        let connect = |what| {
            let reached = reporter(server.clone(), what, state.clone());
            connect::client(
                Config::clone(&self.config),
                self.kubeconfig.as_deref(),
                reached,
            )
        };
        let mut watches = Watches::new(&self.node_name, connect)?;
        let node = follower.await_node(&mut watches).await;
        if !node.is_empty() && events.send(node).await.is_err() {
            return Ok(());
        }
        let mut changes = watches.all();
        while let Some(change) = changes.next().await {
            let mut batch = Vec::new();
            follower.take_in(change, &mut batch);
            // Whatever else is there already belongs to the same batch (rule B12).
            while batch.len() < BATCH
                && let Some(Some(change)) = changes.next().now_or_never()
            {
                follower.take_in(change, &mut batch);
            }
            if !batch.is_empty() && events.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// What to do when the API server has answered the watch of `what`.
fn reporter(
    server: String,
    what: &'static str,
    state: watch::Sender<SourceState>,
) -> impl Fn() + Clone + Send + 'static {
    move || {
        if what != SERVICE_CIDRS && state::reached(&state, what) {
            tracing::info!(server, "following the Kubernetes API");
        }
    }
}

/// Converts changes and keeps the books.
struct Follower<'a> {
    converter: Converter,
    server: String,
    state: &'a watch::Sender<SourceState>,
    /// Whether it was said that ServiceCIDRs cannot be followed.
    cidrs_absent: bool,
}

impl Follower<'_> {
    /// The Node object, if it comes soon.
    async fn await_node(&mut self, watches: &mut Watches) -> Vec<Event> {
        let deadline = Instant::now() + NODE_WAIT;
        let mut events = Vec::new();
        while let Ok(Some(change)) = timeout_at(deadline, watches.node.next()).await {
            let settled = matches!(
                change,
                Change::Node(_) | Change::NodeListed | Change::Failed { .. }
            );
            self.take_in(change, &mut events);
            if settled {
                break;
            }
        }
        events
    }

    fn take_in(&mut self, change: Change, events: &mut Vec<Event>) {
        if let Change::Failed {
            what: SERVICE_CIDRS,
            error,
        } = &change
        {
            self.note_absence(error);
            return;
        }
        if let Change::EndpointSlice(object) = &change {
            events.extend(self.converter.trigger(object));
        }
        events.extend(match change {
            Change::Service(object) => self.converter.service(&object),
            Change::ServiceDeleted(metadata) => self.converter.service_deleted(&metadata),
            Change::EndpointSlice(object) => self.converter.endpoint_slice(&object),
            Change::EndpointSliceDeleted(metadata) => {
                self.converter.endpoint_slice_deleted(&metadata)
            }
            Change::Node(object) => self.converter.node(&object),
            Change::NodeDeleted(metadata) => self.converter.node_deleted(&metadata),
            Change::ServiceCidr(object) => self.converter.service_cidr(&object),
            Change::ServiceCidrDeleted(metadata) => self.converter.service_cidr_deleted(&metadata),
            Change::Listing(kind) => Some(Event::Listing(kind)),
            Change::Listed(kind) => Some(Event::Listed(kind)),
            Change::NodeListed => None,
            Change::Failed { what, error } => {
                self.note_failure(what, &error);
                None
            }
        });
    }

    /// Without ServiceCIDRs everything else goes on: said once.
    fn note_absence(&mut self, error: &str) {
        if !std::mem::replace(&mut self.cidrs_absent, true) {
            tracing::info!(
                error,
                "cannot follow ServiceCIDRs: packets to ClusterIPs that no Service has are left \
                 to routing; asking again now and then"
            );
        }
    }

    /// One clear warning when trouble begins; the retries are details.
    fn note_failure(&self, what: &'static str, error: &str) {
        let server = &self.server;
        if state::failed(self.state, what, error.to_owned()) {
            tracing::warn!(
                server,
                "cannot follow {what} ({error}); trying until it works"
            );
        } else {
            tracing::debug!(server, what, error, "still failing");
        }
    }
}
