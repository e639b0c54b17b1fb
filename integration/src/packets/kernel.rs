//! The real programs on real maps, run by `BPF_PROG_TEST_RUN` in a namespace of their own.

pub mod beside;
mod contents;
mod node;
pub mod stage;
pub mod timing;

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuHashMap},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use lb_controller::{
    kernel::{self, Features},
    loader::fit,
};
use lb_ebpf::abi::{
    Addr, AffinityEntry, AffinityKey, BackendEntry, BackendStats, Config, ConntrackEntry,
    ConntrackKey, Device, EventKey, FragmentKey, FragmentPorts, FrontendKey, LocalBackendKey,
    RejectBudget, ServiceEntry, ServiceRanges, ServiceStats, SourceRange, TICK_SHIFT, map,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    script::{Hook, Outcome, Seen, Step},
    topology::Port,
    world::CONNTRACK_CAPACITY,
};

/// Room for what a program adds to a frame.
const ROOM: usize = 256;

/// The programs and their maps.
pub struct Kernel {
    ebpf: Ebpf,
    services: HashMap<MapData, FrontendKey, ServiceEntry>,
    filter: Array<MapData, u64>,
    node_ports: Array<MapData, u64>,
    node_addresses: HashMap<MapData, Addr, u32>,
    maglev: Array<MapData, [u32; 2]>,
    backends: Array<MapData, BackendEntry>,
    backend_stats: Array<MapData, BackendStats>,
    service_stats: Array<MapData, ServiceStats>,
    affinity: HashMap<MapData, AffinityKey, AffinityEntry>,
    devices: HashMap<MapData, u32, Device>,
    ranges: LpmTrie<MapData, SourceRange, u32>,
    local_backends: HashMap<MapData, LocalBackendKey, u32>,
    proven: HashMap<MapData, ConntrackKey, ConntrackEntry>,
    half_open: HashMap<MapData, ConntrackKey, ConntrackEntry>,
    flow_sources: Array<MapData, u64>,
    fragments: HashMap<MapData, FragmentKey, FragmentPorts>,
    config: Array<MapData, Config>,
    vips: HashMap<MapData, Addr, u32>,
    service_ranges: Array<MapData, ServiceRanges>,
    events: PerCpuHashMap<MapData, EventKey, u64>,
    rejects: PerCpuArray<MapData, RejectBudget>,
    /// Words of `FILTER`, `NODE_PORTS` and `FLOW_SOURCES` that may not be zero.
    dirty: [HashSet<u32>; 3],
    /// The CPU that rows run on.
    cpu: usize,
    features: Features,
}

impl Kernel {
    /// Loads the object. Call it in the namespace of a [`stage::Stage`], on the thread
    /// that runs the rows: it stays on one CPU from now on, as per-CPU counters need.
    pub fn load(object: &[u8]) -> Result<Self> {
        let cpu = stay_on_a_cpu().context("staying on one CPU")?;
        let features = Features::probe();
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map::CONNTRACK, CONNTRACK_CAPACITY as u32);
        let object = fit(&mut loader, object, features);
        let mut ebpf = loader.load(&object).context("loading the object")?;
        for hook in Hook::ALL {
            let program = ebpf.program_mut(hook.program()).context("a program")?;
            match hook {
                Hook::Xdp => TryInto::<&mut Xdp>::try_into(program)?.load(),
                _ => TryInto::<&mut SchedClassifier>::try_into(program)?.load(),
            }
            .with_context(|| format!("loading {}", hook.program()))?;
        }
        let mut take = |name: &str| -> Result<Map> {
            ebpf.take_map(name)
                .with_context(|| format!("the object has no map {name}"))
        };
        Ok(Self {
            services: take(map::SERVICES)?.try_into()?,
            filter: take(map::FILTER)?.try_into()?,
            node_ports: take(map::NODE_PORTS)?.try_into()?,
            node_addresses: take(map::NODE_ADDRESSES)?.try_into()?,
            maglev: take(map::MAGLEV)?.try_into()?,
            backends: take(map::BACKENDS)?.try_into()?,
            backend_stats: take(map::BACKEND_STATS)?.try_into()?,
            service_stats: take(map::SERVICE_STATS)?.try_into()?,
            affinity: take(map::AFFINITY)?.try_into()?,
            devices: take(map::DEVICES)?.try_into()?,
            ranges: take(map::SOURCE_RANGES)?.try_into()?,
            local_backends: take(map::LOCAL_BACKENDS)?.try_into()?,
            proven: take(map::CONNTRACK)?.try_into()?,
            half_open: take(map::HALF_OPEN)?.try_into()?,
            flow_sources: take(map::FLOW_SOURCES)?.try_into()?,
            fragments: take(map::FRAGMENTS)?.try_into()?,
            config: take(map::CONFIG)?.try_into()?,
            vips: take(map::VIPS)?.try_into()?,
            service_ranges: take(map::SERVICE_RANGES)?.try_into()?,
            events: take(map::EVENTS)?.try_into()?,
            rejects: take(map::REJECTS)?.try_into()?,
            dirty: Default::default(),
            cpu,
            features,
            ebpf,
        })
    }

    /// Whether XDP programs can be run on a device's frame: before 5.15
    /// `BPF_PROG_TEST_RUN` takes no context for them.
    pub fn runs_xdp() -> bool {
        kernel::parse_release(&kernel::release()).is_some_and(|version| version >= (5, 15))
    }

    /// Whether flows are marked in `FLOW_SOURCES`, which takes bitwise atomics.
    pub fn marks_flow_sources(&self) -> bool {
        self.features.atomic_or
    }

    /// Runs the program of the step's hook on its frame.
    pub fn run(&self, step: &Step) -> Result<Seen> {
        let mut out = vec![0; step.frame.len() + ROOM];
        let (verdict, len, _) = self.test_run(step, 1, &mut out)?;
        out.truncate(len);
        let outcome = outcome(step, verdict, &out)?;
        if outcome == Outcome::Drop {
            out.clear();
        }
        Ok(Seen {
            outcome,
            frame: out,
        })
    }

    /// The program at XDP, for programs that call it.
    pub fn xdp(&self) -> Result<&Xdp> {
        let program = self.ebpf.program(Hook::Xdp.program());
        Ok(program.context("a program")?.try_into()?)
    }

    /// Mean time of one of `repeat` runs on the step's frame. Every run after the first sees
    /// what the one before has made of the frame.
    pub fn time(&self, step: &Step, repeat: u32) -> Result<Duration> {
        let mut out = vec![0; step.frame.len() + ROOM];
        Ok(self.test_run(step, repeat, &mut out)?.2)
    }

    fn test_run(&self, step: &Step, repeat: u32, out: &mut [u8]) -> Result<(u32, usize, Duration)> {
        let context = match step.hook {
            Hook::Xdp => xdp_context(step),
            _ => tc_context(step),
        };
        let options = TestRunOptions {
            data_in: Some(&step.frame),
            data_out: Some(out),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::default()
        };
        let program = self.ebpf.program(step.hook.program());
        let program = program.context("a program")?;
        let result = match step.hook {
            Hook::Xdp => TryInto::<&Xdp>::try_into(program)?.test_run(options),
            _ => TryInto::<&SchedClassifier>::try_into(program)?.test_run(options),
        };
        let result = result.with_context(|| format!("running {}", step.hook.program()))?;
        let len = result.data_size_out as usize;
        Ok((result.return_value, len, result.duration))
    }
}

