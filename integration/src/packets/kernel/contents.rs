//! What is in the maps: filled from a [`World`], and read back into one.

use std::{collections::HashSet, hash::Hash};

use anyhow::Result;
use aya::{
    Pod,
    maps::{Array, HashMap, MapData, lpm_trie::Key},
    util::nr_cpus,
};
use lb_ebpf::{
    abi::{
        AffinityEntry, BackendEntry, BackendStats, EventKey, RejectBudget, ServiceStats,
        SourceRange, SourceRangeKey, TICK_NS, TICK_SHIFT,
    },
    hash::{filter_bit, node_port_bit},
    open::source_key,
    tables::FlowState,
};

use super::{
    super::world::{NOW, NOW_NS, World},
    Kernel, now_ns, tick,
};

/// Most backends, table entries and services of a row, and one more.
const SMALL: u32 = 64;

impl Kernel {
    /// Makes the maps hold `world`, and nothing else.
    pub fn install(&mut self, world: &World) -> Result<()> {
        let mut world = world.clone();
        world.shift(tick().wrapping_sub(NOW));
        set(&mut self.services, &world.services)?;
        set(&mut self.node_addresses, &world.node_addresses)?;
        set(&mut self.devices, &world.devices)?;
        set(&mut self.local_backends, &world.local_backends)?;
        set(&mut self.vips, &world.vips)?;
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
        self.service_ranges.set(0, world.ranges_in_place(), 0)?;
        let mut spent: Vec<RejectBudget> = self.rejects.get(&0, 0)?.to_vec();
        spent[self.cpu] = world.rejects;
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
        world.rejects = self.rejects.get(&0, 0)?[self.cpu];
        world.shift(NOW.wrapping_sub(tick()));
        for entry in world.affinity.values_mut() {
            // To whole ticks of age. In a script that is about to start again because a tick
            // went by, it may be later than now.
            let late = NOW_NS + TICK_NS - 1;
            let age = late.saturating_sub(entry.last_used_ns) / TICK_NS;
            entry.last_used_ns = NOW_NS - age * TICK_NS;
        }
        world.events.clear();
        for pair in &self.events {
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
