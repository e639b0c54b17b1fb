//! New connections at a steady rate: one request and one reply each.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::worker::Worker;
use crate::{agent::socket::Protocol, netns::Netns};

/// How long a TCP connection may take, retransmissions included.
const TCP_PATIENCE: Duration = Duration::from_secs(10);
/// UDP does not repeat itself; resolvers do, about so often and after so long.
const UDP_TRIES: u32 = 4;
const UDP_PATIENCE: Duration = Duration::from_secs(1);
/// Connections in the making at once.
const AT_ONCE: usize = 2_000;
/// Failures that are kept in words.
const SHOWN: usize = 10;
const TICK: Duration = Duration::from_millis(5);

/// Somewhere to connect to.
pub type Target = (Protocol, SocketAddr);

/// Clients that come and go.
#[derive(Debug)]
pub struct Dials {
    worker: Worker<DialReport>,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct DialReport {
    /// Connections that were tried.
    pub tried: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// Datagrams that had to be sent again.
    pub repeated: u64,
    /// Connections a second.
    pub rate: f64,
    times: Vec<Duration>,
}

// === impl Dials ===

impl Dials {
    /// Starts to connect from `netns` to `targets`, by turns, `rate` times a second.
    pub fn start(netns: &Netns, targets: Vec<Target>, rate: u32) -> Self {
        let worker = Worker::start(netns, move |stop| at_a_rate(targets, rate, stop));
        Self { worker }
    }

    /// Stops, waits for the last ones, and tells what became of them.
    pub fn stop(self) -> Result<DialReport> {
        self.worker.finish()
    }
}

// === impl DialReport ===

impl DialReport {
    /// The time within which this share of the successful connections had their reply.
    pub fn within(&self, share: f64) -> Duration {
        let at = (self.times.len() as f64 * share) as usize;
        let last = self.times.len().saturating_sub(1);
        self.times.get(at.min(last)).copied().unwrap_or_default()
    }

    /// Count, failures and latency in one line.
    pub fn summary(&self) -> String {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.within(share));
        format!(
            "{} at {:.0}/s, {} failed, {} datagrams repeated; p50 {p50:.1?}, p99 {p99:.1?}, max {most:.1?}",
            self.tried, self.rate, self.failed, self.repeated
        )
    }

    fn add(&mut self, outcome: Result<(Duration, u32)>) {
        self.tried += 1;
        match outcome {
            Ok((time, repeated)) => {
                self.times.push(time);
                self.repeated += u64::from(repeated);
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < SHOWN {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }
}

async fn at_a_rate(targets: Vec<Target>, rate: u32, stop: CancellationToken) -> Result<DialReport> {
    ensure!(!targets.is_empty(), "nowhere to connect to");
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let (mut tasks, mut report) = (JoinSet::new(), DialReport::default());
    let mut next = targets.iter().copied().cycle();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (start, mut begun) = (Instant::now(), 0);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        // What is late is caught up with slowly: a burst would overflow queues.
        let burst = (due - begun).min(u64::from(rate) / 50 + 1);
        for _ in 0..burst {
            let (Some(target), Ok(permit)) = (next.next(), Arc::clone(&room).try_acquire_owned())
            else {
                break;
            };
            begun += 1;
            tasks.spawn(async move {
                let outcome = one(target).await;
                drop(permit);
                outcome.with_context(|| format!("{target:?}"))
            });
        }
        while let Some(done) = tasks.try_join_next() {
            report.add(done?);
        }
    }
    report.rate = begun as f64 / start.elapsed().as_secs_f64();
    while let Some(done) = tasks.join_next().await {
        report.add(done?);
    }
    report.times.sort_unstable();
    Ok(report)
}

/// One connection: how long it took until the reply, and how many datagrams were repeated.
async fn one((protocol, to): Target) -> Result<(Duration, u32)> {
    let start = Instant::now();
    let repeated = match protocol {
        Protocol::Tcp => {
            timeout(TCP_PATIENCE, tcp(to)).await.context("no reply")??;
            0
        }
        Protocol::Udp => udp(to).await?,
    };
    Ok((start.elapsed(), repeated))
}

async fn tcp(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to).await.context("connecting")?;
    let local = stream.local_addr()?;
    // The port is free again at once.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.write_all(b"hostname\n").await?;
    let mut reply = [0; 64];
    let read = stream.read(&mut reply).await;
    let length = read.with_context(|| format!("reading, from {local}"))?;
    ensure!(length > 0, "closed without a reply");
    Ok(())
}

async fn udp(to: SocketAddr) -> Result<u32> {
    let any = if to.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    let mut reply = [0; 64];
    for repeated in 0..UDP_TRIES {
        socket.send(b"hostname").await.context("sending")?;
        if let Ok(received) = timeout(UDP_PATIENCE, socket.recv(&mut reply)).await {
            received.context("receiving")?;
            return Ok(repeated);
        }
    }
    anyhow::bail!(
        "no reply to {UDP_TRIES} datagrams from {:?}",
        socket.local_addr()
    )
}