/// Keeps this thread on the first CPU that it may use.
fn stay_on_a_cpu() -> Result<usize> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let mut cpus = 0..CpuSet::count();
    let cpu = cpus.find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpu = cpu.context("no CPU is allowed")?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(this_thread, &only)?;
    Ok(cpu)
}

/// `struct xdp_md`: the frame's end, and the device that it came in at.
fn xdp_context(step: &Step) -> Vec<u8> {
    let fields = [0, step.frame.len() as u32, 0, step.port.ifindex(), 0, 0];
    fields
        .iter()
        .flat_map(|field| field.to_ne_bytes())
        .collect()
}

/// `struct __sk_buff`: the device, and how many segments.
fn tc_context(step: &Step) -> Vec<u8> {
    // Offsets of fields are part of the kernel's ABI.
    const SIZE: usize = 192;
    const IFINDEX: usize = 40;
    const GSO_SEGS: usize = 164;
    let mut context = vec![0; SIZE];
    for (offset, value) in [(IFINDEX, step.port.ifindex()), (GSO_SEGS, step.segments)] {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// What a return code means, as far as it tells: neither program says through which device a
/// frame leaves; with XDP the MACs show it.
fn outcome(step: &Step, verdict: u32, frame: &[u8]) -> Result<Outcome> {
    const NEXT: u32 = u32::MAX;
    Ok(match (step.hook, verdict) {
        (Hook::Xdp, 2) | (_, NEXT) => Outcome::Pass,
        (Hook::Xdp, 1) | (_, 2) => Outcome::Drop,
        (Hook::Xdp, 3 | 4) => {
            let (mut dst, mut src) = ([0; 6], [0; 6]);
            dst.copy_from_slice(&frame[..6]);
            src.copy_from_slice(&frame[6..12]);
            let port = Port::ALL.into_iter().find(|port| port.to(0).1 == src);
            let port = port.context("sent with a source MAC of no device")?;
            ensure!(
                (port == step.port) == (verdict == 3),
                "return code {verdict} for a frame of {port:?}"
            );
            Outcome::Leaves(port, Some((dst, src)))
        }
        (_, 7) => match step.outcome {
            // TC says "redirect" and no more.
            Outcome::Leaves(..) | Outcome::Bounces => step.outcome,
            _ => bail!("{} redirects", step.hook.program()),
        },
        _ => bail!("{} returns {verdict}", step.hook.program()),
    })
}

/// The tick of the kernel's coarse clock.
fn tick() -> u32 {
    (clock(ClockId::CLOCK_MONOTONIC_COARSE) >> TICK_SHIFT) as u32
}

fn now_ns() -> u64 {
    clock(ClockId::CLOCK_MONOTONIC)
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id).expect("a clock that Linux has");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
