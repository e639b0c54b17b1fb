//! What the kernel says about pinned maps, and about the programs that use them.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use anyhow::{Context, Result};
use aya::{maps::MapInfo, programs::loaded_programs};

use crate::procfs::field;

/// The maps of the newest epoch below a directory of pins.
fn maps(pins: &Path) -> Result<Vec<MapInfo>> {
    let pins = lb_controller::pins::Pins::new(pins);
    let epoch = *pins.epochs()?.first().context("nothing is pinned")?;
    let files = fs::read_dir(pins.epoch(epoch))?;
    files
        .map(|file| Ok(MapInfo::from_pin(file?.path())?))
        .collect()
}

fn fdinfo(fd: impl AsFd) -> Result<String> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    Ok(fs::read_to_string(path)?)
}

/// Name and memory in bytes of each map pinned below `pins`, as the kernel accounts it.
pub fn map_memory(pins: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for map in maps(pins)? {
        let info = fdinfo(map.fd()?)?;
        let name = map.name_as_str().unwrap_or_default().to_owned();
        found.push((name, field(&info, "memlock").context("no memlock")?));
    }
    found.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(found)
}

/// How often a program ran, and for how long. Counted only while statistics are enabled.
#[derive(Clone, Debug)]
pub struct RunTime {
    /// Its name.
    pub name: String,
    /// Runs.
    pub runs: u64,
    /// Nanoseconds, all runs together.
    pub nanos: u64,
}

impl RunTime {
    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &[Self]) -> Self {
        let old = before.iter().find(|old| old.name == self.name);
        let (runs, nanos) = old.map_or((0, 0), |old| (old.runs, old.nanos));
        Self {
            name: self.name.clone(),
            runs: self.runs - runs,
            nanos: self.nanos - nanos,
        }
    }
}

/// The programs that use the maps pinned below `pins`.
pub fn run_times(pins: &Path) -> Result<Vec<RunTime>> {
    let ids: BTreeSet<u32> = maps(pins)?.iter().map(MapInfo::id).collect();
    let mut found = Vec::new();
    for program in loaded_programs() {
        // One that goes away while we look is not ours.
        let Ok(program) = program else { continue };
        let uses = program.map_ids().ok().flatten().unwrap_or_default();
        if !uses.iter().any(|id| ids.contains(id)) {
            continue;
        }
        let info = fdinfo(program.fd()?)?;
        let figure = |name| field(&info, name).with_context(|| format!("no {name}"));
        found.push(RunTime {
            name: program.name_as_str().unwrap_or_default().to_owned(),
            runs: figure("run_cnt")?,
            nanos: figure("run_time_ns")?,
        });
    }
    Ok(found)
}
