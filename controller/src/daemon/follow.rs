//! The loop around the reconciler: events in, datapath, then everybody who is told of it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use tracing::{debug, error, warn};

use super::DaemonError;
use crate::{
    config::Run,
    conntrack::{Collector, Report},
    datapath::Repairs,
    devices::Inventory,
    events::{Events, Note},
    exit::sentence,
    health::{Health, HealthChecks},
    metrics,
    model::Event,
    plan::Retired,
    reaper::Reaper,
    reconcile::{ReconcileError, Reconciler},
};

/// How soon after a change freed indices are recycled.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// The loop around the reconciler.
pub(super) struct Daemon<'a> {
    pub(super) reconciler: Reconciler,
    /// A predecessor's state is in force.
    pub(super) adopted: bool,
    pub(super) reaper: Reaper,
    pub(super) collector: Collector,
    pub(super) collected: mpsc::Receiver<Report>,
    pub(super) health: Arc<Health>,
    pub(super) health_checks: HealthChecks,
    /// This node may have other addresses than when the health checks were looked at.
    pub(super) moved: bool,
    pub(super) events: Events,
    pub(super) received: mpsc::Receiver<Vec<Event>>,
    pub(super) refreshed: mpsc::Receiver<oneshot::Sender<()>>,
    /// What this node's network looks like, after each change.
    pub(super) observed: mpsc::Receiver<Inventory>,
    pub(super) options: &'a Run,
}

impl Daemon<'_> {
    /// Runs until the source ends.
    pub(super) async fn follow(mut self) -> Result<(), DaemonError> {
        let mut tick = interval(IDLE_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut repair = interval(self.options.sync_period.max(IDLE_TICK));
        repair.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let far = Duration::from_secs(365 * 24 * 3600);
        let mut retry_at = Instant::now() + far;
        loop {
            tokio::select! {
                batch = self.received.recv() => {
                    let Some(batch) = batch else { return Ok(()) };
                    self.gather(batch).await;
                    retry_at = self.reconcile().await?.unwrap_or_else(|| Instant::now() + far);
                }
                () = sleep_until(retry_at) => {
                    retry_at = self.reconcile().await?.unwrap_or_else(|| Instant::now() + far);
                }
                Some(done) = self.refreshed.recv() => {
                    if let Some(datapath) = self.reconciler.datapath() {
                        metrics::scrape(datapath, self.reconciler.usage());
                    }
                    let _ = done.send(());
                }
                Some(report) = self.collected.recv() => {
                    self.reconciler.collected(report.totals);
                    self.shut_out(&report.unused);
                }
                Some(inventory) = self.observed.recv() => {
                    // The next look at the network repeats what failed.
                    if let Err(error) = self.reconciler.observe_network(inventory) {
                        error!(error = sentence(&error), "cannot follow the devices");
                    }
                    self.moved = true;
                    self.answer_health_checks(false).await;
                }
                _ = repair.tick() => self.repair(),
                _ = tick.tick() => {
                    self.reconciler.idle();
                    self.answer_health_checks(self.health_checks.retry_is_due()).await;
                }
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
                Event::Node(node) => {
                    self.health.stands(node.standing);
                    self.moved = true;
                }
                Event::Listing(_)
                | Event::Listed(_)
                | Event::Triggered(..)
                | Event::ServiceCidr(..) => {}
            }
            self.reconciler.observe(event);
        }
    }

    /// Makes the servers what Services need (rule K9: after the datapath), if that or the
    /// addresses may have changed.
    async fn answer_health_checks(&mut self, changed: bool) {
        if !(std::mem::take(&mut self.moved) || changed) {
            return;
        }
        let wanted = self.reconciler.health_checks();
        let addresses = self.reconciler.health_check_addresses();
        for failure in self.health_checks.sync(wanted, &addresses).await {
            self.events.tell(Note::HealthCheckFailed {
                service: failure.service,
                address: failure.address,
                reason: failure.reason,
            });
        }
    }

    /// Puts back what others have taken away (rule K5).
    fn repair(&mut self) {
        match self.reconciler.repair() {
            Ok(repairs) if repairs == Repairs::default() => {}
            Ok(repairs) => {
                warn!(
                    ?repairs,
                    "somebody had removed attachments or pins: put back"
                );
                metrics::repaired(repairs);
            }
            Err(error) => error!(
                error = sentence(&error),
                "attachments or pins are missing and cannot be put back"
            ),
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
    async fn reconcile(&mut self) -> Result<Option<Instant>, DaemonError> {
        if !self.reconciler.has_work() {
            if self.reconciler.synced() {
                metrics::settled();
            }
            return Ok(None);
        }
        self.health.queued();
        match self.reconciler.reconcile() {
            Ok(outcome) => {
                self.health.updated();
                self.answer_health_checks(outcome.health_checks).await;
                for (service, map) in outcome.starved {
                    self.events.tell(Note::NotProgrammed { service, map });
                }
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
