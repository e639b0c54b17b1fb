//! Manifests on disk → events, once at the start and then change by change.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::{
    super::{BATCH, ManifestError, SourceError},
    manifest,
    scan::{Stamp, scan, unless_gone, unreadable},
};
use crate::{
    convert::Converter,
    model::{Event, Kind, NodeInfo, ObjectName},
};

/// What the files have said so far.
pub(super) struct Loader {
    root: PathBuf,
    converter: Converter,
    events: mpsc::Sender<Vec<Event>>,
    files: BTreeMap<PathBuf, Loaded>,
    failure: Option<String>,
    root_failed: bool,
}

/// A file as it was last looked at.
struct Loaded {
    stamp: Stamp,
    /// Objects of its last good version.
    objects: BTreeSet<Object>,
    /// Its present version cannot be used.
    broken: bool,
}

/// Identity of an object that a file defines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Object {
    Service(ObjectName),
    EndpointSlice(ObjectName),
    ServiceCidr(ObjectName),
    Node,
}

impl Loader {
    pub(super) fn new(root: PathBuf, node_name: &str, events: mpsc::Sender<Vec<Event>>) -> Self {
        Self {
            root,
            converter: Converter::new(node_name),
            events,
            files: BTreeMap::new(),
            failure: None,
            root_failed: false,
        }
    }

    /// Reads everything. Of an object that two files define, the last file by path
    /// counts.
    pub(super) fn load(&mut self) -> Result<(), SourceError> {
        let kinds = [Kind::Services, Kind::EndpointSlices, Kind::ServiceCidrs];
        self.send(kinds.map(Event::Listing).into());
        for (path, stamp) in scan(&self.root)? {
            let mut objects = BTreeSet::new();
            let mut batch = Vec::with_capacity(BATCH);
            let events = self.events.clone();
            let read = self.read(&path, &mut |event| {
                objects.extend(Object::of(&event));
                batch.push(event);
                if batch.len() == BATCH {
                    let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                    _ = events.blocking_send(full);
                }
            });
            if unless_gone(read)?.is_none() {
                continue;
            }
            self.send(batch);
            self.files.insert(
                path,
                Loaded {
                    stamp,
                    objects,
                    broken: false,
                },
            );
        }
        self.send(kinds.map(Event::Listed).into());
        Ok(())
    }

