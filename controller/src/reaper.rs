//! Tells connected UDP sockets that their backend is gone, so that applications connect
//! again at once (rule I7).
//!
//! Input: the UDP backends that a reconciliation took out of service, after its writes
//! are in force. Output: their sockets are destroyed (ECONNABORTED) where their network
//! namespace can be entered, and are sent an ICMP port-unreachable (ECONNREFUSED) where
//! not. `docs/0002-finding-stale-udp-sockets.md` has the reasons and figures.
//!
//! Invariants: a socket is told only if its own record names the slot and generation of
//! a gone backend, if it is connected to that backend still, and if that backend still
//! does not serve. TCP sockets, unconnected sockets and sockets that were connected
//! without us are never touched. Everything happens on one thread of its own, so that
//! programming is never delayed.

mod diag;
mod find;
mod layout;
mod namespaces;
mod notify;
mod target;
mod tell;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use aya::maps::MapData;
use lb_ebpf::abi::map;
use tracing::{debug, info, warn};

use self::{find::Finder, target::Target, tell::Teller};
use crate::{
    maps::{Access, Maps, MapsError},
    metrics,
    pins::Pins,
    plan::GoneBackend,
    sys,
};

/// When sockets of the same backends are looked for again: one may have been given a
/// backend just before it was taken out, and connects to it just after the first look.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// When the iterator is loaded, if it is not needed before: the controller's own start
/// needs CPU and memory for the same things.
const LOAD_AFTER: Duration = Duration::from_millis(500);

/// Sockets told in one look, at most.
const MAX_SOCKETS: usize = 100_000;

/// The thread, as the daemon sees it. It ends when this is dropped.
#[derive(Debug)]
pub struct Reaper {
    gone: Sender<Vec<GoneBackend>>,
}

impl Reaper {
    /// Starts the thread; `walk` is whether it may enter network namespaces.
    ///
    /// What the kernel does not offer degrades what the thread does and is logged; the
    /// only error is that no thread can be made.
    pub fn start(pins: Pins, walk: bool) -> io::Result<Self> {
        let (gone, received) = channel();
        thread::Builder::new()
            .name("lb-reaper".into())
            .spawn(move || {
                let first = match received.recv_timeout(LOAD_AFTER) {
                    Ok(gone) => Some(gone),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                Worker::new(pins, walk).run(first, &received);
            })?;
        Ok(Self { gone })
    }

    /// Has the sockets of these backends told, soon and once more a second later.
    pub fn submit(&self, gone: Vec<GoneBackend>) {
        if !gone.is_empty() && self.gone.send(gone).is_err() {
            warn!("the thread that ends stale sockets is gone");
        }
    }
}

/// Gone backends that are looked for a second time.
struct Round {
    due: Instant,
    gone: Vec<GoneBackend>,
    told: HashSet<Target>,
}

struct Worker {
    pins: Pins,
    /// `None`: sockets are looked for by destination, namespace by namespace.
    finder: Option<Finder>,
    teller: Teller,
}

impl Worker {
    fn new(pins: Pins, walk: bool) -> Self {
        let started = Instant::now();
        let finder = match Finder::load() {
            Ok(finder) => {
                debug!(took = ?started.elapsed(), "loaded the socket iterator");
                Some(finder)
            }
            Err(error) => {
                warn!(%error, "stale UDP sockets are looked for by their destination");
                None
            }
        };
        // The kernel's types, as parsed, take some 30 MB.
        sys::release_free_memory();
        Self {
            pins,
            finder,
            teller: Teller::new(walk),
        }
    }

