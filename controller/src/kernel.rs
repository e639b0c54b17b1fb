//! What this kernel and this machine offer, probed once at start.

use std::{os::unix::fs::MetadataExt, path::Path};

use aya::{
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::is_helper_supported,
};
use aya_obj::generated::bpf_func_id::{BPF_FUNC_ktime_get_coarse_ns, BPF_FUNC_set_retval};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::sys;

/// The oldest kernel on which the programs load: 5.10, the first with
/// `bpf_sk_storage_get` in socket hooks and links for all of them.
const OLDEST: (u8, u8) = (5, 10);

/// Optional features of the kernel; what is missing degrades as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "kernels have each feature or not, whatever the others"
)]
pub struct Features {
    /// `bpf_ktime_get_coarse_ns` (5.11): a clock that costs packets next to nothing.
    pub coarse_clock: bool,
    /// Bitwise atomics (5.12): packets that are nobody's are told apart without a lookup.
    pub atomic_or: bool,
    /// XDP for packets of several buffers (5.18).
    pub xdp_frags: bool,
    /// `bpf_set_retval` (5.18): refused connections return ECONNREFUSED and
    /// EHOSTUNREACH instead of EPERM.
    pub set_retval: bool,
    /// TCX links (6.6): programs at devices are replaced and found again like all others,
    /// instead of being classic filters.
    pub tcx: bool,
}

impl Features {
    /// Asks the kernel.
    pub fn probe() -> Self {
        let has = |kind, helper| is_helper_supported(kind, helper).unwrap_or(false);
        Self {
            coarse_clock: has(ProgramType::SchedClassifier, BPF_FUNC_ktime_get_coarse_ns),
            atomic_or: sys::has_atomic_or(),
            xdp_frags: sys::has_xdp_frags(),
            set_retval: has(ProgramType::CgroupSockAddr, BPF_FUNC_set_retval),
            // Every namespace has a loopback device; older kernels do not know the question.
            tcx: SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok(),
        }
    }
}

/// Why this machine cannot run the datapath. Each is one sentence and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Too old a kernel.
    #[error(
        "this kernel is {found}: the datapath needs Linux {major}.{minor} or newer",
        major = OLDEST.0, minor = OLDEST.1
    )]
    Kernel {
        /// What `uname` says.
        found: String,
    },
    /// Too few privileges.
    #[error(
        "too few privileges: missing {missing}; run as root, or grant these capabilities \
         (BPF and PERFMON load programs, NET_ADMIN attaches them)"
    )]
    Privileges {
        /// The capabilities that are missing.
        missing: String,
    },
    /// A filter of system calls.
    #[error(
        "this process may not call bpf(2) although it has the capabilities: the seccomp profile of \
         its container forbids it (as RuntimeDefault does in older runtimes); use Unconfined, or a \
         profile that allows bpf"
    )]
    Seccomp,
    /// No BPF file system.
    #[error(
        "{path} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf` or \
         name another directory with --bpffs"
    )]
    NoBpffs {
        /// What was looked at.
        path: String,
    },
    /// No cgroup v2.
    #[error(
        "{path} is not a cgroup v2 directory: mount one with `mount -t cgroup2 none DIR` and name \
         it with --cgroup"
    )]
    NoCgroup2 {
        /// What was looked at.
        path: String,
    },
}

/// Checks the kernel's version, as `uname` says it.
pub fn check_kernel() -> Result<(), Unsuitable> {
    // Tests pretend to run on another kernel; the variable is of no use for anything else.
    let found = std::env::var("LB_TEST_KERNEL_RELEASE").unwrap_or_else(|_| release());
    let version = parse_release(&found);
    if version.is_some_and(|version| version < OLDEST) {
        return Err(Unsuitable::Kernel { found });
    }
    Ok(())
}

/// Major and minor version in a release, as `uname` says it.
pub fn parse_release(release: &str) -> Option<(u8, u8)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Checks the effective capabilities, and that nothing else keeps bpf(2) from being called.
pub fn check_privileges() -> Result<(), Unsuitable> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_PERFMON: u64 = 1 << 38;
    const CAP_BPF: u64 = 1 << 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let wanted = [
        (CAP_BPF | CAP_SYS_ADMIN, "CAP_BPF"),
        (CAP_PERFMON | CAP_SYS_ADMIN, "CAP_PERFMON"),
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(any, _)| effective & any == 0)
        .map(|(_, name)| *name)
        .collect();
    if !missing.is_empty() {
        return Err(Unsuitable::Privileges {
            missing: missing.join(", "),
        });
    }
    if sys::may_call_bpf() {
        Ok(())
    } else {
        Err(Unsuitable::Seccomp)
    }
}

/// Checks that `path`, or the nearest directory above that exists, is on a bpffs.
pub fn check_bpffs(path: &Path) -> Result<(), Unsuitable> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    match statfs(existing) {
        Ok(fs) if fs.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        _ => Err(Unsuitable::NoBpffs {
            path: path.display().to_string(),
        }),
    }
}

/// Checks that `path` is a directory of a cgroup v2 hierarchy.
pub fn check_cgroup2(path: &Path) -> Result<(), Unsuitable> {
    match statfs(path) {
        // The files in it are on the same file system.
        Ok(fs) if fs.filesystem_type() == CGROUP2_SUPER_MAGIC && path.is_dir() => Ok(()),
        _ => Err(Unsuitable::NoCgroup2 {
            path: path.display().to_string(),
        }),
    }
}

/// The root of the cgroup v2 hierarchy that is mounted here, if any.
pub fn find_cgroup2() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, dir, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| dir.into())
    })
}

/// Whether `cgroup` holds this process itself without being the root of the hierarchy: in
/// a container with a cgroup namespace of its own, what looks like the root is this.
pub fn is_own_cgroup(cgroup: &Path) -> bool {
    /// Inode number of the root of cgroup v2.
    const ROOT: u64 = 1;
    let root = std::fs::metadata(cgroup).is_ok_and(|directory| directory.ino() == ROOT);
    let processes = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let me = std::process::id().to_string();
    !root && processes.lines().any(|pid| pid == me)
}

/// The running kernel's version, for logs and `lbctl status`.
pub fn release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".into(),
        |u| u.release().to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::parse_release;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(parse_release("6.1.0-21-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.10"), Some((5, 10)));
        assert_eq!(parse_release("4.18.0-553.el8_10.x86_64"), Some((4, 18)));
        assert_eq!(parse_release("weird"), None);
    }
}
