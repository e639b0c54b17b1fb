//! Runs scripts: in the host pipeline, in the kernel, and one beside the other.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context, Result, bail, ensure};
use lb_ebpf::{
    abi::{ConntrackKey, EventKey, PacketEvent},
    hash::{Mixer, tuple_hash},
    tables::FlowState,
};

use super::{
    flow::Half,
    host,
    kernel::{self, Kernel},
    script::{Case, Outcome, Row, Script, Seen, Step},
    verify,
    world::{SERVICE, World},
};

/// Numbers of chance that are tried until one leads to the port that the kernel has chosen.
const CHANCES: u32 = 4_000_000;
/// How often a script may be started again because a tick went by meanwhile.
const RESTARTS: u32 = 5;

/// What is wrong with a case, if anything.
pub type Finding = (String, anyhow::Error);

/// Runs all cases of `rows` in the host pipeline.
pub fn on_host(rows: &[Row]) -> Vec<Finding> {
    each(rows, |script| host_script(&script))
}

/// Runs all cases of `rows` in the kernel, and the host pipeline beside it.
pub fn on_kernel(kernel: &mut Kernel, rows: &[Row]) -> Vec<Finding> {
    each(rows, |script| kernel_script(kernel, &script))
}

fn each(rows: &[Row], mut run: impl FnMut(Script) -> Result<()>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in rows {
        for case in row.cases() {
            if let Err(error) = run((row.script)(case)) {
                findings.push((name(row, case), error));
            }
        }
    }
    findings
}

fn name(row: &Row, case: Case) -> String {
    let Case {
        hook,
        family,
        protocol,
    } = case;
    format!("{} ({hook:?}, {family:?}, {protocol:?})", row.name)
}

/// Prepares the world for a step; events are counted step by step.
fn prepare(world: &mut World, step: &Step) {
    world.age(step.after);
    world.events.clear();
    if let Some(change) = step.change {
        *world = change(std::mem::take(world));
    }
}

fn host_script(script: &Script) -> Result<()> {
    let mut world = script.world.clone();
    for (index, step) in script.steps.iter().enumerate() {
        prepare(&mut world, step);
        let seen = host::run(&mut world, step, 0);
        judge(step, &seen, &world).with_context(|| format!("host, packet {}", index + 1))?;
    }
    Ok(())
}

/// Runs a script in the kernel and on the host, again if a tick went by.
pub fn kernel_script(kernel: &mut Kernel, script: &Script) -> Result<()> {
    for _ in 0..RESTARTS {
        let start = kernel::tick();
        let result = both(kernel, script);
        if kernel::tick() == start {
            return result;
        }
    }
    bail!("no script ended in the tick in which it began")
}

fn both(kernel: &mut Kernel, script: &Script) -> Result<()> {
    let mut world = script.world.clone();
    for (index, step) in script.steps.iter().enumerate() {
        let number = || format!("packet {}", index + 1);
        prepare(&mut world, step);
        kernel.install(&world).with_context(number)?;
        let seen = kernel.run(step).with_context(number)?;
        let mut after = world.clone();
        kernel.read_back(&mut after).with_context(number)?;
        judge(step, &seen, &after).with_context(|| format!("kernel, packet {}", index + 1))?;
        let random = match &step.chance {
            Some(key) => chance(key, &after).with_context(number)?,
            None => 0,
        };
        let mut host_world = world.clone();
        let host_seen = host::run(&mut host_world, step, random);
        let difference = compare(&seen, &after, &host_seen, &host_world);
        if let Some(difference) = difference {
            bail!("packet {}: kernel and host differ:{difference}", index + 1);
        }
        world = after;
    }
    Ok(())
}

/// A random number that makes the second port that is tried for the flow of `key` the one that
/// it has got. (The first is the client's own.)
fn chance(key: &ConntrackKey, world: &World) -> Result<u32> {
    const FIRST: u64 = 1024;
    let entry = world.flows.half_open.get(key).context("no flow was made")?;
    let wanted = u64::from(entry.src_port.get());
    let mixer = Mixer::new(tuple_hash(key));
    let leads = |random: &u32| {
        let start = mixer.mix(u64::from(*random)).finish();
        let point = u64::from(start.wrapping_add(0x9e37_79b9));
        FIRST + ((point * (65_536 - FIRST)) >> 32) == wanted
    };
    let mut randoms = 0..CHANCES;
    randoms.find(leads).context("no chance leads to the port")
}

/// Compares what happened with what had to happen. What chance decides, only the comparison
/// with the host can tell.
fn judge(step: &Step, seen: &Seen, world: &World) -> Result<()> {
    let becomes = match (&step.becomes, &step.chance) {
        (_, Some(_)) => &seen.frame,
        (Some(becomes), None) => becomes,
        (None, None) => &step.frame,
    };
    ensure!(
        seen.outcome == step.outcome,
        "outcome is {:?}, expected {:?}; counted {:?}",
        seen.outcome,
        step.outcome,
        events(world)
    );
    let same = seen.frame == *becomes;
    ensure!(
        same,
        "the frame differs:\n  is       {}\n  expected {}",
        hex(&seen.frame),
        hex(becomes)
    );
    judge_sound(step, seen)?;
    judge_counts(step, world)?;
    judge_flows(step, world)
}

