//! The real programs on real maps, run by `BPF_PROG_TEST_RUN` in a namespace of their own.

use std::{collections::HashSet, hash::Hash, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuHashMap, lpm_trie::Key},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use lb_ebpf::{
    abi::{
        Addr, AffinityEntry, AffinityKey, BackendEntry, BackendStats, Config, ConntrackEntry,
        ConntrackKey, Device, EventKey, FragmentKey, FragmentPorts, FrontendKey, LocalBackendKey,
        RejectBudget, ServiceEntry, ServiceStats, SourceRange, SourceRangeKey, TICK_NS, TICK_SHIFT,
        map,
    },
    hash::{filter_bit, node_port_bit},
    open::source_key,
    tables::FlowState,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    script::{Hook, Outcome, Seen, Step},
    topology::Port,
    world::{CONNTRACK_CAPACITY, NOW, NOW_NS, World},
};

/// Most backends, table entries and services of a row, and one more.
const SMALL: u32 = 64;
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
    events: PerCpuHashMap<MapData, EventKey, u64>,
    rejects: PerCpuArray<MapData, RejectBudget>,
    /// Words of `FILTER`, `NODE_PORTS` and `FLOW_SOURCES` that may not be zero.
    dirty: [HashSet<u32>; 3],
}

impl Kernel {
    /// Loads the object. Call it in the namespace of [`super::topology::build`], on the thread
    /// that runs the rows: it stays on one CPU from now on, as per-CPU counters need.
    pub fn load(object: &[u8]) -> Result<Self> {
        let mut cpu = CpuSet::new();
        cpu.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &cpu).context("staying on one CPU")?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::CONNTRACK, CONNTRACK_CAPACITY as u32)
            .load(object)
            .context("loading the object")?;
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
            events: take(map::EVENTS)?.try_into()?,
            rejects: take(map::REJECTS)?.try_into()?,
            dirty: Default::default(),
            ebpf,
        })
    }

    /// Makes the maps hold `world`, and nothing else.
    pub fn install(&mut self, world: &World) -> Result<()> {
        let mut world = world.clone();
        world.shift(tick().wrapping_sub(NOW));
        set(&mut self.services, &world.services)?;
        set(&mut self.node_addresses, &world.node_addresses)?;
        set(&mut self.devices, &world.devices)?;
        set(&mut self.local_backends, &world.local_backends)?;
        set(&mut self.fragments, &world.fragments)?;
        set(&mut self.proven, &world.flows.proven)?;
        set(&mut self.half_open, &world.flows.half_open)?;
        let late = now_ns().wrapping_sub(u64::from(tick()) << TICK_SHIFT);
        let late = late.min(TICK_NS - 1);
        let shifted = |entry: &AffinityEntry| AffinityEntry {
            last_used_ns: entry.last_used_ns.wrapping_add(late),
            ..*entry
        };
        let affinity = world
            .affinity
            .iter()
            .map(|(k, v)| (*k, shifted(v)))
            .collect();
        set(&mut self.affinity, &affinity)?;
        let ports = world.node_ports.iter();
        let port_bits = ports.filter_map(|(protocol, port)| node_port_bit(*protocol, *port));
        let [filter, node_ports, sources] = &mut self.dirty;
        set_bits(&mut self.filter, filter, world.filter().into_iter())?;
        set_bits(&mut self.node_ports, node_ports, port_bits)?;
        set_bits(
            &mut self.flow_sources,
            sources,
            world.flow_sources.iter().copied(),
        )?;
        self.install_arrays(&world)?;
        self.install_ranges(&world)
    }

    fn install_arrays(&mut self, world: &World) -> Result<()> {
        for index in 0..SMALL {
            let at = index as usize;
            let slot = |at: usize| world.slots.get(at).copied().unwrap_or(0);
            self.maglev
                .set(index, [slot(at * 2), slot(at * 2 + 1)], 0)?;
            let backend = world.backends.get(at).copied();
            let backend = backend.unwrap_or(BackendEntry::FREE);
            self.backends.set(index, backend, 0)?;
            let opened = world.backend_stats.get(&index).copied().unwrap_or(0);
            let stats = BackendStats { opened, closed: 0 };
            self.backend_stats.set(index, stats, 0)?;
            let [opened, affinity_hits, refused, dropped] =
                world.service_stats.get(&index).copied().unwrap_or_default();
            let stats = ServiceStats {
                opened,
                affinity_hits,
                refused,
                dropped,
                ..ServiceStats::default()
            };
            self.service_stats.set(index, stats, 0)?;
        }
        let mut config = world.config();
        config.takeover_until = config.takeover_until.wrapping_add(tick().wrapping_sub(NOW));
        self.config.set(0, config, 0)?;
        let mut spent: Vec<RejectBudget> = self.rejects.get(&0, 0)?.to_vec();
        spent[0] = world.rejects;
        self.rejects.set(0, spent.try_into()?, 0)?;
        let keys: Vec<EventKey> = self.events.keys().collect::<Result<_, _>>()?;
        for key in keys {
            self.events.remove(&key)?;
        }
        for (key, count) in &world.events {
            let mut counts = vec![0; nr_cpus().map_err(|(_, error)| error)?];
            counts[0] = *count;
            self.events.insert(*key, counts.try_into()?, 0)?;
        }
        Ok(())
    }

    fn install_ranges(&mut self, world: &World) -> Result<()> {
        let keys: Vec<Key<SourceRange>> = self.ranges.keys().collect::<Result<_, _>>()?;
        for key in keys {
            self.ranges.remove(&key)?;
        }
        for (service_id, addr, bits) in &world.ranges {
            let range = SourceRange {
                service_id: *service_id,
                addr: *addr,
            };
            let bits = SourceRangeKey::FULL - 128 + bits;
            self.ranges.insert(&Key::new(bits, range), 0, 0)?;
        }
        Ok(())
    }

    /// Reads what packets leave back into `world`.
    pub fn read_back(&mut self, world: &mut World) -> Result<()> {
        for (table, records) in [
            (FlowState::Proven, &self.proven),
            (FlowState::HalfOpen, &self.half_open),
        ] {
            *world.flows.table_mut(table) = records.iter().collect::<Result<_, _>>()?;
        }
        world.fragments = self.fragments.iter().collect::<Result<_, _>>()?;
        world.affinity = self.affinity.iter().collect::<Result<_, _>>()?;
        world.rejects = self.rejects.get(&0, 0)?[0];
        world.shift(NOW.wrapping_sub(tick()));
        for entry in world.affinity.values_mut() {
            // To whole ticks of age. In a script that is about to start again because a tick
            // went by, it may be later than now.
            let late = NOW_NS + TICK_NS - 1;
            let age = late.saturating_sub(entry.last_used_ns) / TICK_NS;
            entry.last_used_ns = NOW_NS - age * TICK_NS;
        }
        world.events.clear();
        for pair in self.events.iter() {
            let (key, counts) = pair?;
            world.events.insert(key, counts.iter().sum());
        }
        for index in 0..SMALL {
            let stats = self.service_stats.get(&index, 0)?;
            let counts = [
                stats.opened,
                stats.affinity_hits,
                stats.refused,
                stats.dropped,
            ];
            if counts != [0; 4] {
                world.service_stats.insert(index, counts);
            }
            let opened = self.backend_stats.get(&index, 0)?.opened;
            if opened != 0 {
                world.backend_stats.insert(index, opened);
            }
        }
        // Bits are set for flows only, all of which are in a table when their packet is done.
        let tables = [&world.flows.proven, &world.flows.half_open];
        let keys = tables.into_iter().flat_map(|table| table.keys());
        let mut words = self.dirty[2].clone();
        words.extend(keys.map(|key| filter_bit(&source_key(key)).0));
        world.flow_sources.clear();
        for word in &words {
            let bits = self.flow_sources.get(word, 0)?;
            let set = (0..64).map(|bit| 1 << bit).filter(|bit| bits & bit != 0);
            world.flow_sources.extend(set.map(|bit| (*word, bit)));
        }
        self.dirty[2] = words;
        Ok(())
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
pub fn tick() -> u32 {
    (clock(ClockId::CLOCK_MONOTONIC_COARSE) >> TICK_SHIFT) as u32
}

fn now_ns() -> u64 {
    clock(ClockId::CLOCK_MONOTONIC)
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id).expect("a clock that Linux has");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Makes a map hold `wanted` and nothing else.
fn set<K: Pod + Hash + Eq, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    wanted: &std::collections::HashMap<K, V>,
) -> Result<()> {
    let keys: Vec<K> = map.keys().collect::<Result<_, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    for (key, value) in wanted {
        map.insert(key, value, 0)?;
    }
    Ok(())
}

/// Makes a bitmap hold `bits` and nothing else; `dirty` are the words that may not be zero.
fn set_bits(
    map: &mut Array<MapData, u64>,
    dirty: &mut HashSet<u32>,
    bits: impl Iterator<Item = (u32, u64)>,
) -> Result<()> {
    let mut words: std::collections::HashMap<u32, u64> =
        dirty.iter().map(|word| (*word, 0)).collect();
    for (word, bit) in bits {
        *words.entry(word).or_default() |= bit;
    }
    for (word, value) in &words {
        map.set(*word, value, 0)?;
    }
    words.retain(|_, value| *value != 0);
    *dirty = words.into_keys().collect();
    Ok(())
}
