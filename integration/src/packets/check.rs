//! Runs scripts in the host pipeline and judges what came of them, there and in the kernel.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use lb_ebpf::{
    abi::{EventKey, PacketEvent},
    tables::FlowState,
};

use super::{
    flow::Half,
    host,
    script::{Case, Outcome, Row, Script, Seen, Step},
    verify,
    world::{SERVICE, World},
};

/// What is wrong with a case, if anything.
pub type Finding = (String, anyhow::Error);

/// Runs all cases of `rows` in the host pipeline.
pub fn on_host(rows: &[Row]) -> Vec<Finding> {
    each(rows, |script| host_script(&script))
}

pub(super) fn each(rows: &[Row], mut run: impl FnMut(Script) -> Result<()>) -> Vec<Finding> {
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
pub(super) fn prepare(world: &mut World, step: &Step) {
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

/// Compares what happened with what had to happen. What chance decides, only the comparison
/// with the host can tell.
pub(super) fn judge(step: &Step, seen: &Seen, world: &World) -> Result<()> {
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

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// All findings as one text.
pub fn report(findings: &[Finding]) -> String {
    let mut out = String::new();
    for (name, error) in findings {
        let _ = writeln!(out, "{name}: {error:#}");
    }
    out
}
