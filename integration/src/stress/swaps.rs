//! Flows that are made all the time, while the maps outgrow themselves: larger maps are filled
//! and swapped in, flows are handed over.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Report,
    dials::Dials,
    limits::broken,
    site::{Path, Site, over_both},
    streams::Streams,
    tables,
};
use crate::{objects::Objects, proxy::lbctl};

/// Long tables fill maps fast: a few Services are enough.
const TABLE_LENGTH: u32 = 1_000_003;
/// How long a swap may take: programs without optimisation fill long tables slowly, and copy
/// all of them into the larger map.
const SWAP_LIMIT: Duration = Duration::from_secs(120);
/// More Services than ten swaps take.
const MOST_SERVICES: u8 = 80;

/// How much there is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Swaps of the maps
    #[arg(long, default_value_t = 10)]
    pub swaps: u32,
    /// Established connections that carry data
    #[arg(long, default_value_t = 500)]
    pub streams: usize,
    /// New connections a second
    #[arg(long, default_value_t = 500)]
    pub dials: u32,
}

// === impl Options ===

impl Options {
    /// A few seconds of it.
    pub const QUICK: Self = Self {
        swaps: 2,
        streams: 50,
        dials: 100,
    };
}

/// Runs it.
pub fn run(path: Path, options: Options) -> Result<Report> {
    let mut report = Report::new(format!("Swaps of growing maps, {path:?}"));
    let site = Site::new(path, 1, &[])?;
    let targets = site.near_and_far()?.concat();
    let (node, clients) = (site.cluster.node(0), &site.outside.placement().netns);
    let streams = Streams::open(clients, &targets, options.streams)?;
    let before = tables::proven(node)?;
    let dials = Dials::start(clients, over_both(targets), options.dials);
    let first = tables::epoch(node)?;
    let start = Instant::now();
    let mut services = 0;
    while tables::epoch(node)? < first + options.swaps {
        ensure!(services < MOST_SERVICES, "{services} Services are too few");
        add_service(&site, services)?;
        services += 1;
    }
    let took = start.elapsed();
    let after = tables::proven(node)?;
    let swaps = tables::epoch(node)? - first;
    let (dials, streams) = (dials.stop()?, streams.close()?);

    report.figure(
        "swaps",
        format!("{swaps} in {took:.1?}, by {services} Services"),
    );
    report.figure("new connections", dials.summary());
    let (echoes, slowest) = (streams.echoes, streams.slowest);
    let lines = format!(
        "{} carried {echoes} lines, the slowest in {slowest:.1?}",
        options.streams
    );
    report.figure("established connections", lines);
    report.figure("events", tables::in_words(&tables::events(node)?));
    let lost = before.keys().filter(|key| !after.contains_key(key)).count();
    report.must(lost == 0, || {
        format!("{lost} halves of established flows are gone")
    });
    broken(&mut report, streams.broken, dials.failures);
    Ok(report)
}

/// Adds a Service whose address leads nowhere, and waits until the first node serves it.
fn add_service(site: &Site, number: u8) -> Result<()> {
    for object in filler(number) {
        site.objects.apply(&object)?;
    }
    let (name, deadline) = (name(number), Instant::now() + SWAP_LIMIT);
    loop {
        let rows = lbctl(
            site.cluster.node(0),
            &["list", "-n", "filler", "--name", &name],
        )?;
        if rows.contains("10.96.9.") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{name} is late: {}",
            site.proxy_output()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn name(number: u8) -> String {
    format!("filler-{number}")
}

/// A Service over two backends, with a table that is longer than they need.
fn filler(number: u8) -> [Value; 2] {
    let name = name(number);
    let endpoint = |host| json!({"addresses": [format!("10.100.{number}.{host}")]});
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": "filler", "name": name,
                "annotations": {"lb/maglev-table-length": TABLE_LENGTH.to_string()},
            },
            "spec": {"clusterIP": format!("10.96.9.{number}"), "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": "filler", "name": name,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4", "endpoints": [endpoint(1), endpoint(2)],
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        }),
    ]
}
