//! When to look at the manifests again.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// A change is taken up when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(50);
/// The same while a writer still has the file open.
const QUIET_WHILE_OPEN: Duration = Duration::from_secs(1);
/// Under constant change, no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Safety net for file systems that tell nothing.
const RESCAN: Duration = Duration::from_secs(10);

/// Follows changes below a path.
pub(super) struct Watch {
    changes: mpsc::UnboundedReceiver<Event>,
    /// Dropping it ends the notifications.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Without notifications the rescan remains.
    pub(super) fn new(root: &Path) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let watcher = start(root, sender).inspect_err(|error| {
            tracing::warn!(path = %root.display(), %error, "cannot watch manifests; looking every {} s", RESCAN.as_secs());
        });
        Self {
            changes,
            _watcher: watcher.ok(),
        }
    }

    /// Waits for a change, and until its writer is done with it; returns the paths that
    /// were touched. Returns none when it is time for a rescan.
    pub(super) async fn changed(&mut self) -> HashSet<PathBuf> {
        let mut changed = HashSet::new();
        let mut open = HashSet::new();
        let mut wait = RESCAN;
        let mut began = Instant::now();
        loop {
            match timeout(wait, self.changes.recv()).await {
                Err(_elapsed) => return changed,
                // No watcher: sleep instead.
                Ok(None) => {
                    tokio::time::sleep(wait).await;
                    return changed;
                }
                Ok(Some(event)) => {
                    if changed.is_empty() {
                        began = Instant::now();
                    }
                    note_writers(&event, &mut open);
                    changed.extend(event.paths);
                }
            }
            let patient = began.elapsed() < PATIENCE;
            wait = match (open.is_empty(), patient) {
                (true, true) => QUIET,
                (false, _) if began.elapsed() < 5 * PATIENCE => QUIET_WHILE_OPEN,
                _ => return changed,
            };
        }
    }
}

/// A file cannot be watched across renames, so its directory is.
fn start(root: &Path, sender: mpsc::UnboundedSender<Event>) -> notify::Result<RecommendedWatcher> {
    let file = (!root.is_dir()).then(|| root.to_owned());
    let only = file.clone();
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if concerns(&event, only.as_deref()) => _ = sender.send(event),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "file notification"),
        })?;
    match file.as_deref().and_then(Path::parent) {
        Some(parent) => watcher.watch(parent, RecursiveMode::NonRecursive)?,
        None => watcher.watch(root, RecursiveMode::Recursive)?,
    }
    Ok(watcher)
}

/// Reading a manifest is no change of it. Beside a watched file, a ConfigMap volume
/// swaps a directory.
fn concerns(event: &Event, only: Option<&Path>) -> bool {
    let change = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name == "..data");
    change && only.is_none_or(|only| event.paths.iter().any(|path| path == only || ours(path)))
}

fn note_writers(event: &Event, open: &mut HashSet<PathBuf>) {
    match event.kind {
        EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
            open.extend(event.paths.iter().cloned());
        }
        EventKind::Access(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            for path in &event.paths {
                open.remove(path);
            }
        }
        _ => {}
    }
}
