//! What /proc says about a process.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike,
    unistd::{SysconfVar, sysconf},
};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Private memory: heap and stacks.
    pub anon: u64,
    /// Mapped files and mapped BPF arrays.
    pub file: u64,
    /// Most that ever was resident.
    pub peak: u64,
}

/// User and system time of all threads of `pid`, to a clock tick (10 ms).
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces: fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// User and system time of this process.
pub fn own_cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros as u64))
}

/// Memory of `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name: &str| field(&status, name).map(|kib| kib * 1024);
    Ok(Memory {
        anon: bytes("RssAnon").context("no RssAnon")?,
        file: bytes("RssFile").context("no RssFile")?,
        peak: bytes("VmHWM").context("no VmHWM")?,
    })
}

/// The number after `name:` on a line of its own.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "RssAnonX:\t 1 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(field(text, "RssAnon"), Some(12));
        assert_eq!(field(text, "Rss"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().peak > 0);
        assert!(cpu_time(pid).unwrap() < Duration::from_secs(3600));
    }
}
