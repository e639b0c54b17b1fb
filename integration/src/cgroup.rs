//! Control groups (v2 only): where socket hooks attach, and how a cluster's processes are found
//! and killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The mount point of cgroup v2: `/sys/fs/cgroup` on a unified host, a directory below it on a
/// hybrid one.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .context("no cgroup2 file system is mounted (mount -t cgroup2 none DIR)")
}

/// Creates a cgroup and its parents.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("creating cgroup {}", path.display()))
}

/// Kills every process in the cgroup and below, and no other, then removes the tree.
/// A cgroup that does not exist is fine.
pub fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    // cgroup.kill (Linux 5.14) takes the whole subtree at once, forks in flight included.
    let killed = fs::write(path.join("cgroup.kill"), "1");
    if killed.is_err() {
        kill_one_by_one(path)?;
    }
    // Killed processes leave the cgroup when they are gone, zombies included.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(e) => {
                return Err(e).with_context(|| format!("removing cgroup {}", path.display()));
            }
        }
    }
}

/// A cgroup directory is removed with rmdir, children first; its files go with it.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn kill_one_by_one(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            kill_one_by_one(&entry.path())?;
        }
    }
    let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| line.parse().ok()) {
        // Gone already is what we want.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    Ok(())
}