    /// Reads what has changed, and whatever is in `touched`; sends it as one batch.
    pub(super) fn refresh(&mut self, touched: &HashSet<PathBuf>) {
        let present = match scan(&self.root) {
            Ok(present) => present,
            Err(error) => return self.lost_root(&error),
        };
        self.root_failed = false;
        let mut affected = BTreeSet::new();
        let mut fresh = BTreeMap::new();
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|path| !present.contains_key(*path))
            .cloned()
            .collect();
        for path in gone {
            affected.extend(
                self.files
                    .remove(&path)
                    .into_iter()
                    .flat_map(|file| file.objects),
            );
        }
        for (path, stamp) in present {
            let known = self.files.get(&path);
            if known.is_some_and(|file| file.stamp == stamp) && !touched.contains(&path) {
                continue;
            }
            if let Some(events) = self.reread(&path, stamp) {
                let objects = events
                    .iter()
                    .filter_map(Object::of)
                    .collect::<BTreeSet<_>>();
                if let Some(file) = self.files.get_mut(&path) {
                    affected.extend(std::mem::replace(&mut file.objects, objects.clone()));
                }
                affected.extend(objects);
                fresh.insert(path, events);
            }
        }
        if affected.is_empty() {
            return;
        }
        self.read_sharers(&affected, &mut fresh);
        let batch = self.changes(&affected, fresh);
        self.send(batch);
    }

    /// The failure since the last call, if any.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Whether the present version of every file is in force.
    pub(super) fn is_healthy(&self) -> bool {
        !self.root_failed && self.files.values().all(|file| !file.broken)
    }

    /// The events of a changed file; `None` if its last good version stays in force, or if it has
    /// just gone, which the next look will see.
    fn reread(&mut self, path: &Path, stamp: Stamp) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        let mut result = match unless_gone(self.read(path, &mut |event| events.push(event))) {
            Ok(None) => return None,
            Ok(Some(())) => Ok(()),
            Err(error) => Err(error),
        };
        let file = self.files.entry(path.to_owned()).or_insert_with(|| Loaded {
            stamp,
            objects: BTreeSet::new(),
            broken: false,
        });
        file.stamp = stamp;
        // Whoever empties a file is about to write it: `kubectl get > file` takes its time.
        if stamp.is_empty() && !file.objects.is_empty() {
            result = Err(SourceError::Malformed {
                path: path.to_owned(),
                problem: ManifestError {
                    document: 1,
                    line: None,
                    message: "the file is empty; delete it to remove its objects".into(),
                },
            });
        }
        file.broken = result.is_err();
        match result {
            Ok(()) => {
                tracing::info!(path = %path.display(), objects = events.len(), "manifest read");
                Some(events)
            }
            Err(error) => {
                tracing::warn!(%error, "keeping the last good version of a manifest");
                self.failure = Some(error.to_string());
                None
            }
        }
    }

    /// Adds the other files that define one of `affected`, so that the last file by
    /// path counts again.
    fn read_sharers(
        &mut self,
        affected: &BTreeSet<Object>,
        fresh: &mut BTreeMap<PathBuf, Vec<Event>>,
    ) {
        let sharers: Vec<_> = self
            .files
            .iter()
            .filter(|(path, file)| {
                !fresh.contains_key(*path) && file.objects.iter().any(|o| affected.contains(o))
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in sharers {
            let mut events = Vec::new();
            if let Err(error) = self.read(&path, &mut |event| events.push(event)) {
                tracing::warn!(%error, "cannot read a manifest again");
                continue;
            }
            fresh.insert(path, events);
        }
    }

    /// Removals of what no file defines any more, then the fresh events by path.
    fn changes(
        &self,
        affected: &BTreeSet<Object>,
        fresh: BTreeMap<PathBuf, Vec<Event>>,
    ) -> Vec<Event> {
        let defined = |object: &&Object| self.files.values().any(|f| f.objects.contains(object));
        let removed = affected
            .iter()
            .filter(|object| !defined(object))
            .map(Object::removal);
        removed.chain(fresh.into_values().flatten()).collect()
    }

    fn read(&mut self, path: &Path, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let bytes = fs::read(path).map_err(unreadable(path))?;
        let malformed = |problem| SourceError::Malformed {
            path: path.to_owned(),
            problem,
        };
        let text = str::from_utf8(&bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            malformed(ManifestError {
                document: 1,
                line: Some(manifest::lines(before)),
                message: "this is not UTF-8 text".into(),
            })
        })?;
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        manifest::parse(text, json, &mut self.converter, sink).map_err(malformed)
    }

    fn lost_root(&mut self, error: &SourceError) {
        if !self.root_failed {
            tracing::warn!(%error, "keeping the last known objects");
            self.failure = Some(error.to_string());
        }
        self.root_failed = true;
    }

    fn send(&self, batch: Vec<Event>) {
        if !batch.is_empty() {
            // A closed channel ends the source at its next turn.
            _ = self.events.blocking_send(batch);
        }
    }
}

impl Object {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Service(name, _) => Some(Self::Service(name.clone())),
            Event::EndpointSlice(name, _) => Some(Self::EndpointSlice(name.clone())),
            Event::Node(_) => Some(Self::Node),
            Event::ServiceCidr(name, _) => Some(Self::ServiceCidr(name.clone())),
            Event::Listing(_) | Event::Listed(_) | Event::Triggered(..) => None,
        }
    }

    fn removal(&self) -> Event {
        match self {
            Self::Service(name) => Event::Service(name.clone(), None),
            Self::EndpointSlice(name) => Event::EndpointSlice(name.clone(), None),
            Self::Node => Event::Node(NodeInfo::default()),
            Self::ServiceCidr(name) => Event::ServiceCidr(name.clone(), None),
        }
    }
}
