//! The two file systems the controller works on: bpffs and cgroup v2.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::exit;
use crate::setup::apt::is_root;
use crate::ui;

const BPFFS: &str = "/sys/fs/bpf";
const CGROUP: &str = "/sys/fs/cgroup";

/// Checks for root and mounts what is missing.
pub(crate) fn ensure() -> Result<()> {
    if !is_root() {
        return Err(exit::machine(
            "loading BPF programs and making network namespaces takes root: run this as root \
             (`cargo xtask test --no-netns` runs the tests that do not need it)",
        ));
    }
    let table = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    if point_of(&table, "bpf", Some(BPFFS)).is_some() {
        ui::ok(format!("bpffs: {BPFFS}"));
    } else {
        mount("bpf", BPFFS)?;
    }
    if let Some(point) = point_of(&table, "cgroup2", None) {
        ui::ok(format!("cgroup v2: {point}"));
        return Ok(());
    }
    // Beside cgroup v1's controllers where these are mounted, else alone.
    let unified = format!("{CGROUP}/unified");
    let beside_v1 = point_of(&table, "tmpfs", Some(CGROUP)).is_some();
    mount("cgroup2", if beside_v1 { &unified } else { CGROUP })
}

fn mount(kind: &str, point: &str) -> Result<()> {
    if !Path::new(point).is_dir() {
        fs::create_dir(point).with_context(|| format!("cannot create {point}"))?;
    }
    exec::output(Command::new("mount").args(["-t", kind, kind, point])).map_err(|error| {
        exit::machine(format!(
            "{point} is no {kind} file system and cannot be made one: {error:#}"
        ))
    })?;
    ui::ok(format!("{kind}: mounted at {point}"));
    Ok(())
}

/// Where a file system of type `kind` is mounted, at `at` if given; `table` as in
/// `/proc/mounts` (device, mount point, type, options).
fn point_of<'a>(table: &'a str, kind: &str, at: Option<&str>) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, found) = (fields.next()?, fields.next()?);
        (found == kind && at.is_none_or(|at| at == point)).then_some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";

    #[test]
    fn hybrid_hierarchy_is_found() {
        assert_eq!(
            point_of(HYBRID, "cgroup2", None),
            Some("/sys/fs/cgroup/unified")
        );
        assert_eq!(point_of(HYBRID, "tmpfs", Some(CGROUP)), Some(CGROUP));
    }

    #[test]
    fn absent_bpffs_is_noticed() {
        assert_eq!(point_of(HYBRID, "bpf", Some(BPFFS)), None);
    }
}
