//! Strategic merge patch: merge patch plus lists of maps merged by a key, and
//! the directives kubectl sends (`$patch`, `$setElementOrder`, `$retainKeys`,
//! `$deleteFromPrimitiveList`).

use serde_json::{Map, Value};

use crate::apiserver::kinds::Kind;

/// How the elements of a list are told apart.
enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// A set of plain values.
    Set,
    /// Maps identified by this field.
    Keyed(&'static str),
}

pub(super) fn merge(kind: &Kind, target: &mut Value, changes: &Value) {
    merge_value(kind, "", target, changes);
}

/// The `patchMergeKey` tags of the Go types, by kind and path.
fn list_type(kind: &Kind, path: &str) -> ListType {
    // Pod templates nest the pod's fields one level deeper.
    let path = path.strip_prefix(".spec.template").unwrap_or(path);
    match (kind.kind, path) {
        (_, ".metadata.finalizers") | ("Node", ".spec.podCIDRs") => ListType::Set,
        (_, ".metadata.ownerReferences") => ListType::Keyed("uid"),
        ("Service", ".spec.ports") => ListType::Keyed("port"),
        (_, ".status.conditions") | ("Node", ".status.addresses") => ListType::Keyed("type"),
        (_, ".status.podIPs" | ".status.hostIPs" | ".spec.hostAliases") => ListType::Keyed("ip"),
        ("ServiceAccount", ".secrets")
        | (
            "Pod" | "DaemonSet" | "Deployment",
            ".spec.containers"
            | ".spec.initContainers"
            | ".spec.volumes"
            | ".spec.imagePullSecrets"
            | ".spec.containers.env"
            | ".spec.initContainers.env",
        ) => ListType::Keyed("name"),
        (_, ".spec.containers.ports" | ".spec.initContainers.ports") => {
            ListType::Keyed("containerPort")
        }
        (_, ".spec.containers.volumeMounts" | ".spec.initContainers.volumeMounts") => {
            ListType::Keyed("mountPath")
        }
        _ => ListType::Atomic,
    }
}

fn merge_value(kind: &Kind, path: &str, target: &mut Value, changes: &Value) {
    let Value::Object(changes) = changes else {
        *target = changes.clone();
        return;
    };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("delete") => {
            *target = Value::Object(Map::new());
            return;
        }
        Some("replace") => *target = Value::Object(Map::new()),
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    if let Some(retained) = changes.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|field, _| retained.iter().any(|kept| kept == field));
    }
    for (field, value) in changes.iter().filter(|(field, _)| !field.starts_with('$')) {
        let path = format!("{path}.{field}");
        match value {
            Value::Null => drop(target.remove(field)),
            Value::Array(elements) => {
                let slot = target
                    .entry(field.clone())
                    .or_insert(Value::Array(Vec::new()));
                merge_list(kind, &path, slot, elements);
            }
            _ => merge_value(
                kind,
                &path,
                target.entry(field.clone()).or_insert(Value::Null),
                value,
            ),
        }
    }
    list_directives(kind, path, target, changes);
}

fn merge_list(kind: &Kind, path: &str, slot: &mut Value, elements: &[Value]) {
    let (key, Value::Array(target)) = (list_type(kind, path), &mut *slot) else {
        *slot = Value::Array(elements.to_vec());
        return;
    };
    let replaces = elements.iter().any(|e| e["$patch"] == "replace");
    match key {
        ListType::Keyed(key) if !replaces => {
            for element in elements {
                let position = target.iter().position(|old| old[key] == element[key]);
                match (position, element["$patch"] == "delete") {
                    (Some(position), true) => drop(target.remove(position)),
                    (None, true) => {}
                    (Some(position), false) => {
                        merge_value(kind, path, &mut target[position], element);
                    }
                    (None, false) => {
                        let mut new = Value::Null;
                        merge_value(kind, path, &mut new, element);
                        target.push(new);
                    }
                }
            }
        }
        ListType::Set => {
            let new: Vec<_> = elements
                .iter()
                .filter(|e| !target.contains(e))
                .cloned()
                .collect();
            target.extend(new);
        }
        ListType::Atomic | ListType::Keyed(_) => {
            *target = elements
                .iter()
                .filter(|e| e["$patch"] != "replace")
                .cloned()
                .collect();
        }
    }
}

/// `$deleteFromPrimitiveList/x` and `$setElementOrder/x` act on the sibling list `x`.
fn list_directives(
    kind: &Kind,
    path: &str,
    target: &mut Map<String, Value>,
    changes: &Map<String, Value>,
) {
    for (directive, operand) in changes.iter().filter(|(field, _)| field.starts_with('$')) {
        let (Some((verb, field)), Some(operand)) = (directive.split_once('/'), operand.as_array())
        else {
            continue;
        };
        let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        if verb == "$deleteFromPrimitiveList" {
            list.retain(|element| !operand.contains(element));
        } else if verb == "$setElementOrder" {
            let key = match list_type(kind, &format!("{path}.{field}")) {
                ListType::Keyed(key) => Some(key),
                _ => None,
            };
            // Elements the client does not know stay behind the ones it ordered.
            list.sort_by_key(|element| {
                operand
                    .iter()
                    .position(|wanted| {
                        key.map_or(wanted == element, |key| wanted[key] == element[key])
                    })
                    .unwrap_or(usize::MAX)
            });
        }
    }
}
