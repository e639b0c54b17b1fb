//! Notes → Events: which object they regard, and in which words.
#![forbid(unsafe_code)]

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

use super::Note;
use crate::model::ObjectName;

/// `note` has at most 1 kB.
const LONGEST: usize = 1000;

impl Note {
    /// The Service that it regards; else it regards the node.
    pub(super) fn service(&self) -> Option<&ObjectName> {
        match self {
            Self::Started | Self::HealthzFailed { .. } => None,
            Self::HealthCheckFailed { service, .. } | Self::NotProgrammed { service, .. } => {
                Some(service)
            }
        }
    }

    /// As it is written; reasons and actions are kube-proxy's where it has such an event.
    pub(super) fn event(&self) -> Event {
        let (type_, reason, action, note) = match self {
            Self::Started => (EventType::Normal, "Starting", "StartKubeProxy", None),
            Self::HealthCheckFailed {
                address, reason, ..
            } => (
                EventType::Warning,
                "FailedToStartServiceHealthcheck",
                "Listen",
                Some(format!(
                    "cannot answer health checks at {address}: {reason}; trying again"
                )),
            ),
            Self::HealthzFailed { address, reason } => (
                EventType::Warning,
                "FailedToStartProxierHealthcheck",
                "StartKubeProxy",
                Some(format!(
                    "failed to start proxy healthz on {address}: {reason}"
                )),
            ),
            Self::NotProgrammed { map, .. } => (
                EventType::Warning,
                "FailedToProgram",
                "Program",
                Some(format!(
                    "the map {map} of this node is full: not all of the Service is served"
                )),
            ),
        };
        Event {
            type_,
            reason: reason.into(),
            note: note.map(shortened),
            action: action.into(),
            secondary: None,
        }
    }
}

fn shortened(mut text: String) -> String {
    let end = text.floor_char_boundary(LONGEST);
    text.truncate(end);
    text
}

/// The Node, as `kubectl describe node` looks for it: by its name in place of its UID.
pub(super) fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        api_version: Some("v1".into()),
        name: Some(name.into()),
        uid: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// A Service; without a UID that is known, kube-proxy writes its name instead.
pub(super) fn service_reference(name: &ObjectName, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        kind: Some("Service".into()),
        api_version: Some("v1".into()),
        namespace: Some(name.namespace.to_string()),
        name: Some(name.name.to_string()),
        uid: Some(uid.unwrap_or_else(|| name.to_string())),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let note = Note::HealthzFailed {
            address: ([127, 0, 0, 1], 1).into(),
            reason: "ä".repeat(LONGEST),
        };
        let text = note.event().note.unwrap();
        assert!((LONGEST - 1..=LONGEST).contains(&text.len()));
    }
}
