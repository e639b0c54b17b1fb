//! What the kernel says beside the maps: links, locks, memory, features.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use lb_ebpf::abi::{DeviceClass, map};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};

use super::{snapshot::Snapshot, words};
use crate::{
    devices::{preflight, snat_ports},
    kernel::{self, Features},
    loader::PROGRAMS,
    maps::{Access, Maps},
    pins::{DevicePin, Mechanism, Pins},
    sys,
};

/// Directories of a cgroup hierarchy that are looked at for a path.
const CGROUPS: usize = 100_000;

/// Inode number of the root of every cgroup hierarchy.
const ROOT_CGROUP: u64 = 1;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When this was gathered: nanoseconds since the Unix epoch.
    pub now_ns: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Optional features of the kernel.
    pub features: Features,
    /// Where everything of this version is pinned.
    pub pins: PathBuf,
    /// Process id of the controller that runs, if one does; 0 if it is in a pid
    /// namespace that cannot be seen from here.
    pub controller: Option<u32>,
    /// The programs, in the order in which they are attached.
    pub programs: Vec<ProgramFact>,
    /// Kernel memory of maps in bytes, by name.
    pub memory: HashMap<&'static str, u64>,
    /// Elements in use, and how many fit, of maps that programs fill, by name.
    pub filled: HashMap<&'static str, (u64, u64)>,
    /// Attachments at devices.
    pub devices: DeviceFacts,
    /// Settings of this host that stand in the way of packets, one sentence each.
    pub host: Vec<String>,
}

/// Attachments at devices.
#[derive(Clone, Debug, Default)]
pub struct DeviceFacts {
    /// Those that are pinned.
    pub links: Vec<(DevicePin, LinkState)>,
    /// Why others are missing, by ifindex.
    pub reasons: BTreeMap<u32, String>,
}

/// A program and its attachment.
#[derive(Clone, Debug, Default)]
pub struct ProgramFact {
    /// Its name.
    pub name: &'static str,
    /// Whether it acts.
    pub state: LinkState,
    /// Its id.
    pub id: Option<u32>,
    /// Hash of its instructions.
    pub tag: Option<String>,
    /// Id of the cgroup: the inode number of its directory.
    pub cgroup_id: Option<u64>,
    /// Directory of the cgroup, if it can be seen from here.
    pub cgroup: Option<PathBuf>,
}

/// State of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Pinned, and in force.
    Attached,
    /// Pinned, but its cgroup is gone.
    Detached,
    /// Not pinned.
    #[default]
    Missing,
    /// Pinned, but it cannot be opened.
    Unreadable,
}

impl LinkState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Asks the kernel about what is pinned below `root`.
pub(super) fn gather(root: &Path, snapshot: &Snapshot, now_ns: u64) -> Facts {
    let pins = Pins::new(root);
    let epoch = snapshot.epoch;
    let mut paths = HashMap::new();
    let programs = PROGRAMS.iter().map(|name| {
        let mut fact = program(&pins, name);
        fact.cgroup = fact
            .cgroup_id
            .and_then(|id| paths.entry(id).or_insert_with(|| cgroup_path(id)).clone());
        fact
    });
    let programs = programs.collect();
    let memory = map::ALL
        .iter()
        .filter_map(|name| Some((*name, memory(&pins.epoch(epoch).join(name))?)))
        .collect();
    Facts {
        now_ns,
        kernel: kernel::release(),
        features: Features::probe(),
        controller: controller(pins.dir()),
        pins: pins.dir().to_path_buf(),
        programs,
        memory,
        filled: filled(&pins.epoch(snapshot.epoch)),
        devices: DeviceFacts {
            links: device_links(&pins),
            reasons: pins.reasons(),
        },
        host: host(snapshot),
    }
}

/// Counts elements; what cannot be read is left out.
fn filled(epoch: &Path) -> HashMap<&'static str, (u64, u64)> {
    let Ok(maps) = Maps::open(epoch, Access::Read) else {
        return HashMap::new();
    };
    let counted = [
        (
            map::CONNTRACK,
            maps.conntrack.count(),
            maps.conntrack.max_entries(),
        ),
        (
            map::HALF_OPEN,
            maps.half_open.count(),
            maps.half_open.max_entries(),
        ),
        (
            map::FRAGMENTS,
            maps.fragments.count(),
            maps.fragments.max_entries(),
        ),
    ];
    let counted = counted.into_iter();
    counted
        .filter_map(|(name, used, capacity)| Some((name, (used.ok()?, capacity.into()))))
        .collect()
}

