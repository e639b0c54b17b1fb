//! Reading and stamping object metadata in untyped JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{error::ApiError, kinds::Kind};

/// Namespace (empty for cluster-scoped kinds) and name, in list order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A string below `metadata`, empty when absent.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.resourceVersion`; 0 when absent.
pub(crate) fn version(object: &Value) -> u64 {
    meta(object, "resourceVersion").parse().unwrap_or_default()
}

/// The map under `field`, made (or put in place of a null) when missing.
pub(crate) fn map_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let slot = &mut object[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut()
        .unwrap_or_else(|| unreachable!("made an object above"))
}

/// Sets `metadata.resourceVersion`.
pub(crate) fn set_version(object: &mut Value, version: u64) {
    map_mut(object, "metadata").insert("resourceVersion".into(), version.to_string().into());
}

/// True when a JSON value means "not given" in the API: null, empty string or empty list.
pub(crate) fn unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

/// A 422 about one field.
pub(crate) fn invalid(kind: &Kind, key: &Key, field: &str, reason: impl Into<String>) -> ApiError {
    ApiError::Invalid {
        kind: kind.kind.to_owned(),
        name: key.name.clone(),
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// A 404 for one object.
pub(crate) fn not_found(kind: &Kind, name: &str) -> ApiError {
    ApiError::NotFound {
        resource: kind.resource(),
        name: name.to_owned(),
    }
}

/// RFC 3339 with whole seconds, as `metav1.Time` prints.
pub(crate) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// A random version 4 UUID.
pub(crate) fn new_uid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Five characters as `generateName` appends (no vowels, so no words).
pub(crate) fn name_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_is_a_version_4_uuid() {
        let uid = new_uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
    }
}