/// A sound frame stays sound.
fn judge_sound(step: &Step, seen: &Seen) -> Result<()> {
    if seen.outcome == Outcome::Drop || verify::sound(&step.frame).is_err() {
        return Ok(());
    }
    verify::sound(&seen.frame).with_context(|| format!("not sound: {}", hex(&seen.frame)))
}

fn judge_counts(step: &Step, world: &World) -> Result<()> {
    let mut expected: Vec<EventKey> = Vec::new();
    for (event, detail) in &step.counts {
        expected.push(EventKey {
            ifindex: step.port.ifindex(),
            event: *event as u32,
            detail: *detail,
        });
    }
    expected.sort();
    let mut counted = Vec::new();
    for (key, count) in &world.events {
        counted.extend((0..*count).map(|_| *key));
    }
    counted.sort();
    ensure!(
        counted == expected,
        "counted {:?}, expected {:?}",
        events(world),
        step.counts
    );
    let service = world
        .service_stats
        .get(&SERVICE)
        .copied()
        .unwrap_or_default();
    ensure!(
        step.service.is_none_or(|expected| expected == service),
        "of the service was counted {service:?}, expected {:?}",
        step.service
    );
    Ok(())
}

fn judge_flows(step: &Step, world: &World) -> Result<()> {
    let Some(flows) = &step.flows else {
        return Ok(());
    };
    for table in [FlowState::Proven, FlowState::HalfOpen] {
        let mut expected: Vec<Half> = Vec::new();
        for flow in flows.iter().filter(|flow| flow.table == table) {
            expected.extend(flow.halves());
        }
        let mut there: Vec<Half> = Vec::new();
        for (key, entry) in world.flows.table(table) {
            there.push(Half {
                key: *key,
                becomes: entry.rewritten(key.protocol),
                flags: entry.flags,
                state: entry.state,
            });
        }
        expected.sort_by_key(|half| half.key);
        there.sort_by_key(|half| half.key);
        ensure!(
            there == expected,
            "{table:?} flows are {}\n  expected {}",
            halves(&there),
            halves(&expected)
        );
    }
    Ok(())
}

fn events(world: &World) -> Vec<(&'static str, u32, u64)> {
    let name = |number| PacketEvent::from_number(number).map_or("?", PacketEvent::name);
    let events = world.events.iter();
    events
        .map(|(key, count)| (name(key.event), key.detail, *count))
        .collect()
}

fn halves(halves: &[Half]) -> String {
    let mut out = String::new();
    let end = |addr: lb_ebpf::abi::Addr, port: lb_ebpf::abi::Port| {
        std::net::SocketAddr::new(addr.to_ip(), port.get())
    };
    for half in halves {
        let (key, to) = (half.key, half.becomes);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n    {} -> {} becomes {} -> {} flags {:#x} state {:#x}",
            end(key.src, key.src_port),
            end(key.dst, key.dst_port),
            end(to.src, to.src_port),
            end(to.dst, to.dst_port),
            half.flags,
            half.state
        );
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// What differs between the kernel and the host.
fn compare(kernel: &Seen, after: &World, host: &Seen, host_after: &World) -> Option<String> {
    let mut out = String::new();
    // Through which device TC sends is not told; the records say it.
    let unseen = matches!(kernel.outcome, Outcome::Leaves(..) | Outcome::Bounces)
        && matches!(host.outcome, Outcome::Leaves(..) | Outcome::Bounces);
    if kernel.outcome != host.outcome && !unseen {
        let _ = write!(out, "\n  outcome {:?} / {:?}", kernel.outcome, host.outcome);
    }
    if kernel.frame != host.frame {
        let (kernel, host) = (hex(&kernel.frame), hex(&host.frame));
        let _ = write!(out, "\n  frame {kernel}\n        {host}");
    }
    macro_rules! same {
        ($($field:ident),*) => {$(
            if after.$field != host_after.$field {
                let (kernel, host) = (&after.$field, &host_after.$field);
                let _ = write!(out, "\n  {}\n    {kernel:?}\n    {host:?}", stringify!($field));
            }
        )*};
    }
    for table in [FlowState::Proven, FlowState::HalfOpen] {
        let (kernel, host) = (after.flows.table(table), host_after.flows.table(table));
        let keys = kernel.keys().chain(host.keys());
        let differ = keys.filter(|key| kernel.get(*key) != host.get(*key));
        for key in differ.collect::<BTreeSet<_>>() {
            let (kernel, host) = (kernel.get(key), host.get(key));
            let _ = write!(out, "\n  {table:?} {key:?}\n    {kernel:?}\n    {host:?}");
        }
    }
    same!(
        flow_sources,
        fragments,
        affinity,
        events,
        service_stats,
        backend_stats,
        rejects
    );
    (!out.is_empty()).then_some(out)
}

/// All findings as one text.
pub fn report(findings: &[Finding]) -> String {
    let mut out = String::new();
    for (name, error) in findings {
        let _ = writeln!(out, "{name}: {error:#}");
    }
    out
}
