//! Removal of everything that carries a cluster's prefix, whatever ended the run.
//!
//! | the run ends by | removed by |
//! |---|---|
//! | `drop`, a panic that unwinds | [`crate::Cluster`]'s `Drop` |
//! | return from `main` with a cluster in a static | an exit handler |
//! | SIGINT, SIGTERM | a thread that tears down and then dies of the same signal |
//! | SIGKILL, abort | the next [`crate::cluster::Builder::build`] sweeps what has no creator |
//!
//! Removal goes by name alone, so it is idempotent and works from another process.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, raise},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{bpffs, cgroup, ip::Batch, netns, prefix::Prefix, process};

/// Holds the lock file and, in `kept`, the names that a sweep must leave alone.
const STATE: &str = "/run/lb-integration";

/// Prefixes that this process must remove before it ends.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The machine-wide lock around work that two runs must not do at once.
pub(crate) fn lock() -> Result<Flock<File>> {
    fs::create_dir_all(STATE).with_context(|| format!("creating {STATE}"))?;
    let path = Path::new(STATE).join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("locking {}", path.display()))
}

/// Promises that `prefix` is removed when this process ends, by the ways listed above.
pub(crate) fn register(prefix: &Prefix) {
    install_handlers();
    live().insert(prefix.as_str().to_owned());
}

/// Removes everything named `prefix`; does as much as possible and reports the first failure.
pub fn remove(prefix: &Prefix) -> Result<()> {
    // Processes first: they hold namespaces and sockets.
    let killed = cgroup::mount_point().and_then(|m| cgroup::remove(&m.join(prefix.as_str())));
    let unpinned = bpffs::remove(&Path::new(bpffs::MOUNT_POINT).join(prefix.as_str()));
    let mut deleted = Ok(());
    for name in names_in(netns::DIRECTORY) {
        if Prefix::of(&name).as_ref() == Some(prefix) {
            // One batch each: another process may be removing the same names.
            let one = Batch::new().add(format!("netns del {name}")).run(None);
            let still_there = Path::new(netns::DIRECTORY).join(&name).exists();
            deleted = deleted.and(if still_there { one } else { Ok(()) });
        }
    }
    let _ = fs::remove_file(kept_marker(prefix));
    let _ = fs::remove_dir_all(working_directory(prefix));
    live().remove(prefix.as_str());
    killed.and(unpinned).and(deleted)
}

/// Leaves the cluster standing after this process has ended, until [`remove`] is called.
pub fn keep(prefix: &Prefix) -> Result<()> {
    let marker = kept_marker(prefix);
    fs::create_dir_all(Path::new(STATE).join("kept"))?;
    fs::write(&marker, "").with_context(|| format!("creating {}", marker.display()))?;
    live().remove(prefix.as_str());
    Ok(())
}

/// Clusters that were [`keep`]t and still stand.
pub fn kept() -> Vec<Prefix> {
    names_in(Path::new(STATE).join("kept"))
        .iter()
        .filter_map(|n| Prefix::of(n))
        .collect()
}

/// Removes what clusters left behind whose creator is dead, unless they were [`keep`]t.
pub fn sweep() -> Result<()> {
    let _lock = lock()?;
    let mut places = vec![
        netns::DIRECTORY.into(),
        bpffs::MOUNT_POINT.into(),
        std::env::temp_dir(),
    ];
    places.extend(cgroup::mount_point());
    let found: BTreeSet<String> = places
        .iter()
        .flat_map(names_in)
        .filter_map(|name| Prefix::of(&name))
        .filter(|prefix| !prefix.creator_alive() && !kept_marker(prefix).exists())
        .map(|prefix| prefix.as_str().to_owned())
        .collect();
    for name in found {
        if let Some(prefix) = Prefix::of(&name) {
            tracing::info!(%prefix, "removing what a dead run left behind");
            remove(&prefix)?;
        }
    }
    Ok(())
}

/// A cluster's directory for files: captured output and manifests.
pub fn working_directory(prefix: &Prefix) -> PathBuf {
    std::env::temp_dir().join(prefix.as_str())
}

fn kept_marker(prefix: &Prefix) -> PathBuf {
    Path::new(STATE).join("kept").join(prefix.as_str())
}

fn names_in(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

fn live() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_live() {
    let names = live().clone();
    for prefix in names.iter().filter_map(|name| Prefix::of(name)) {
        if let Err(error) = remove(&prefix) {
            tracing::error!(%prefix, "teardown: {error:#}");
        }
    }
}

extern "C" fn at_exit() {
    remove_live();
}

fn install_handlers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        process::register_exit_handler(at_exit);
        let spawned = thread::Builder::new()
            .name("lb-signals".into())
            .spawn(wait_for_signal);
        if let Err(error) = spawned {
            tracing::warn!("no teardown on signals: {error}");
        }
    });
}

/// Waits for SIGINT or SIGTERM, tears down, and dies of that signal so that the parent sees it.
fn wait_for_signal() {
    let caught = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .and_then(|rt| {
            rt.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                Ok(tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                })
            })
        });
    match caught {
        Ok(signal) => {
            remove_live();
            process::restore_default(signal);
            let _ = raise(signal);
        }
        Err(error) => tracing::warn!("no teardown on signals: {error}"),
    }
}
