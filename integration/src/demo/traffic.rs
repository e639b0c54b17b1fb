//! Traffic from the clients, and what became of every single request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{scene::Client, screen::Bar};
use crate::agent::{
    dial::{Dial, Dialed},
    socket::ErrorKind,
};

/// One request over a new socket.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When the client was told to make it.
    pub(super) at: Instant,
    /// Where it was sent.
    pub(super) to: SocketAddr,
    /// What came of it.
    pub(super) dialed: Dialed,
}

/// Many samples, in the order of their times.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

// === impl Sample ===

impl Sample {
    /// When it was answered or had failed.
    pub(super) fn end(&self) -> Instant {
        self.at + Duration::from_micros(self.dialed.micros)
    }

    /// Whether the client saw anything but the address it dialled.
    pub(super) fn untranslated(&self) -> bool {
        let unreachable = |kind| matches!(kind, ErrorKind::Unreachable | ErrorKind::Timeout);
        self.dialed.peer.is_some_and(|peer| peer != self.to)
            || (self.dialed.error.as_ref()).is_some_and(|failure| unreachable(failure.kind))
    }
}

// === impl Samples ===

impl Samples {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that `wanted` picks.
    pub(super) fn only(&self, wanted: impl Fn(&Sample) -> bool) -> Self {
        Self(self.0.iter().filter(|s| wanted(s)).cloned().collect())
    }

    /// How many got no reply.
    pub(super) fn failed(&self) -> usize {
        self.0.iter().filter(|sample| !sample.dialed.ok).count()
    }

    /// How many did not go through translation; see [`Sample::untranslated`].
    pub(super) fn untranslated(&self) -> usize {
        self.0.iter().filter(|sample| sample.untranslated()).count()
    }

    /// Failures by what the application was told.
    pub(super) fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        for failure in self.0.iter().filter_map(|s| s.dialed.error.as_ref()) {
            let text = format!("{:?} during {}", failure.kind, failure.during).to_lowercase();
            *errors.entry(text).or_default() += 1;
        }
        errors
    }

    /// Replies by their text, which is the name of the pod for `hostname`.
    pub(super) fn replies(&self) -> Replies {
        let mut replies = Replies::new();
        for reply in self.0.iter().filter_map(|s| s.dialed.reply.as_ref()) {
            *replies.entry(reply.clone()).or_default() += 1;
        }
        replies
    }

    /// The middle of the times from before `connect` to the reply or failure.
    pub(super) fn median(&self) -> Duration {
        let mut times: Vec<u64> = self.0.iter().map(|s| s.dialed.micros).collect();
        times.sort_unstable();
        Duration::from_micros(times.get(times.len() / 2).copied().unwrap_or(0))
    }
}

/// Every client makes `count` requests to each of `dials`, interleaved.
pub(super) fn burst(clients: &mut [Client], dials: &[Dial], count: usize) -> Result<Samples> {
    paced_burst(clients, dials, count, Duration::ZERO, |_| {})
}

/// The same with a pause after each request; `watch` sees who has replied so far, ten times a
/// second.
pub(super) fn paced_burst(
    clients: &mut [Client],
    dials: &[Dial],
    count: usize,
    pause: Duration,
    mut watch: impl FnMut(&Replies),
) -> Result<Samples> {
    let each = count * dials.len();
    let enough = each * clients.len();
    let plan = Plan {
        dials,
        pause,
        limit: each,
    };
    let (samples, ()) = run(clients, plan, |progress| {
        while progress.made() < enough && !progress.stop.load(Ordering::Relaxed) {
            watch(&progress.replies());
            thread::sleep(Duration::from_millis(if pause.is_zero() { 1 } else { 100 }));
        }
        Ok(())
    })?;
    Ok(samples)
}

/// Keeps every client dialling in turns, with a pause after each request, while `work` runs.
pub(super) fn during<T>(
    clients: &mut [Client],
    dials: &[Dial],
    pause: Duration,
    work: impl FnOnce(&Progress) -> Result<T>,
) -> Result<(Samples, T)> {
    let plan = Plan {
        dials,
        pause,
        limit: usize::MAX,
    };
    run(clients, plan, work)
}

/// One bar for each of `pods`, also for those without replies, and for unexpected repliers.
pub(super) fn bars(replies: &Replies, pods: &[&str]) -> Vec<Bar> {
    let mut replies = replies.clone();
    for &pod in pods {
        replies.entry(pod.to_owned()).or_default();
    }
    let bar = |(label, count)| Bar { label, count };
    replies.into_iter().map(bar).collect()
}

/// What a client does.
#[derive(Clone, Copy)]
struct Plan<'a> {
    dials: &'a [Dial],
    pause: Duration,
    limit: usize,
}

/// Replies by their text.
pub(super) type Replies = BTreeMap<String, u64>;

/// How far traffic in the background has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stop: AtomicBool,
    made: AtomicUsize,
    replies: Mutex<Replies>,
}

// === impl Progress ===

impl Progress {
    /// Requests made so far.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Waits for `count` more requests.
    pub(super) fn reach(&self, count: usize, limit: Duration) -> Result<()> {
        let target = self.made() + count;
        let deadline = Instant::now() + limit;
        while self.made() < target {
            ensure!(
                Instant::now() < deadline && !self.stop.load(Ordering::Relaxed),
                "{} of {target} requests, and no more come",
                self.made()
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn replies(&self) -> Replies {
        let replies = self.replies.lock();
        replies.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, dialed: &Dialed) {
        if let Some(reply) = &dialed.reply {
            let replies = self.replies.lock();
            let mut replies = replies.unwrap_or_else(PoisonError::into_inner);
            *replies.entry(reply.clone()).or_default() += 1;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
    }
}

fn run<T>(
    clients: &mut [Client],
    plan: Plan<'_>,
    work: impl FnOnce(&Progress) -> Result<T>,
) -> Result<(Samples, T)> {
    let progress = Progress::default();
    let progress = &progress;
    let (samples, done) = thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || dial(client, plan, progress)))
            .collect();
        let done = work(progress);
        progress.stop.store(true, Ordering::Relaxed);
        let samples: Result<Vec<_>> = running
            .into_iter()
            .map(|thread| {
                let joined = thread.join();
                joined.map_err(|_| anyhow!("a client's thread panicked"))?
            })
            .collect();
        (samples, done)
    });
    let mut all: Vec<Sample> = samples?.into_iter().flatten().collect();
    all.sort_by_key(|sample| sample.at);
    Ok((Samples(all), done?))
}

fn dial(client: &mut Client, plan: Plan<'_>, progress: &Progress) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for dial in plan.dials.iter().cycle().take(plan.limit) {
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        let at = Instant::now();
        let dialed = client.control.dial(dial).inspect_err(|_| {
            // Whoever waits for progress must not wait for this client.
            progress.stop.store(true, Ordering::Relaxed);
        })?;
        progress.count(&dialed);
        samples.push(Sample {
            at,
            to: dial.to,
            dialed,
        });
        thread::sleep(plan.pause);
    }
    Ok(samples)
}
