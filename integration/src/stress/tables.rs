//! What the datapath of a node remembers and counts, read from its pinned maps.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::{HashMap, Map, MapData};
use lb_ebpf::abi::{ABI_VERSION, ConntrackEntry, ConntrackFlags, ConntrackKey, map};
use serde_json::Value;

use crate::{cluster::Node, proxy::lbctl};

/// The halves of flows in one table.
pub type Table = BTreeMap<ConntrackKey, ConntrackEntry>;

/// How often an iteration may start again because the element it stood at has gone.
const ROUNDS: usize = 8;

/// The newest set of maps; it grows by one with every swap.
pub fn epoch(node: &Node) -> Result<u32> {
    let pins = node.pins().join(format!("abi{ABI_VERSION}"));
    let entries = fs::read_dir(&pins).with_context(|| format!("reading {}", pins.display()))?;
    let numbers = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.parse().ok()
    });
    numbers.max().context("no maps are pinned")
}

/// Proven flows.
pub fn proven(node: &Node) -> Result<Table> {
    read(node, map::CONNTRACK)
}

/// Flows that are not proven.
pub fn half_open(node: &Node) -> Result<Table> {
    read(node, map::HALF_OPEN)
}

fn read(node: &Node, name: &str) -> Result<Table> {
    let path: PathBuf = node
        .pins()
        .join(format!("abi{ABI_VERSION}"))
        .join(epoch(node)?.to_string())
        .join(name);
    let data = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    let most = data.info()?.max_entries() as usize * ROUNDS;
    let table = if name == map::HALF_OPEN {
        Map::LruHashMap(data)
    } else {
        Map::HashMap(data)
    };
    let table: HashMap<_, ConntrackKey, ConntrackEntry> = table.try_into()?;
    Ok(table.iter().take(most).flatten().collect())
}

/// The client that a half is about, where it is the initiator's.
pub fn client(key: &ConntrackKey, entry: &ConntrackEntry) -> Option<IpAddr> {
    entry
        .has(ConntrackFlags::INITIATOR)
        .then(|| key.src.to_ip().to_canonical())
}

/// What happened to packets on a node, by name, as `lbctl drops` shows it.
pub fn events(node: &Node) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for row in event_rows(node)? {
        let name = row["event"].as_str().context("an event has a name")?;
        *sums.entry(name.to_owned()).or_default() += row["count"].as_u64().unwrap_or(0);
    }
    Ok(sums)
}

/// The rows of `lbctl drops`.
pub fn event_rows(node: &Node) -> Result<Vec<Value>> {
    let text = lbctl(node, &["drops", "--all", "-o", "json"])?;
    let mut answer: Value = serde_json::from_str(&text).context("reading what lbctl printed")?;
    match answer["events"].take() {
        Value::Array(rows) => Ok(rows),
        _ => bail!("lbctl drops printed {text}"),
    }
}

/// Events in one line.
pub fn in_words(events: &BTreeMap<String, u64>) -> String {
    let words: Vec<_> = events
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    words.join(", ")
}
