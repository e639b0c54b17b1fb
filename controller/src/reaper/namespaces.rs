//! The network namespaces that this process can reach, entered one after another.
//!
//! A pod's namespace is found through its processes (where the controller sees the
//! host's) or through the mounts that CNI plugins and `ip netns` leave. Namespaces are
//! told apart by inode number within one walk, and recognised by their cookie, which is
//! never used twice; nothing is remembered from one walk to the next.

use std::{
    collections::HashSet,
    fs::{self, File},
    ops::ControlFlow,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};
use tracing::{debug, warn};

/// Directories of mounted namespaces.
const MOUNTS: [&str; 2] = ["/run/netns", "/var/run/netns"];
/// More are not entered in one walk.
const MAX: usize = 8192;

/// Calls `visit` in each reachable namespace, this process's own first, until it breaks.
///
/// It all happens on a thread of its own, which ends with the walk: no other thread
/// ever is in another namespace.
pub(crate) fn walk(visit: impl FnMut() -> ControlFlow<()> + Send) {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("lb-netns".into());
        if let Err(error) = builder.spawn_scoped(scope, || enter_each(visit)) {
            warn!(%error, "cannot start the thread that enters namespaces");
        }
    });
}

fn enter_each(mut visit: impl FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
    visit()?;
    let mut seen: HashSet<(u64, u64)> = identity("/proc/thread-self/ns/net".as_ref())
        .into_iter()
        .collect();
    for path in candidates() {
        if seen.len() > MAX {
            debug!(MAX, "more network namespaces than are entered");
            break;
        }
        let Some(identity) = identity(&path) else {
            continue;
        };
        if !seen.insert(identity) {
            continue;
        }
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&path);
        match file.map(|file| setns(file, CloneFlags::CLONE_NEWNET)) {
            Ok(Ok(())) => visit()?,
            Ok(Err(error)) => debug!(path = %path.display(), %error, "cannot enter"),
            Err(error) => debug!(path = %path.display(), %error, "cannot open"),
        }
    }
    ControlFlow::Continue(())
}

/// Mounted namespaces, then those of processes.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let mounted = MOUNTS.iter().flat_map(fs::read_dir).flatten().flatten();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    mounted
        .map(|entry| entry.path())
        .chain(processes.map(|entry| entry.path().join("ns/net")))
}

/// Device and inode number of a namespace: of the mount, or of what a link in /proc names.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
