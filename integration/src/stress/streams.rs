//! Connections that carry data all the time.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::worker::Worker;
use crate::netns::Netns;

/// How long a line may take to come back; TCP repeats itself several times within.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two lines of a connection.
const PAUSE: Duration = Duration::from_millis(200);
/// How long all connections together may take to be made.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Open connections on which every line sent comes back.
#[derive(Debug)]
pub struct Streams {
    worker: Worker<StreamReport>,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct StreamReport {
    /// Lines that came back.
    pub echoes: u64,
    /// The longest that a line took.
    pub slowest: Duration,
    /// Connections that broke, in words.
    pub broken: Vec<String>,
}

// === impl Streams ===

impl Streams {
    /// Opens `count` connections from `netns` to `targets`, by turns, and waits until all of
    /// them have carried a line.
    pub fn open(netns: &Netns, targets: &[SocketAddr], count: usize) -> Result<Self> {
        let (opened, open) = channel();
        let targets: Vec<_> = targets.iter().copied().cycle().take(count).collect();
        let worker = Worker::start(netns, move |stop| all(targets, stop, opened));
        let this = Self { worker };
        match await_all(&open, count) {
            Ok(()) => Ok(this),
            Err(error) => {
                let report = this.close()?;
                Err(error.context(format!("{:?}", report.broken.first())))
            }
        }
    }

    /// Closes them, and tells what became of them.
    pub fn close(self) -> Result<StreamReport> {
        self.worker.finish()
    }
}

fn await_all(open: &Receiver<()>, count: usize) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    for number in 0..count {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = open.recv_timeout(left);
        next.with_context(|| format!("only {number} of {count} connections were made"))?;
    }
    Ok(())
}

async fn all(
    targets: Vec<SocketAddr>,
    stop: CancellationToken,
    opened: Sender<()>,
) -> Result<StreamReport> {
    let mut tasks = JoinSet::new();
    for to in targets {
        tasks.spawn(one(to, stop.clone(), opened.clone()));
        // A burst would overflow queues that have nothing to do with what is tested.
        sleep(Duration::from_millis(1)).await;
    }
    drop(opened);
    let mut report = StreamReport::default();
    while let Some(ended) = tasks.join_next().await {
        let (echoes, slowest, outcome) = ended?;
        report.echoes += echoes;
        report.slowest = report.slowest.max(slowest);
        report
            .broken
            .extend(outcome.err().map(|e| format!("{e:#}")));
    }
    Ok(report)
}

async fn one(
    to: SocketAddr,
    stop: CancellationToken,
    opened: Sender<()>,
) -> (u64, Duration, Result<()>) {
    let (mut echoes, mut slowest) = (0, Duration::ZERO);
    let conversation = async {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut line = "stream".to_owned();
        loop {
            let start = Instant::now();
            writer.write_all(format!("{line}\n").as_bytes()).await?;
            let Some(answer) = timeout(PATIENCE, lines.next_line()).await?? else {
                bail!("{local} → {to} was closed after {echoes} lines");
            };
            let expected = if echoes == 0 { "streaming" } else { &line };
            ensure!(answer == expected, "{to} sent {answer:?} for {line:?}");
            slowest = slowest.max(start.elapsed());
            if echoes == 0 {
                // Whoever waits for this may have given up.
                let _ = opened.send(());
            }
            echoes += 1;
            line = format!("{local} {echoes}");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(PAUSE) => {}
            }
        }
    };
    let outcome = conversation.await;
    let outcome = outcome.with_context(|| format!("to {to}, after {echoes} lines"));
    (echoes, slowest, outcome)
}
