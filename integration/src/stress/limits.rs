//! What is used up: the table of proven flows, source ports, the lifetimes of flows.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lb_ebpf::abi::PacketEvent;

use super::{
    Report,
    dials::Dials,
    site::{Path, Site, over_both},
    streams::Streams,
    tables,
};
use crate::{agent::socket::Protocol, patience::CHANGE_LIMIT, proxy::lbctl};

/// How long traffic goes on once the limit is reached.
const WHILE: Duration = Duration::from_secs(3);

/// Far more connections than the table holds: they stay half-open, counted and alarmed; none
/// is refused, none breaks.
pub fn full_table(path: Path) -> Result<Report> {
    const ENTRIES: usize = 16;
    const STREAMS: usize = 100;
    let mut report = Report::new(format!("Table of {ENTRIES} proven flows, {path:?}"));
    let entries = ENTRIES.to_string();
    let sizes = [
        "--conntrack-entries",
        &entries,
        "--half-open-entries",
        "4096",
    ];
    let site = Site::new(path, 1, &sizes)?;
    let targets = site.near_and_far()?.concat();
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);
    let streams = Streams::open(clients, &targets, STREAMS)?;
    let dials = Dials::start(clients, over_both(targets), 100);
    thread::sleep(WHILE);
    let (proven, half_open) = (tables::proven(node)?.len(), tables::half_open(node)?.len());
    let events = tables::events(node)?;
    let status = lbctl(node, &["status"])?;
    let (dials, streams) = (dials.stop()?, streams.close()?);

    report.figure(
        "CONNTRACK, HALF_OPEN",
        format!("{proven}, {half_open} halves"),
    );
    report.figure(
        "established connections",
        format!("{STREAMS}, {} lines", streams.echoes),
    );
    report.figure("new connections", dials.summary());
    report.figure("events", tables::in_words(&events));
    report.must(proven <= 2 * ENTRIES, || {
        format!("{proven} halves are proven")
    });
    report.must(half_open >= 2 * (STREAMS - ENTRIES), || {
        format!("{half_open} halves are half-open")
    });
    let full = events.get(PacketEvent::ConntrackFull.name());
    report.must(full.is_some(), || "a full table was not counted".to_owned());
    report.must(status.contains("connection tracking is full"), || {
        format!("lbctl status gives no alarm:\n{status}")
    });
    broken(&mut report, streams.broken, dials.failures);
    Ok(report)
}

/// More connections to a backend on another node than there are source ports: those too many
/// fail and are counted by backend; the others do not notice.
pub fn no_ports(path: Path) -> Result<Report> {
    const PORTS: usize = 8;
    let mut report = Report::new(format!("{PORTS} source ports, {path:?}"));
    let site = Site::new(path, 1, &["--snat-ports", "20000-20007"])?;
    let [near, far] = site.near_and_far()?;
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);
    // Half of them, so that all get one: ports are probed in random order.
    let streams = Streams::open(clients, &far[..1], PORTS / 2)?;
    let near_dials = Dials::start(clients, over_both(near), 50);
    let kept = connect_until_failure(&site, far[0], PORTS)?;
    let events = tables::events(node)?;
    let rows = tables::event_rows(node)?;
    let near_dials = near_dials.stop()?;
    let streams = streams.close()?;

    let exhausted = PacketEvent::PortsExhausted.name();
    let of_backend: Vec<_> = rows
        .iter()
        .filter(|row| row["event"] == exhausted)
        .filter_map(|row| Some((row["backend"].as_str()?.to_owned(), row["count"].as_u64()?)))
        .collect();
    report.figure("connections of the far backend", PORTS / 2 + kept);
    report.figure("exhausted, by backend", format!("{of_backend:?}"));
    report.figure("new connections to the near backend", near_dials.summary());
    report.figure("events", tables::in_words(&events));
    let backend = site.records()[1].addresses[0].to_string();
    let counted = of_backend
        .iter()
        .any(|(to, n)| to.starts_with(&backend) && *n > 0);
    report.must(counted, || {
        format!("no exhaustion is counted for {backend}")
    });
    broken(&mut report, streams.broken, near_dials.failures);
    Ok(report)
}

/// Opens connections, which are held meanwhile, until one fails or there are `most`: how many
/// there were.
fn connect_until_failure(site: &Site, to: SocketAddr, most: usize) -> Result<usize> {
    let mut client = site.outside.control()?;
    for number in 0..most {
        if client.connect_new(Protocol::Tcp, to)?.is_err() {
            return Ok(number);
        }
    }
    Ok(most)
}

/// Every lifetime a second, and garbage collected all the time: what carries data lives, what
/// is over goes.
pub fn short_lives(path: Path) -> Result<Report> {
    let mut report = Report::new(format!("Lifetimes of a second, {path:?}"));
    let arguments = [
        ["--conntrack-tcp-timeout-established", "1s"],
        ["--conntrack-tcp-timeout-close-wait", "1s"],
        ["--conntrack-tcp-timeout-half-open", "1s"],
        ["--conntrack-udp-timeout", "1s"],
        ["--conntrack-udp-timeout-stream", "1s"],
        ["--conntrack-gc-interval", "10ms"],
    ];
    let site = Site::new(path, 1, arguments.as_flattened())?;
    let targets = site.near_and_far()?.concat();
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);
    let streams = Streams::open(clients, &targets, 50)?;
    let dials = Dials::start(clients, over_both(targets), 100);
    thread::sleep(WHILE);
    let during = tables::proven(node)?.len();
    let (dials, streams) = (dials.stop()?, streams.close()?);
    let emptied = emptied(&site)?;

    report.figure("CONNTRACK under load", format!("{during} halves"));
    report.figure("new connections", dials.summary());
    let lines = format!(
        "50 carried {} lines, slowest {:.1?}",
        streams.echoes, streams.slowest
    );
    report.figure("established connections", lines);
    report.figure("both tables empty after", format!("{emptied:.1?}"));
    report.figure("events", tables::in_words(&tables::events(node)?));
    broken(&mut report, streams.broken, dials.failures);
    Ok(report)
}

/// Waits until nothing is tracked on the first node: how long that took.
pub(super) fn emptied(site: &Site) -> Result<Duration> {
    let (node, start) = (site.cluster.node(0), Instant::now());
    loop {
        let left = (tables::proven(node)?, tables::half_open(node)?);
        if left.0.is_empty() && left.1.is_empty() {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < CHANGE_LIMIT,
            "{} proven and {} half-open halves are left over, such as {:?} {:?}",
            left.0.len(),
            left.1.len(),
            left.0.first_key_value(),
            left.1.first_key_value()
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// Nothing may break.
pub(super) fn broken(report: &mut Report, streams: Vec<String>, dials: Vec<String>) {
    for broken in streams {
        report.must(false, || format!("an established connection: {broken}"));
    }
    for failure in dials {
        report.must(false, || format!("a new connection: {failure}"));
    }
}
