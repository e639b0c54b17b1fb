//! What a machine must offer before the demo touches it.

use std::{path::Path, process::Command};

use crate::{binaries, bpffs, cgroup};

/// Why the demo cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Namespaces and BPF need privileges.
    #[error("the demo makes network namespaces and loads BPF programs: run it as root")]
    NotRoot,
    /// iproute2 is missing.
    #[error("the program `ip` is missing: install iproute2")]
    NoIp,
    /// ethtool is missing.
    #[error("the program `ethtool` is missing: install ethtool")]
    NoEthtool,
    /// No cgroup v2.
    #[error("{0}")]
    NoCgroup2(String),
    /// No BPF file system.
    #[error("no BPF file system at {path} and none can be mounted: {reason}", path = bpffs::MOUNT_POINT)]
    NoBpffs {
        /// What the kernel said.
        reason: String,
    },
    /// Something of this repository is not built.
    #[error("{0}")]
    NotBuilt(String),
}

/// Looks for everything the demo needs, the cheapest first.
pub fn check() -> Result<(), MachineError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(MachineError::NotRoot);
    }
    if Command::new("ip").arg("-Version").output().is_err() {
        return Err(MachineError::NoIp);
    }
    if !installed("ethtool") {
        return Err(MachineError::NoEthtool);
    }
    cgroup::mount_point().map_err(|error| MachineError::NoCgroup2(error.to_string()))?;
    bpffs::ensure_mounted().map_err(|error| MachineError::NoBpffs {
        reason: format!("{error:#}"),
    })?;
    for program in ["lb-agent", "lb-controller", "lbctl"] {
        binaries::find(program).map_err(|error| MachineError::NotBuilt(error.to_string()))?;
    }
    Ok(())
}

/// Whether a program is on the search path.
pub(super) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
