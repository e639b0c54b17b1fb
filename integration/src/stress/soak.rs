//! New connections all the time, while endpoints come and go in all Services.
//!
//! A backend that is no endpoint any more goes on serving, as a terminating pod does, so
//! nothing at all may fail; and when all is over, nothing may be left in the tables.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Report,
    dials::Dials,
    limits::{broken, emptied},
    site::{Path, Site, over_both},
    streams::Streams,
    tables,
};
use crate::workload::Service;

/// Backends on each node.
const BACKENDS: usize = 3;

/// How much there is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// How long, in seconds
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Services whose endpoints change (at most 250)
    #[arg(long, default_value_t = 50)]
    pub services: u8,
    /// Changes of endpoints a second
    #[arg(long, default_value_t = 100)]
    pub changes: u32,
    /// New connections a second, half of them over TCP, half over UDP
    #[arg(long, default_value_t = 2_000)]
    pub dials: u32,
    /// Established connections that carry data
    #[arg(long, default_value_t = 100)]
    pub streams: usize,
}

// === impl Options ===

impl Options {
    /// A few seconds of it.
    pub const QUICK: Self = Self {
        seconds: 10,
        services: 5,
        changes: 100,
        dials: 200,
        streams: 20,
    };
}

/// Runs it.
pub fn run(path: Path, options: Options) -> Result<Report> {
    let title = format!("Churn of endpoints for {} s, {path:?}", options.seconds);
    let mut report = Report::new(title);
    let arguments = [
        ["--conntrack-tcp-timeout-established", "5s"],
        ["--conntrack-tcp-timeout-close-wait", "2s"],
        ["--conntrack-tcp-timeout-half-open", "2s"],
        ["--conntrack-udp-timeout", "2s"],
        ["--conntrack-udp-timeout-stream", "2s"],
        ["--conntrack-gc-interval", "1s"],
    ];
    let site = Site::new(path, BACKENDS, arguments.as_flattened())?;
    let (mut services, mut targets) = (Vec::new(), Vec::new());
    for number in 1..=options.services {
        let (service, addresses) = site.service(number, site.records())?;
        services.push((service, (0..site.records().len()).collect()));
        targets.extend(addresses);
    }
    site.wait_for(targets.iter().copied())?;
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);
    let streams = Streams::open(clients, &targets, options.streams)?;
    let dials = Dials::start(clients, over_both(targets), options.dials);
    let mut fullest = [0; 2];
    let mut look = || -> Result<()> {
        let now = [tables::proven(node)?.len(), tables::half_open(node)?.len()];
        fullest = [0, 1].map(|table| fullest[table].max(now[table]));
        Ok(())
    };
    let changes = churn(&site, &mut services, options, &mut look)?;
    let (dials, streams) = (dials.stop()?, streams.close()?);
    let events = tables::events(node)?;
    let empty = emptied(&site);

    let rate = changes as f64 / options.seconds.max(1) as f64;
    report.figure("changes of endpoints", format!("{changes}, {rate:.0}/s"));
    report.figure("new connections", dials.summary());
    let (echoes, slowest) = (streams.echoes, streams.slowest);
    let lines = format!(
        "{} carried {echoes} lines, the slowest in {slowest:.1?}",
        options.streams
    );
    report.figure("established connections", lines);
    let [proven, half_open] = fullest;
    report.figure(
        "most in CONNTRACK, HALF_OPEN",
        format!("{proven}, {half_open} halves"),
    );
    report.figure("events", tables::in_words(&events));
    match empty {
        Ok(after) => report.figure("both tables empty after", format!("{after:.1?}")),
        Err(error) => report.must(false, || format!("leaked: {error:#}")),
    }
    report.must(changes > 0 && dials.tried > 0, || {
        "nothing happened".to_owned()
    });
    broken(&mut report, streams.broken, dials.failures);
    Ok(report)
}

/// Adds and removes endpoints until time is up, and looks at the tables every second.
fn churn(
    site: &Site,
    services: &mut [(Service, BTreeSet<usize>)],
    options: Options,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<u64> {
    let mut random = fastrand::Rng::with_seed(3);
    let pause = Duration::from_secs_f64(1.0 / f64::from(options.changes.max(1)));
    let (start, length) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut changes, mut next_look) = (0, Duration::ZERO);
    while start.elapsed() < length && !services.is_empty() {
        let (service, members) = &mut services[random.usize(..services.len())];
        let pod = random.usize(..site.records().len());
        // One stays in any case: without an endpoint clients are refused, rightly.
        if !members.remove(&pod) {
            members.insert(pod);
        } else if members.is_empty() {
            members.insert((pod + 1) % site.records().len());
        }
        let pods: Vec<_> = members.iter().map(|&i| site.records()[i].clone()).collect();
        site.endpoints(service, &pods)?;
        changes += 1;
        if start.elapsed() >= next_look {
            look()?;
            next_look += Duration::from_secs(1);
        }
        thread::sleep((pause * changes).saturating_sub(start.elapsed()));
    }
    Ok(u64::from(changes))
}
