//! The controller at the size of large clusters: time, memory, and one change.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use lb_bench::{
    arena::Arena,
    cluster::{self, Size},
    controller::Controller,
    kernel,
    manifests::Manifests,
    procfs,
    report::{Format, Report},
    stats::Samples,
};
use lb_controller::{
    model::{Endpoint, Event, Settings},
    reconcile::Reconciler,
};

/// Measures lb-controller with 10,000 Services × 10 endpoints and 5,000 × 50.
#[derive(Debug, Parser)]
struct Cli {
    /// 2,000 × 10 only, and fewer repetitions
    #[arg(long)]
    quick: bool,
    /// Cold starts of each kind, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    starts: usize,
    /// How figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// What is allowed at a size.
struct Budget {
    size: Size,
    cpu_seconds: f64,
    anon_mb: f64,
    maps_mb: f64,
}

const fn budget(
    services: usize,
    endpoints: usize,
    cpu_seconds: f64,
    anon_mb: f64,
    maps_mb: f64,
) -> Budget {
    Budget {
        size: Size {
            services,
            endpoints,
        },
        cpu_seconds,
        anon_mb,
        maps_mb,
    }
}

const SIZES: [Budget; 2] = [
    budget(10_000, 10, 0.5, 40.0, 64.0),
    budget(5_000, 50, 2.0, 80.0, 160.0),
];
/// A fifth of the first; its budgets are not scaled down.
const QUICK: [Budget; 1] = [budget(2_000, 10, 0.5, 40.0, 64.0)];
const CHANGE_MICROS: f64 = 200.0;
const MB: f64 = 1e6;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let starts = if cli.quick { 2 } else { cli.starts.max(1) };
    let arena = Arena::new()?;
    let mut report = Report::new();
    let sizes: &[Budget] = if cli.quick { &QUICK } else { &SIZES };
    for budget in sizes {
        in_process(&arena, &mut report, budget, starts)?;
        as_a_process(&arena, &mut report, budget, starts)?;
    }
    report.print(cli.output)?;
    Ok(())
}