    fn run(&mut self, mut first: Option<Vec<GoneBackend>>, received: &Receiver<Vec<GoneBackend>>) {
        let mut rounds: VecDeque<Round> = VecDeque::new();
        loop {
            let next = match rounds.front() {
                _ if first.is_some() => Ok(first.take().unwrap_or_default()),
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(round) => {
                    received.recv_timeout(round.due.saturating_duration_since(Instant::now()))
                }
            };
            match next {
                Ok(mut gone) => {
                    gone.extend(received.try_iter().flatten());
                    let told = self.look(&gone, &HashSet::new());
                    rounds.push_back(Round {
                        due: Instant::now() + SECOND_LOOK,
                        gone,
                        told,
                    });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(round) = rounds.pop_front() {
                        self.look(&round.gone, &round.told);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Finds and tells sockets of `gone`, but none of `told`; returns those told by ICMP,
    /// which stay connected until their application acts.
    fn look(&mut self, gone: &[GoneBackend], told: &HashSet<Target>) -> HashSet<Target> {
        let started = Instant::now();
        let outcome = match self.stale(gone) {
            Ok(Stale::Found(mut targets)) => {
                targets.retain(|target| !told.contains(target));
                debug!(sockets = targets.len(), took = ?started.elapsed(), "found stale UDP sockets");
                self.teller.tell(targets)
            }
            Ok(Stale::Connected(backends)) => {
                let wanted =
                    |target: &Target| backends.contains(&target.backend) && !told.contains(target);
                self.teller.tell_all(wanted, MAX_SOCKETS)
            }
            Err(error) => {
                warn!(%error, "cannot look for stale UDP sockets");
                return HashSet::new();
            }
        };
        debug!(took = ?started.elapsed(), "looked for stale UDP sockets");
        report(&outcome);
        outcome.notified.into_iter().collect()
    }

    fn stale(&mut self, gone: &[GoneBackend]) -> Result<Stale, LookError> {
        let Some((epoch, maps)) = self.pins.current(Access::Read)? else {
            return Ok(Stale::Found(Vec::new()));
        };
        let wanted: HashSet<(u32, u32)> = gone
            .iter()
            .map(|backend| (backend.slot, backend.generation))
            .filter(|(slot, generation)| !serves(&maps, *slot, *generation))
            .collect();
        let Some(finder) = &mut self.finder else {
            return Ok(Stale::Connected(unshared(gone, &wanted, &maps)));
        };
        let connected = MapData::from_pin(self.pins.epoch(epoch).join(map::CONNECTED))?;
        let wanted: Vec<_> = wanted.into_iter().map(<[u32; 2]>::from).collect();
        let found = finder.find(connected.fd(), &wanted, MAX_SOCKETS)?;
        if found.len() == MAX_SOCKETS {
            warn!(
                MAX_SOCKETS,
                "more stale UDP sockets than are told at a time"
            );
        }
        Ok(Stale::Found(found.iter().map(Target::from).collect()))
    }
}

/// What to tell.
enum Stale {
    /// These sockets.
    Found(Vec<Target>),
    /// Every UDP socket that is connected to one of these addresses.
    Connected(HashSet<SocketAddr>),
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Maps(#[from] MapsError),
    #[error("cannot open the map CONNECTED: {0}")]
    Connected(#[from] aya::maps::MapError),
    #[error("cannot read the socket iterator: {0}")]
    Iterator(#[from] io::Error),
}

/// Whether a gone backend has come back meanwhile.
fn serves(maps: &Maps, slot: u32, generation: u32) -> bool {
    if slot >= maps.backends.len() {
        return false;
    }
    let entry = maps.backends.get(slot);
    entry.generation == generation && entry.keeps_flows()
}

/// Addresses of gone backends at which nothing serves for another Service either: without
/// the sockets' records there is no telling whose sockets they are.
fn unshared(
    gone: &[GoneBackend],
    wanted: &HashSet<(u32, u32)>,
    maps: &Maps,
) -> HashSet<SocketAddr> {
    let mut out: HashSet<SocketAddr> = gone
        .iter()
        .filter(|backend| wanted.contains(&(backend.slot, backend.generation)))
        .map(|backend| SocketAddr::new(backend.addr, backend.port))
        .collect();
    for entry in maps.backends.iter() {
        if entry.keeps_flows() {
            out.remove(&SocketAddr::new(entry.addr.to_ip(), entry.port.get()));
        }
    }
    out
}

/// Counts, and logs a line for each backend.
fn report(outcome: &tell::Outcome) {
    let mut backends: HashMap<SocketAddr, [u64; 3]> = HashMap::new();
    let kinds = [&outcome.destroyed, &outcome.notified, &outcome.failed];
    for (kind, (name, targets)) in ["destroyed", "notified", "failed"]
        .into_iter()
        .zip(kinds)
        .enumerate()
    {
        metrics::stale_socket(name, targets.len() as u64);
        for target in targets {
            backends.entry(target.backend).or_default()[kind] += 1;
        }
    }
    for (backend, [destroyed, notified, failed]) in backends {
        info!(%backend, destroyed, notified, failed, "told UDP sockets of a gone backend");
    }
}

#[cfg(test)]
mod tests;
