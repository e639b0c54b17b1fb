//! The thread that runs [`Sweep`]s: regularly, and when UDP endpoints have gone.

use std::{
    io, mem,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use lb_ebpf::abi::Collected;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    Clock, Load, Parity, Programmed, Report, RetiredFrontends, SHORTEST, Sweep, Tables,
    evictions::Census, next_interval,
};
use crate::{
    datapath::now_unix_ns,
    maps::{Access, MapsError},
    metrics,
    pins::Pins,
    plan::Retired,
    sys,
};

/// A run is followed by a pause of this many times its own length at least, so that the
/// thread takes a fifth of a CPU at most, however often it is asked.
const REST: u32 = 4;

/// What the thread is asked to do.
#[derive(Debug)]
enum Request {
    /// Remove flows of UDP backends that no longer serve, now (rule I4).
    Purge,
    /// Look from now on whether flows use these frontends.
    Retire(Vec<Retired>),
}

/// The thread, as the daemon sees it. It ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    requests: Sender<Request>,
}

impl Collector {
    /// Starts the thread. `interval` pins the time between regular runs. Each run is told
    /// to `reports`; if nobody takes them, they are dropped.
    pub fn start(
        pins: Pins,
        interval: Option<Duration>,
        reports: mpsc::Sender<Report>,
    ) -> io::Result<Self> {
        let (requests, received) = channel();
        let worker = Worker {
            pins,
            interval,
            reports,
            parity: Parity::new(0),
            retired: Vec::new(),
            rested: Instant::now(),
            regular: None,
            census: None,
            totals: Collected::default(),
        };
        thread::Builder::new()
            .name("lb-conntrack".into())
            .spawn(move || worker.run(&received))?;
        Ok(Self { requests })
    }

    /// Has flows of UDP backends that no longer serve removed, soon. Call it once what
    /// replaces them is programmed, so that no packet makes such a flow again.
    pub fn purge(&self) {
        self.ask(Request::Purge);
    }

    /// Has every run look whether flows use `frontends`, which replace those of the last
    /// call; [`Report::unused`] of runs that begin after it names those that none uses.
    ///
    /// A flow that a packet begins while its frontend is retired is seen if that happens
    /// before the call: the frontend must be out of force by then.
    pub fn retire(&self, frontends: Vec<Retired>) {
        self.ask(Request::Retire(frontends));
    }

    fn ask(&self, request: Request) {
        if self.requests.send(request).is_err() {
            warn!("the thread that collects flows is gone");
        }
    }
}

struct Worker {
    pins: Pins,
    interval: Option<Duration>,
    reports: mpsc::Sender<Report>,
    parity: Parity,
    retired: Vec<Retired>,
    /// When the thread has rested from its last run.
    rested: Instant,
    /// When the last regular run ended, and the elements that it left in `CONNTRACK`.
    regular: Option<(Instant, u64)>,
    /// What was counted until the end of the last run.
    census: Option<Census>,
    totals: Collected,
}

impl Worker {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut due = Instant::now() + self.interval.unwrap_or(SHORTEST);
        let mut purge = false;
        loop {
            let next = if purge {
                self.rested
            } else {
                due.max(self.rested)
            };
            match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Request::Purge) => purge = true,
                Ok(Request::Retire(frontends)) => self.retired = frontends,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let regular = Instant::now() >= due;
                    let report = self.collect(!regular);
                    purge = false;
                    if regular {
                        due = Instant::now() + self.wait(report.as_ref());
                    }
                    // If nobody has taken the last one yet, this one is dropped: retired
                    // frontends are looked for again by the next run.
                    if let Some(report) = report {
                        let _ = self.reports.try_send(report);
                    }
                }
            }
        }
    }

    /// Runs, if anything is programmed yet.
    fn collect(&mut self, triggered: bool) -> Option<Report> {
        let mut report = match self.sweep() {
            Ok(report) => Report {
                triggered,
                ..report?
            },
            Err(error) => {
                warn!(%error, "flows that are over stay for now");
                return None;
            }
        };
        self.rested = Instant::now() + report.took * REST;
        report.add_to(&mut self.totals, now_unix_ns());
        report.totals = self.totals;
        debug!(
            took = ?report.took, triggered, scanned = report.scanned,
            deleted = report.deleted_flows(), restored = report.restored,
            proven = report.proven.entries, half_open = report.half_open.entries,
            "collected flows"
        );
        if report.refused > 0 {
            let refused = report.refused;
            warn!(
                refused,
                "halves of flows do not fit: enlarge --conntrack-entries"
            );
        }
        metrics::collected(&report);
        Some(report)
    }

    /// The time until the next regular run, after one.
    fn wait(&mut self, report: Option<&Report>) -> Duration {
        let now = Instant::now();
        let Some(Report { proven, .. }) = report else {
            return self.interval.unwrap_or(SHORTEST);
        };
        let before = self.regular.replace((now, proven.entries));
        let growth = before.map_or(0.0, |(then, left)| {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            (proven.found as f64 - left as f64) / seconds
        });
        self.interval.unwrap_or_else(|| {
            next_interval(Load {
                entries: proven.entries,
                capacity: proven.capacity,
                growth,
            })
        })
    }

    fn sweep(&mut self) -> Result<Option<Report>, MapsError> {
        let Some((_, maps)) = self.pins.current(Access::Write)? else {
            return Ok(None);
        };
        if !self.retired.is_empty() {
            // Programs that run now may still begin flows at frontends that are gone.
            sys::grace_period();
        }
        let backends = Programmed::new(&maps);
        let tables = Tables {
            proven: &maps.conntrack,
            half_open: &maps.half_open,
        };
        let clock = Clock::new(maps.config.get(0).lifetimes);
        let retired = RetiredFrontends::new(self.retired.iter().copied());
        let sweep = Sweep::new(tables, &backends, clock, &self.parity, retired);
        // As it is when the run begins; an estimate must not hold the run up.
        let events = maps.events.dump();
        let (mut report, parity) = sweep.run()?;
        self.parity = parity;
        let census = match events {
            Ok(events) => Some(Census::of(&report, &events)),
            Err(error) => {
                warn!(%error, "evicted flows cannot be estimated");
                None
            }
        };
        let before = mem::replace(&mut self.census, census);
        if let (Some(before), Some(now)) = (before, census) {
            report.evicted = before.evicted_until(&now, &report);
        }
        Ok(Some(report))
    }
}
