//! The servers of the node itself: /healthz for load balancers, /metrics for operators.

use std::{io, net::SocketAddr, sync::Arc};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{DaemonError, io_error_of};
use crate::{
    config::Run,
    events::{Events, Note},
    health::{self, Health, listen},
    metrics,
};

/// What the servers of the node itself are started with.
pub(super) struct Servers<'a> {
    pub(super) options: &'a Run,
    pub(super) events: &'a Events,
    pub(super) stop: &'a CancellationToken,
}

impl Servers<'_> {
    /// Starts them. `refresh` asks the loop to read counters before a scrape.
    pub(super) async fn start(
        &self,
        health: &Arc<Health>,
        refresh: health::Refresh,
        in_force: Value,
    ) -> Result<(), DaemonError> {
        let handle =
            metrics::install().map_err(|error| io_error_of("cannot record metrics", error))?;
        let healthz = self.options.healthz().map_err(DaemonError::Usage)?;
        let for_metrics = self.options.metrics().map_err(DaemonError::Usage)?;
        if let Some(address) = healthz {
            let failed = move |reason| Some(Note::HealthzFailed { address, reason });
            let routes = health::health_routes(Arc::clone(health));
            self.listen("healthz", address, routes, failed).await?;
        }
        if let Some(address) = for_metrics {
            let routes = health::metrics_routes(handle, refresh, in_force);
            self.listen("metrics", address, routes, |_| None).await?;
        }
        Ok(())
    }

    async fn listen(
        &self,
        what: &'static str,
        address: SocketAddr,
        routes: axum::Router,
        note: impl Fn(String) -> Option<Note> + Clone + Send + 'static,
    ) -> Result<(), DaemonError> {
        let hard_fail = self.options.bind_address_hard_fail;
        let (events, note_of) = (self.events.clone(), note.clone());
        let failed = move |error: &io::Error| {
            if hard_fail {
                return;
            }
            health::warn_of(what, address, error);
            if let Some(note) = note_of(error.to_string()) {
                events.tell(note);
            }
        };
        let listening = listen(address, routes, hard_fail, self.stop.clone(), failed).await;
        if let Err(source) = listening {
            if let Some(note) = note(source.to_string()) {
                self.events.tell_last(note).await;
            }
            let address = address.to_string();
            return Err(DaemonError::Listen { address, source });
        }
        Ok(())
    }
}
