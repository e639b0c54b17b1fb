//! The BPF file system, where a node's proxy pins its maps and links.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::statfs,
};

use crate::teardown;

/// Where bpffs is expected, and mounted if it is missing.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` of `<linux/magic.h>`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Mounts bpffs on [`MOUNT_POINT`] unless it is there.
pub fn ensure_mounted() -> Result<()> {
    // Two processes that both find it missing would mount it twice, one over the other.
    let _lock = teardown::lock()?;
    if is_bpffs(Path::new(MOUNT_POINT)) {
        return Ok(());
    }
    mount(
        Some("bpf"),
        MOUNT_POINT,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mounting bpffs on {MOUNT_POINT}"))
}

/// Whether `path` lies on a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type().0 == BPF_FS_MAGIC)
}

/// Removes a directory of pins. What is pinned there and attached nowhere else is detached.
pub fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::remove_dir_all(path).with_context(|| format!("removing pins in {}", path.display()))
}
