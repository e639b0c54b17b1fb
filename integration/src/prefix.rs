//! The name that everything of one cluster starts with.
//!
//! `lb<pid>-<start>-<random>`: the creator's process id, its start time in clock ticks since boot
//! (so that a reused pid is not mistaken for the creator) and a random suffix (so that one
//! process can build several clusters). Whoever finds such a name can tell whether its creator
//! still lives.

use std::{
    fmt, fs,
    hash::{BuildHasher, RandomState},
    process,
};

use anyhow::{Context, Result};

/// A cluster's unique name; see the module documentation for its form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// A new name owned by the calling process.
    pub fn new() -> Result<Self> {
        let pid = process::id();
        let start = start_time(pid).context("reading the start time of this process")?;
        // Every `RandomState` has fresh keys, so the hash of a constant is a random number.
        let random = RandomState::new().hash_one(()) & 0x00ff_ffff;
        Ok(Self(format!("lb{pid}-{start}-{random:06x}")))
    }

    /// The prefix at the head of `name`, if `name` was made by this crate.
    pub fn of(name: &str) -> Option<Self> {
        let mut parts = name.splitn(4, '-');
        let pid = parts.next()?.strip_prefix("lb")?;
        let (start, random) = (parts.next()?, parts.next()?);
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let hex = random.len() == 6 && random.bytes().all(|b| b.is_ascii_hexdigit());
        (digits(pid) && digits(start) && hex).then(|| Self(format!("lb{pid}-{start}-{random}")))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the process that made this name still runs.
    pub fn creator_alive(&self) -> bool {
        let mut parts = self.0.trim_start_matches("lb").split('-');
        let pid = parts.next().and_then(|p| p.parse().ok());
        let start = parts.next().and_then(|s| s.parse().ok());
        pid.and_then(start_time)
            .is_some_and(|now| Some(now) == start)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot. The command name before it may
/// contain spaces and parentheses, so fields are counted from its closing one.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    // A zombie holds no resources: its clusters are orphans.
    let mut fields = after_name.split_whitespace();
    (fields.next()? != "Z").then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_prefix_is_alive_and_found_at_the_head_of_names() {
        let prefix = Prefix::new().unwrap();
        assert!(prefix.creator_alive());
        assert_eq!(
            Prefix::of(&format!("{prefix}-node-1")),
            Some(prefix.clone())
        );
        assert_eq!(Prefix::of(prefix.as_str()), Some(prefix));
    }

    #[test]
    fn a_reused_pid_is_not_its_creator() {
        let name = format!("lb{}-1-abcdef", process::id());
        assert!(!Prefix::of(&name).unwrap().creator_alive());
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in [
            "lb",
            "lbx-1-abcdef",
            "cni-1234-5678",
            "lb1-2",
            "lb1-2-zzzzzz",
            "lb1-2-abc",
        ] {
            assert_eq!(Prefix::of(name), None, "{name}");
        }
    }
}
