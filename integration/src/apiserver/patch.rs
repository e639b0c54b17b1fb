//! The patch formats: JSON merge patch (RFC 7396), JSON patch (RFC 6902),
//! strategic merge patch and server-side apply.
//!
//! Server-side apply is the merge without ownership: maps merge, lists are
//! replaced (finalizers are united), nothing is removed because an earlier
//! apply named it and this one does not, and conflicts never arise.

mod strategic;

use serde_json::Value;

use super::{error::ApiError, kinds::Kind};

/// A patch body's format, from its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Merge,
    Json,
    Strategic,
    Apply,
}

impl Format {
    /// Reads a `Content-Type`; parameters after `;` do not matter.
    pub(crate) fn from_content_type(content_type: &str) -> Result<Self, ApiError> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/json-patch+json" => Ok(Self::Json),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply),
            other => Err(ApiError::UnsupportedMediaType(format!("{other:?}"))),
        }
    }
}

/// The object after the patch.
pub(crate) fn apply(
    kind: &Kind,
    format: Format,
    object: &Value,
    patch: &Value,
) -> Result<Value, ApiError> {
    let mut patched = object.clone();
    match format {
        Format::Merge => json_patch::merge(&mut patched, patch),
        Format::Strategic => strategic::merge(kind, &mut patched, patch),
        Format::Apply => merge_applied("", &mut patched, patch),
        Format::Json => {
            let bad = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
            let operations: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|e| bad(&e))?;
            json_patch::patch(&mut patched, &operations).map_err(|e| bad(&e))?;
        }
    }
    Ok(patched)
}

fn merge_applied(path: &str, target: &mut Value, applied: &Value) {
    match (target, applied) {
        (Value::Object(target), Value::Object(applied)) => {
            for (field, value) in applied {
                if value.is_null() {
                    target.remove(field);
                } else {
                    let slot = target.entry(field.clone()).or_insert(Value::Null);
                    merge_applied(&format!("{path}.{field}"), slot, value);
                }
            }
        }
        (Value::Array(target), Value::Array(applied)) if path == ".metadata.finalizers" => {
            let new: Vec<_> = applied
                .iter()
                .filter(|f| !target.contains(f))
                .cloned()
                .collect();
            target.extend(new);
        }
        (target, applied) => *target = applied.clone(),
    }
}

#[cfg(test)]
mod tests;
