//! A flood of SYNs that backends answer, and of ACKs that guess, while honest clients work.
//!
//! A spoofed source never sees a SYN-ACK, so nothing of the flood is ever proven: what was
//! established before stays, and the table of proven flows does not grow.

use std::net::SocketAddr;

use anyhow::Result;
use lb_ebpf::abi::PacketEvent;

use super::{
    Report,
    dials::Dials,
    frames::{Flood, is_spoofed},
    site::{Path, Site},
    streams::Streams,
    tables::{self, client},
};
use crate::agent::socket::Protocol;

/// How large it is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// SYNs from spoofed sources
    #[arg(long, default_value_t = 1_000_000)]
    pub syns: u64,
    /// How many of them a second, at most
    #[arg(long, default_value_t = 50_000)]
    pub rate: u64,
    /// Established connections that carry data
    #[arg(long, default_value_t = 1_000)]
    pub streams: usize,
    /// New honest connections a second
    #[arg(long, default_value_t = 50)]
    pub dials: u32,
}

// === impl Options ===

impl Options {
    /// A few seconds of it.
    pub const QUICK: Self = Self {
        syns: 40_000,
        rate: 20_000,
        streams: 100,
        dials: 20,
    };
}

/// Runs it.
pub fn run(path: Path, options: Options) -> Result<Report> {
    let mut report = Report::new(format!("SYN flood, {path:?}"));
    let site = Site::new(path, 1, &[])?;
    let [near, far] = site.near_and_far()?;
    let targets: Vec<SocketAddr> = near.iter().zip(&far).flat_map(|(&n, &f)| [n, f]).collect();
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);

    let streams = Streams::open(clients, &targets, options.streams)?;
    let before = tables::proven(node)?;
    let (half_open_before, opened_before) = (tables::half_open(node)?.len(), opened(&site)?);
    let honest = targets.iter().map(|&to| (Protocol::Tcp, to)).collect();
    let dials = Dials::start(clients, honest, options.dials);
    let flood = Flood {
        targets,
        syns: options.syns,
        rate: options.rate,
        acks_every: 10,
    };
    let sent = flood.send(&site.cluster)?;
    let after = tables::proven(node)?;
    let half_open = tables::half_open(node)?;
    let events = tables::events(node)?;
    let dials = dials.stop()?;
    let streams = streams.close()?;

    let seconds = sent.took.as_secs_f64();
    report.figure("SYNs sent", format!("{} in {seconds:.1} s", sent.syns));
    report.figure(
        "SYNs per second",
        format!("{:.0}", sent.syns as f64 / seconds),
    );
    report.figure("guessing ACKs", sent.acks);
    report.figure("frames the device refused", sent.refused);
    report.figure("flows opened", opened(&site)?.saturating_sub(opened_before));
    let spoofed = |table: &tables::Table| {
        let clients = table.iter().filter_map(|(key, entry)| client(key, entry));
        clients.filter(|&address| is_spoofed(address)).count()
    };
    report.figure(
        "CONNTRACK before, after",
        format!("{}, {}", before.len(), after.len()),
    );
    let half_open_now = format!("{half_open_before}, {}", half_open.len());
    report.figure("HALF_OPEN before, after", half_open_now);
    report.figure("spoofed flows half-open after", spoofed(&half_open));
    report.figure("new honest connections", dials.summary());
    let (echoes, slowest) = (streams.echoes, streams.slowest);
    let lines = format!(
        "{} carried {echoes} lines, the slowest in {slowest:.1?}",
        options.streams
    );
    report.figure("established connections", lines);
    report.figure("events", tables::in_words(&events));

    report.must(before.len() == 2 * options.streams, || {
        let halves = before.len();
        format!("{} streams have {halves} proven halves", options.streams)
    });
    report.must(spoofed(&half_open) > 0, || {
        "no flow of the flood was seen".to_owned()
    });
    let lost = before.keys().filter(|key| !after.contains_key(key)).count();
    report.must(lost == 0, || {
        format!("{lost} halves of established flows are gone")
    });
    let proven = spoofed(&after);
    report.must(proven == 0, || {
        format!("{proven} spoofed flows were proven")
    });
    let most = before.len() + 2 * dials.tried as usize;
    report.must(after.len() <= most, || {
        format!(
            "CONNTRACK has {} halves, honest clients explain {most}",
            after.len()
        )
    });
    for broken in streams.broken {
        report.must(false, || format!("an established connection: {broken}"));
    }
    report.must(dials.tried > 0, || "no new connection was tried".to_owned());
    for failure in dials.failures {
        report.must(false, || format!("a new connection: {failure}"));
    }
    Ok(report)
}

/// Flows opened so far.
fn opened(site: &Site) -> Result<u64> {
    let events = tables::events(site.cluster.node(0))?;
    Ok(events.get(PacketEvent::Opened.name()).copied().unwrap_or(0))
}
