//! The objects, their history, and the one counter that versions both.
//!
//! Invariants: every commit takes the next resourceVersion and appends exactly
//! one [`Change`]; the history is a bounded suffix of all changes; a snapshot at
//! an older version is the present with later changes undone, so lists in
//! chunks are consistent without copies.

mod admit;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

pub(crate) use self::admit::Part;
use super::{
    allocator::{Allocator, Cidr},
    error::ApiError,
    kinds::{self, KindRef},
    object::{Key, meta, not_found, now, set_version},
};

/// One committed write.
#[derive(Debug)]
pub(crate) struct Change {
    /// The resourceVersion the commit took.
    pub version: u64,
    pub kind: KindRef,
    pub key: Key,
    /// Absent for a creation.
    pub before: Option<Arc<Value>>,
    /// Absent for a deletion.
    pub after: Option<Arc<Value>>,
}

/// How a write is done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    pub part: Part,
    /// Answer what would happen, change nothing.
    pub dry_run: bool,
}

/// Outcome of a write.
#[derive(Debug)]
pub(crate) struct Written {
    pub object: Arc<Value>,
    pub created: bool,
}

/// Objects in key order and the version they are true for.
pub(crate) type Snapshot = (u64, Vec<(Key, Arc<Value>)>);

/// Conditions a deletion names; empty means unconditional.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// The store. All methods are short and synchronous.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    /// The latest version, for watchers to sleep on.
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    version: u64,
    objects: BTreeMap<KindRef, BTreeMap<Key, Arc<Value>>>,
    history: VecDeque<Arc<Change>>,
    history_limit: usize,
    /// Requests for versions before this one are refused.
    compacted: u64,
    /// Changes up to and including this version are no longer in `history`.
    lost: u64,
    allocator: Allocator,
}

impl Store {
    /// An empty store keeping the last `history_limit` changes.
    pub(crate) fn new(history_limit: usize, service_cidrs: &[Cidr]) -> Self {
        let state = State {
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_limit,
            compacted: 1,
            lost: 1,
            allocator: Allocator::new(service_cidrs),
        };
        Self {
            state: Mutex::new(state),
            latest: watch::Sender::new(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test thread must not hide its own message behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the last commit.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Wakes at every commit.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    pub(crate) fn get(&self, kind: KindRef, key: &Key) -> Result<Arc<Value>, ApiError> {
        self.lock()
            .find(kind, key)
            .ok_or_else(|| not_found(kind, &key.name))
    }

    /// Objects of a kind in key order, of one namespace or all, with the version
    /// they are true for: the latest, or `at` while history reaches back to it.
    pub(crate) fn list(
        &self,
        kind: KindRef,
        namespace: Option<&str>,
        at: Option<u64>,
    ) -> Result<Snapshot, ApiError> {
        let state = self.lock();
        let at = at.unwrap_or(state.version);
        let mut objects = state.objects.get(&kind).cloned().unwrap_or_default();
        state.check_version(at)?;
        for change in state
            .changes_after(at)?
            .rev()
            .filter(|change| change.kind == kind)
        {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), Arc::clone(before))),
                None => drop(objects.remove(&change.key)),
            }
        }
        drop(state);
        objects.retain(|key, _| namespace.is_none_or(|wanted| wanted == key.namespace));
        Ok((at, objects.into_iter().collect()))
    }

    /// Refuses a version a client may no longer start from.
    pub(crate) fn check_version(&self, version: u64) -> Result<(), ApiError> {
        self.lock().check_version(version)
    }

    /// Changes of a kind later than `version`, and the version they lead up to.
    /// Fails only when some of them are lost, so watches in step outlive [`Self::compact`].
    pub(crate) fn changes_after(
        &self,
        kind: KindRef,
        version: u64,
    ) -> Result<(u64, Vec<Arc<Change>>), ApiError> {
        let state = self.lock();
        let changes = state
            .changes_after(version)?
            .filter(|c| c.kind == kind)
            .cloned()
            .collect();
        Ok((state.version.max(version), changes))
    }

    /// Creates or replaces: `edit` turns the stored object (if any) into the wanted one.
    /// It runs under the lock, so a patch needs no retry.
    pub(crate) fn write(
        &self,
        kind: KindRef,
        key: &Key,
        options: WriteOptions,
        edit: impl FnOnce(Option<&Value>) -> Result<Value, ApiError>,
    ) -> Result<Written, ApiError> {
        let mut state = self.lock();
        let before = state.find(kind, key);
        let mut object = edit(before.as_deref())?;
        if kind.namespaced() && before.is_none() {
            let namespaces = kinds::by_name("namespaces").ok_or(ApiError::UnknownPath)?;
            if state
                .find(namespaces, &Key::new("", &key.namespace))
                .is_none()
            {
                return Err(not_found(namespaces, &key.namespace));
            }
        }
        let allocator = &mut state.allocator;
        admit::admit(
            kind,
            key,
            before.as_deref(),
            &mut object,
            options.part,
            allocator,
        )?;
        let created = before.is_none();
        if let Some(before) = before.filter(|before| **before == object) {
            return Ok(Written {
                object: before,
                created,
            });
        }
        if options.dry_run {
            return Ok(Written {
                object: Arc::new(object),
                created,
            });
        }
        let finished = !meta(&object, "deletionTimestamp").is_empty()
            && object["metadata"]["deletionGracePeriodSeconds"] == 0
            && !has_finalizers(&object);
        let object = if finished {
            state.remove(kind, key).unwrap_or_else(|| Arc::new(object))
        } else {
            state.commit(kind, key, object)
        };
        self.latest.send_replace(state.version);
        Ok(Written { object, created })
    }

    /// Deletes an object, or marks it for deletion while it has finalizers. A
    /// Namespace takes everything in it along, as the namespace controller would.
    pub(crate) fn delete(
        &self,
        kind: KindRef,
        key: &Key,
        conditions: &Preconditions,
        dry_run: bool,
    ) -> Result<Arc<Value>, ApiError> {
        let mut state = self.lock();
        let object = state
            .find(kind, key)
            .ok_or_else(|| not_found(kind, &key.name))?;
        let differs = |wanted: &Option<String>, field| {
            wanted
                .as_deref()
                .is_some_and(|wanted| wanted != meta(&object, field))
        };
        if differs(&conditions.uid, "uid")
            || differs(&conditions.resource_version, "resourceVersion")
        {
            return Err(ApiError::Conflict {
                resource: kind.resource(),
                name: key.name.clone(),
            });
        }
        if dry_run {
            return Ok(object);
        }
        if kind.plural == "namespaces" {
            for (kind, key) in state.keys_in(&key.name) {
                state.delete_or_mark(kind, &key);
            }
        }
        let deleted = state.delete_or_mark(kind, key);
        self.latest.send_replace(state.version);
        Ok(deleted.unwrap_or(object))
    }

    /// Marks an object for deletion in so many seconds, as Pods are that have a kubelet to end them.
    pub(crate) fn mark(
        &self,
        kind: KindRef,
        key: &Key,
        seconds: u64,
    ) -> Result<Arc<Value>, ApiError> {
        let mut state = self.lock();
        let object = state
            .find(kind, key)
            .ok_or_else(|| not_found(kind, &key.name))?;
        if !meta(&object, "deletionTimestamp").is_empty() {
            return Ok(object);
        }
        let marked = state.commit(kind, key, marked(&object, seconds));
        self.latest.send_replace(state.version);
        Ok(marked)
    }

    /// Forgets history: every resourceVersion handed out so far answers 410.
    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.lost = state.version;
        // One more, so that the version of the newest change is refused as well.
        state.version += 1;
        state.compacted = state.version;
        state.history.clear();
        self.latest.send_replace(state.version);
    }
}

