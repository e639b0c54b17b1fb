//! One event of a watch stream: from a change, through selectors, to a JSON line.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::apiserver::{
    error::ApiError, kinds::Kind, object::set_version, selectors::Selectors, store::Change,
};

/// `metav1.WatchEvent.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// An event ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub event: EventType,
    pub object: Arc<Value>,
}

impl Frame {
    pub(crate) fn new(event: EventType, object: Arc<Value>) -> Self {
        Self { event, object }
    }

    /// What a watcher with these selectors sees of a change. An object that stops
    /// matching is DELETED (in its last matching state, with the version of the
    /// change), one that starts matching is ADDED.
    pub(super) fn of_change(change: &Change, selectors: &Selectors) -> Option<Self> {
        let select = |object: &Option<Arc<Value>>| object.clone().filter(|o| selectors.matches(o));
        match (select(&change.before), select(&change.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(Self::new(EventType::Added, after)),
            (Some(_), Some(after)) => Some(Self::new(EventType::Modified, after)),
            (Some(before), None) => {
                let mut last = (*before).clone();
                set_version(&mut last, change.version);
                Some(Self::new(EventType::Deleted, Arc::new(last)))
            }
        }
    }

    /// Tells the client how far it has seen; `initial_end` marks the end of the
    /// initial events.
    pub(super) fn bookmark(kind: &Kind, version: u64, initial_end: bool) -> Self {
        let mut object = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        Self::new(EventType::Bookmark, Arc::new(object))
    }

    pub(super) fn error(error: &ApiError) -> Self {
        Self::new(EventType::Error, Arc::new(error.status()))
    }

    pub(super) fn to_line(&self) -> Bytes {
        let line = Line {
            event: self.event,
            object: &self.object,
        };
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

/// The wire form of a frame.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    event: EventType,
    object: &'a Value,
}
