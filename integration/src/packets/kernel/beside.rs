//! Runs scripts in the kernel, and the host pipeline beside it.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context, Result, bail};
use lb_ebpf::{
    abi::ConntrackKey,
    hash::{Mixer, tuple_hash},
    tables::FlowState,
};

use super::{
    super::{
        check::{Finding, each, hex, judge, prepare},
        host,
        script::{Hook, Outcome, Row, Script, Seen},
        world::World,
    },
    Kernel, tick,
};

/// Numbers of chance that are tried until one leads to the port that the kernel has chosen.
const CHANCES: u32 = 4_000_000;
/// How often a script may be started again because a tick went by meanwhile.
const RESTARTS: u32 = 20;

/// Runs all cases of `rows` in the kernel, and the host pipeline beside it.
pub fn run(kernel: &mut Kernel, rows: &[Row]) -> Vec<Finding> {
    let runs_xdp = Kernel::runs_xdp();
    if !runs_xdp {
        println!("skipped: rows at XDP, whose programs take no context before Linux 5.15");
    }
    each(rows, |script| {
        if !runs_xdp && script.steps.iter().any(|step| step.hook == Hook::Xdp) {
            return Ok(());
        }
        kernel_script(kernel, &script)
    })
}

/// Runs a script in the kernel and on the host, again if a tick went by.
pub fn kernel_script(kernel: &mut Kernel, script: &Script) -> Result<()> {
    for _ in 0..RESTARTS {
        let start = tick();
        let result = both(kernel, script);
        if tick() == start {
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
        if !kernel.marks_flow_sources() {
            host_world.flow_sources.clone_from(&after.flow_sources);
        }
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