/// Store, desired, plan, writes, load and attach, without sources: what the budgets of
/// time are about.
fn in_process(arena: &Arena, report: &mut Report, budget: &Budget, starts: usize) -> Result<()> {
    let size = budget.size;
    report.section(format!("{size}, in process: events → maps"));
    let (mut taking_in, mut programming, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..starts {
        // The verifier's share, which does not depend on the size.
        let before = procfs::own_cpu_time()?;
        let one = Size {
            services: 1,
            endpoints: 1,
        };
        drop(cluster::program(arena, "scale", one, false)?);
        empty.push((procfs::own_cpu_time()?.saturating_sub(before)).as_secs_f64());
        arena.clean("scale")?;
        // Events are made before the clock starts: they stand for what a source sends.
        let events: Vec<Event> = cluster::events(size, false).collect();
        let mut reconciler = Reconciler::start(arena.place("scale")?, Settings::default())?;
        let before = procfs::own_cpu_time()?;
        for event in events {
            reconciler.observe(event);
        }
        let taken_in = procfs::own_cpu_time()?;
        let outcome = reconciler.reconcile()?;
        let done = procfs::own_cpu_time()?;
        taking_in.push((taken_in.saturating_sub(before)).as_secs_f64());
        programming.push((done.saturating_sub(taken_in)).as_secs_f64());
        if start + 1 == starts {
            let both = taking_in.iter().zip(&programming).map(|(a, b)| a + b);
            let cold = both.collect::<Samples>().median();
            report.most("cold start, CPU", cold, "s", budget.cpu_seconds);
            report.note("  of which taking in events", median(&taking_in), "s");
            report.note("  of which reconciling", median(&programming), "s");
            let what = "  the same for one Service: loading and attaching programs";
            report.note(what, median(&empty), "s");
            report.note("  writes", outcome.writes as f64, "");
            maps(arena, report, budget)?;
            changes(report, size, &mut reconciler)?;
        }
        drop(reconciler);
        arena.clean("scale")?;
    }
    Ok(())
}

fn median(samples: &[f64]) -> f64 {
    Samples::new(samples.to_vec()).median()
}

fn maps(arena: &Arena, report: &mut Report, budget: &Budget) -> Result<()> {
    let maps = kernel::map_memory(&arena.pins("scale"))?;
    let total: u64 = maps.iter().map(|(_, bytes)| bytes).sum();
    report.most(
        "memory of all maps",
        total as f64 / MB,
        "MB",
        budget.maps_mb,
    );
    for (name, bytes) in maps.iter().filter(|(_, bytes)| *bytes > 1 << 20) {
        report.note(format!("  {name}"), *bytes as f64 / MB, "MB");
    }
    Ok(())
}

type Change = fn(&mut Endpoint, IpAddr);

/// One EndpointSlice changes in one endpoint, 200 times each way.
fn changes(report: &mut Report, size: Size, reconciler: &mut Reconciler) -> Result<()> {
    const TIMES: usize = 200;
    let (name, slice) = cluster::first_slice(size)?;
    let other = cluster::endpoint_ip(size.services * size.endpoints + 1);
    let kinds: [(&str, Change); 2] = [
        ("an endpoint stops or starts serving", |endpoint, _| {
            endpoint.ready = false;
            endpoint.serving = false;
        }),
        ("an endpoint is replaced by another", |endpoint, other| {
            endpoint.addr = other;
        }),
    ];
    for (what, change) in kinds {
        let mut changed = slice.clone();
        let endpoint = changed.endpoints.first_mut().context("no endpoint")?;
        change(endpoint, other);
        let (mut micros, mut writes) = (Vec::new(), 0);
        for round in 0..TIMES {
            let to = if round % 2 == 0 { &changed } else { &slice };
            let event = Event::EndpointSlice(name.clone(), Some(to.clone()));
            let received = Instant::now();
            reconciler.observe(event);
            let outcome = reconciler.reconcile()?;
            micros.push(received.elapsed().as_secs_f64() * 1e6);
            writes = outcome.writes;
            // As the daemon does once a second: freed indices may be used again.
            reconciler.idle();
        }
        let micros = Samples::new(micros);
        report.most(
            format!("{what}: event → last write"),
            micros.median(),
            "µs",
            CHANGE_MICROS,
        );
        report.note("  its p99", micros.p99(), "µs");
        report.note("  its writes", writes as f64, "");
    }
    Ok(())
}

/// The real program, from exec to /healthz 200, with JSON to parse.
fn as_a_process(arena: &Arena, report: &mut Report, budget: &Budget, starts: usize) -> Result<()> {
    let size = budget.size;
    report.section(format!("{size}, lb-controller run --source-files"));
    let dir = arena.dir().join("manifests");
    let manifests = Manifests::write(&dir, size)?;
    let json = manifests.bytes()? as f64 / MB;
    report.note("JSON to read", json, "MB");
    let (mut wall, mut cpu, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..starts {
        let mut controller = Controller::start(arena, "process", manifests.dir())?;
        let started = controller.wait_healthy()?;
        let metrics = controller.metrics()?;
        wall.push(started.wall.as_secs_f64());
        cpu.push(started.cpu.as_secs_f64());
        sync.push(metrics.sync_seconds);
        if start + 1 == starts {
            report.note("start to /healthz 200, CPU", median(&cpu), "s");
            report.note("  of which reconciling (wall time)", median(&sync), "s");
            report.note("  wall time", median(&wall), "s");
            memory(&controller, report, budget)?;
            file_changes(&controller, report, &manifests)?;
        }
        drop(controller);
        arena.clean("process")?;
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn memory(controller: &Controller, report: &mut Report, budget: &Budget) -> Result<()> {
    // Buffers of the start may be given back a little later.
    std::thread::sleep(Duration::from_secs(1));
    let memory = controller.memory()?;
    report.most("RssAnon", memory.anon as f64 / MB, "MB", budget.anon_mb);
    report.note("RssFile", memory.file as f64 / MB, "MB");
    report.note("VmHWM", memory.peak as f64 / MB, "MB");
    Ok(())
}

/// A manifest is rewritten; the controller's own metric says what the reconciliation took.
fn file_changes(controller: &Controller, report: &mut Report, manifests: &Manifests) -> Result<()> {
    let (mut took, mut writes) = (Vec::new(), 0);
    for round in 0..10 {
        let before = controller.metrics()?;
        manifests.set_ready(round % 2 == 1)?;
        let change = controller.wait_synced(before)?;
        took.push(change.sync_seconds / change.syncs as f64 * 1e6);
        writes = change.writes;
    }
    let what = "an endpoint stops or starts serving: reconciliation";
    report.most(what, median(&took), "µs", CHANGE_MICROS);
    report.note("  its writes", writes as f64, "");
    Ok(())
}
