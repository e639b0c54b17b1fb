//! `lb-controller prepare`: what a node needs before `run` and what `run` is not allowed to
//! do in a container with few capabilities. Once a boot is enough; again changes nothing.
//!
//! Output: a BPF file system where `run` pins, and the ports of SNAT reserved.
#![forbid(unsafe_code)]

use std::{fs, io, path::Path};

use nix::mount::{MsFlags, mount};
use tracing::{info, warn};

use crate::{config::Prepare, daemon::DaemonError, devices, kernel};

/// Makes this node ready.
pub fn run(options: &Prepare) -> Result<(), DaemonError> {
    let place = &options.bpf_mount;
    if kernel::check_bpffs(place).is_err() {
        mount_bpffs(place).map_err(|source| DaemonError::Io {
            what: format!("cannot mount a BPF file system at {}", place.display()),
            source,
        })?;
        kernel::check_bpffs(place)?;
        info!(at = %place.display(), "mounted a BPF file system");
    }
    let ports = &options.snat_ports;
    match devices::reserve(ports) {
        Ok(()) => info!(
            first = ports.start(),
            last = ports.end(),
            "ports of SNAT are reserved"
        ),
        // `run` tries again, and goes on without.
        Err(error) => warn!(%error, "cannot reserve the ports of SNAT"),
    }
    Ok(())
}

fn mount_bpffs(place: &Path) -> io::Result<()> {
    if !place.exists() {
        fs::create_dir_all(place)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}
