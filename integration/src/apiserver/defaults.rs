//! What the server fills in per kind before storing an object.
//!
//! Only fields that a service proxy or kubectl reads; validation is limited to
//! what our tests must not get away with.

pub(crate) mod service;

use serde_json::{Value, json};

use super::{
    allocator::Allocator,
    error::ApiError,
    kinds::KindRef,
    object::{Key, map_mut, unset},
};

/// Everything defaulting may look at besides the object itself.
pub(crate) struct Context<'a> {
    pub kind: KindRef,
    pub key: &'a Key,
    /// The stored object on update.
    pub before: Option<&'a Value>,
    pub allocator: &'a mut Allocator,
}

/// Completes `object` in place.
pub(crate) fn fill(object: &mut Value, context: Context<'_>) -> Result<(), ApiError> {
    match (context.kind.group, context.kind.plural) {
        ("", "services") => service::fill(object, context),
        ("", "namespaces") => {
            let name = context.key.name.clone();
            let labels = map_mut(object, "metadata")
                .entry("labels")
                .or_insert(json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
            if unset(&object["status"]["phase"]) {
                map_mut(object, "status").insert("phase".into(), "Active".into());
            }
            Ok(())
        }
        ("", "pods") => {
            if unset(&object["status"]["phase"]) {
                map_mut(object, "status").insert("phase".into(), "Pending".into());
            }
            Ok(())
        }
        ("discovery.k8s.io", "endpointslices") => {
            for port in object["ports"].as_array_mut().into_iter().flatten() {
                set_default(port, "name", || "".into());
                set_default(port, "protocol", || "TCP".into());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Sets `field` when it is not given.
fn set_default(object: &mut Value, field: &str, value: impl FnOnce() -> Value) {
    if object.is_object() && unset(&object[field]) {
        object[field] = value();
    }
}

/// Removes `field` if `object` is a map.
fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}