fn program(pins: &Pins, name: &'static str) -> ProgramFact {
    let mut fact = ProgramFact {
        name,
        ..ProgramFact::default()
    };
    let link = match sys::object_get(&pins.link(name)) {
        Ok(link) => link,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return fact,
        Err(_) => {
            fact.state = LinkState::Unreadable;
            return fact;
        }
    };
    let Ok(info) = sys::cgroup_link(&link) else {
        fact.state = LinkState::Unreadable;
        return fact;
    };
    fact.state = if info.cgroup_id == 0 {
        LinkState::Detached
    } else {
        LinkState::Attached
    };
    fact.id = Some(info.program_id);
    fact.cgroup_id = Some(info.cgroup_id).filter(|id| *id != 0);
    fact.tag = fd_info(link.as_fd(), "prog_tag:");
    fact
}

fn device_links(pins: &Pins) -> Vec<(DevicePin, LinkState)> {
    let state = |pin: &DevicePin| {
        let Ok(object) = sys::object_get(&pins.device_link(pin)) else {
            return LinkState::Unreadable;
        };
        match sys::device_link(&object) {
            // What stands for a classic filter is its program, which is no link.
            _ if pin.mechanism == Mechanism::Clsact => LinkState::Attached,
            Ok(link) if link.ifindex == pin.index => LinkState::Attached,
            Ok(_) => LinkState::Detached,
            Err(_) => LinkState::Unreadable,
        }
    };
    let all = pins.device_links().unwrap_or_default();
    all.into_iter().map(|pin| (pin, state(&pin))).collect()
}

/// Settings of the network namespace that `lbctl` runs in: on a node, the host's.
fn host(snapshot: &Snapshot) -> Vec<String> {
    let uplinks = snapshot
        .devices
        .iter()
        .filter(|(_, device)| device.class == DeviceClass::Uplink as u32)
        .map(|(_, device)| words::padded(&device.name));
    let uplinks: Vec<_> = uplinks.collect();
    let names: Vec<_> = uplinks.iter().map(String::as_str).collect();
    let mut devices = snapshot.devices.iter();
    let v6 = devices.any(|(_, device)| !device.snat_v6.is_unspecified());
    preflight::problems(&names, v6, snat_ports(&snapshot.config).as_ref())
}

/// The directory of a cgroup in the mounted hierarchy.
fn cgroup_path(id: u64) -> Option<PathBuf> {
    let root = kernel::find_cgroup2()?;
    let mut queue = vec![root];
    let mut seen = 0;
    while let Some(dir) = queue.pop() {
        seen += 1;
        if seen > CGROUPS {
            return None;
        }
        if fs::metadata(&dir).is_ok_and(|meta| meta.ino() == id) {
            return Some(dir);
        }
        let children = fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()));
        queue.extend(dirs.map(|child| child.path()));
    }
    (id == ROOT_CGROUP).then(|| PathBuf::from("the root of the hierarchy, not visible from here"))
}

fn memory(path: &Path) -> Option<u64> {
    let data = MapData::from_pin(path).ok()?;
    fd_info(data.fd().as_fd(), "memlock:")?.parse().ok()
}

/// A line of what the kernel shows of a descriptor.
fn fd_info(fd: BorrowedFd<'_>, label: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let value = info.lines().find_map(|line| line.strip_prefix(label))?;
    Some(value.trim().to_owned())
}

/// Process id of the controller that holds the lock on `dir`; 0 if it cannot be seen.
///
/// Looking at `/proc/locks` disturbs nobody. It leaves out processes that this pid
/// namespace does not see; only then the lock is tried, shared and for an instant.
pub(super) fn controller(dir: &Path) -> Option<u32> {
    let meta = fs::metadata(dir).ok()?;
    let inode = format!(
        "{:02x}:{:02x}:{}",
        major(meta.dev()),
        minor(meta.dev()),
        meta.ino()
    );
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    if let Some(pid) = holder(&locks, &inode) {
        return Some(pid);
    }
    if sees_all_processes() {
        return None;
    }
    let file = File::open(dir).ok()?;
    let refused = Flock::lock(file, FlockArg::LockSharedNonblock).is_err();
    refused.then_some(0)
}

/// The process that holds a flock(2) lock on an inode.
fn holder(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, _, pid, locked) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        // A process that waits for the lock has `->` in place of the kind.
        (kind == "FLOCK" && locked == inode).then(|| pid.parse().ok())?
    })
}

/// Whether this is the initial pid namespace.
fn sees_all_processes() -> bool {
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
    const INITIAL: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|meta| meta.ino() == INITIAL)
}

#[cfg(test)]
mod tests {
    use super::holder;

    #[test]
    fn holder_of_a_lock_is_found_and_waiters_are_not() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:1c:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 00:1c:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:1c:43 0 EOF\n";
        assert_eq!(holder(locks, "00:1c:42"), Some(4711));
        assert_eq!(holder(locks, "00:1c:43"), None);
        assert_eq!(holder("garbage\n\n1:", "00:1c:42"), None);
    }
}
