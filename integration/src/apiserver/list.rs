//! Lists: selectors, chunks, and the version a list is true for.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{error::ApiError, kinds::KindRef, object::Key, selectors::Selectors, store::Store};

/// A list request as the query string gives it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListRequest {
    pub namespace: Option<String>,
    pub selectors: Selectors,
    /// Objects per chunk; 0 for all.
    pub limit: usize,
    pub continue_token: Option<String>,
    /// Empty or "0" for whatever is current.
    pub resource_version: String,
    /// `resourceVersionMatch=Exact`.
    pub exact: bool,
}

/// Builds the `<Kind>List` object.
pub(crate) fn list(store: &Store, kind: KindRef, request: &ListRequest) -> Result<Value, ApiError> {
    let (at, after) = snapshot(store, request)?;
    let (version, mut objects) =
        store
            .list(kind, request.namespace.as_deref(), at)
            .map_err(|error| {
                match error {
            ApiError::Expired(_) if after.is_some() => ApiError::Expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter."
                    .into(),
            ),
            other => other,
        }
            })?;
    objects.retain(|(key, object)| {
        after.as_ref().is_none_or(|after| key > after) && request.selectors.matches(object)
    });
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if request.limit > 0 && objects.len() > request.limit {
        let remaining = objects.len() - request.limit;
        objects.truncate(request.limit);
        if let Some((last, _)) = objects.last() {
            metadata["continue"] = token(version, last).into();
        }
        if request.selectors.is_empty() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let items: Vec<Value> = objects
        .into_iter()
        .map(|(_, object)| item(object))
        .collect();
    Ok(json!({
        "apiVersion": kind.api_version(), "kind": format!("{}List", kind.kind),
        "metadata": metadata, "items": items,
    }))
}

/// Items of typed lists carry neither `apiVersion` nor `kind`.
fn item(object: Arc<Value>) -> Value {
    let mut item = Arc::unwrap_or_clone(object);
    if let Some(map) = item.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    item
}

/// The version to list at (none for the latest) and the key to continue after.
fn snapshot(store: &Store, request: &ListRequest) -> Result<(Option<u64>, Option<Key>), ApiError> {
    let given = request.resource_version.as_str();
    if let Some(continued) = &request.continue_token {
        if !given.is_empty() && given != "0" {
            let text = "specifying resource version is not allowed when using continue";
            return Err(ApiError::BadRequest(text.into()));
        }
        let (version, key) = parse_token(continued)
            .ok_or_else(|| ApiError::BadRequest("continue key is not valid".into()))?;
        return Ok((Some(version), Some(key)));
    }
    if given.is_empty() || given == "0" {
        if request.exact {
            let text = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            return Err(ApiError::BadRequest(text.into()));
        }
        return Ok((None, None));
    }
    let requested = parse_version(given)?;
    let current = store.version();
    if requested > current {
        return Err(ApiError::TooLargeVersion { requested, current });
    }
    Ok((request.exact.then_some(requested), None))
}

/// Parses a resourceVersion parameter.
pub(crate) fn parse_version(text: &str) -> Result<u64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::BadRequest(format!("Invalid value: {text:?}: resourceVersion")))
}

/// Opaque to clients: version, namespace and name are all free of `_`.
fn token(version: u64, last: &Key) -> String {
    format!("{version}_{}_{}", last.namespace, last.name)
}

fn parse_token(token: &str) -> Option<(u64, Key)> {
    let mut parts = token.splitn(3, '_');
    let version = parts.next()?.parse().ok()?;
    Some((version, Key::new(parts.next()?, parts.next()?)))
}