impl State {
    fn find(&self, kind: KindRef, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(&kind)?.get(key).cloned()
    }

    fn keys_in(&self, namespace: &str) -> Vec<(KindRef, Key)> {
        let all = self
            .objects
            .iter()
            .flat_map(|(kind, of)| of.keys().map(|key| (*kind, key)));
        all.filter(|(_, key)| key.namespace == namespace)
            .map(|(k, key)| (k, key.clone()))
            .collect()
    }

    fn check_version(&self, version: u64) -> Result<(), ApiError> {
        if version < self.compacted {
            Err(self.expired(version))
        } else {
            Ok(())
        }
    }

    fn expired(&self, version: u64) -> ApiError {
        ApiError::Expired(format!(
            "too old resource version: {version} ({})",
            self.compacted
        ))
    }

    fn changes_after(
        &self,
        version: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Change>>, ApiError> {
        if version < self.lost {
            return Err(self.expired(version));
        }
        let first = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(self.history.range(first..))
    }

    fn delete_or_mark(&mut self, kind: KindRef, key: &Key) -> Option<Arc<Value>> {
        let object = self.find(kind, key)?;
        if !has_finalizers(&object) {
            return self.remove(kind, key);
        }
        if !meta(&object, "deletionTimestamp").is_empty() {
            return Some(object);
        }
        Some(self.commit(kind, key, marked(&object, 0)))
    }

    fn commit(&mut self, kind: KindRef, key: &Key, mut object: Value) -> Arc<Value> {
        set_version(&mut object, self.version + 1);
        let object = Arc::new(object);
        let before = self
            .objects
            .entry(kind)
            .or_default()
            .insert(key.clone(), Arc::clone(&object));
        self.record(kind, key, before, Some(Arc::clone(&object)));
        object
    }

    /// Removes an object and answers its last state with the version of the deletion.
    fn remove(&mut self, kind: KindRef, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.get_mut(&kind)?.remove(key)?;
        self.record(kind, key, Some(Arc::clone(&before)), None);
        let mut last = (*before).clone();
        set_version(&mut last, self.version);
        Some(Arc::new(last))
    }

    fn record(
        &mut self,
        kind: KindRef,
        key: &Key,
        before: Option<Arc<Value>>,
        after: Option<Arc<Value>>,
    ) {
        if (kind.group, kind.plural) == ("", "services") {
            self.allocator
                .replace(key, before.as_deref(), after.as_deref());
        }
        self.version += 1;
        let change = Change {
            version: self.version,
            kind,
            key: key.clone(),
            before,
            after,
        };
        self.history.push_back(Arc::new(change));
        while self.history.len() > self.history_limit {
            if let Some(dropped) = self.history.pop_front() {
                self.lost = dropped.version;
                self.compacted = self.compacted.max(dropped.version);
            }
        }
    }
}

fn marked(object: &Value, grace: u64) -> Value {
    let mut marked = object.clone();
    marked["metadata"]["deletionTimestamp"] = now().into();
    marked["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    marked
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
mod tests;
