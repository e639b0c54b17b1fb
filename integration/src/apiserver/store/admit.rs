//! What happens to an object between the request and the store: optimistic
//! concurrency, immutable metadata, the split between spec and status, defaults.

use serde_json::Value;

use crate::apiserver::{
    allocator::Allocator,
    defaults,
    error::ApiError,
    kinds::KindRef,
    object::{Key, invalid, map_mut, meta, new_uid, now, set_version, version},
};

/// The part of an object a request may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Part {
    /// The main resource: status stays as stored.
    #[default]
    Main,
    /// The `/status` subresource: everything but status stays as stored.
    Status,
    /// Everything at once; for tests that write without HTTP.
    Whole,
}

/// Checks and completes `object`, which is about to replace `before`.
pub(super) fn admit(
    kind: KindRef,
    key: &Key,
    before: Option<&Value>,
    object: &mut Value,
    part: Part,
    allocator: &mut Allocator,
) -> Result<(), ApiError> {
    if !valid_name(&key.name) {
        let reason = format!("{:?}: must be a lowercase RFC 1123 subdomain", key.name);
        return Err(invalid(kind, key, "metadata.name", reason));
    }
    let conflict = || ApiError::Conflict {
        resource: kind.resource(),
        name: key.name.clone(),
    };
    if let Some(before) = before {
        for field in ["resourceVersion", "uid"] {
            let given = meta(object, field);
            if !given.is_empty() && given != meta(before, field) {
                return Err(conflict());
            }
        }
    } else if !meta(object, "uid").is_empty() && part != Part::Whole {
        // The object this update was meant for is gone.
        return Err(conflict());
    }
    if !object.is_object() {
        return Err(ApiError::BadRequest(
            "the object provided is not a JSON object".into(),
        ));
    }
    keep_other_part(kind, before, object, part);
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    stamp(kind, key, before, object);
    let context = defaults::Context {
        kind,
        key,
        before,
        allocator,
    };
    defaults::fill(object, context)?;
    prune_nulls(object);
    if let Some(before) = before {
        set_version(object, version(before));
        if content_differs(before, object) {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
            object["metadata"]["generation"] = (generation + 1).into();
        }
    }
    Ok(())
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c))
}

fn keep_other_part(kind: KindRef, before: Option<&Value>, object: &mut Value, part: Part) {
    if !kind.status || part == Part::Whole {
        return;
    }
    match (part, before) {
        (Part::Status, Some(before)) => {
            let status = object["status"].take();
            let metadata = object["metadata"].take();
            *object = before.clone();
            object["status"] = status;
            for field in ["labels", "annotations", "finalizers"] {
                match &metadata[field] {
                    Value::Null => drop(map_mut(object, "metadata").remove(field)),
                    value => object["metadata"][field] = value.clone(),
                }
            }
        }
        (_, Some(before)) => object["status"] = before["status"].clone(),
        // kubelets register Nodes with their status; everyone else starts without.
        (_, None) if kind.plural != "nodes" => drop(object["status"].take()),
        (_, None) => {}
    }
}

/// Metadata only the server decides.
fn stamp(kind: KindRef, key: &Key, before: Option<&Value>, object: &mut Value) {
    let metadata = map_mut(object, "metadata");
    metadata.insert("name".into(), key.name.clone().into());
    if kind.namespaced() {
        metadata.insert("namespace".into(), key.namespace.clone().into());
    } else {
        metadata.remove("namespace");
    }
    let fields = [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fields {
        match before.map(|before| &before["metadata"][field]) {
            None | Some(Value::Null) => drop(metadata.remove(field)),
            Some(kept) => drop(metadata.insert(field.into(), kept.clone())),
        }
    }
    metadata.remove("managedFields");
    if before.is_none() {
        metadata.remove("resourceVersion");
        metadata.insert("uid".into(), new_uid().into());
        metadata.insert("creationTimestamp".into(), now().into());
        metadata.insert("generation".into(), 1.into());
    }
}

/// Absent and null are the same in the API; one form keeps comparisons exact.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

/// True when anything but metadata and status changed: what `generation` counts.
fn content_differs(before: &Value, after: &Value) -> bool {
    let content = |object: &Value| {
        let mut content = object.as_object().cloned().unwrap_or_default();
        content.remove("metadata");
        content.remove("status");
        content
    };
    content(before) != content(after)
}
