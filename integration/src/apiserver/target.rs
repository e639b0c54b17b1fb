//! From a URL path to the resource it names.

use super::{
    error::ApiError,
    kinds::{self, KindRef},
};

/// What a resource URL points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub kind: KindRef,
    /// Absent for cluster-scoped kinds and for lists over all namespaces.
    pub namespace: Option<String>,
    /// Absent for the collection.
    pub name: Option<String>,
    /// The `/status` subresource.
    pub status: bool,
}

/// Parses `/api/v1/...` and `/apis/GROUP/VERSION/...` below the version.
pub(crate) fn parse(path: &str) -> Result<Target, ApiError> {
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    let group = match segments.next() {
        Some("api") => "",
        Some("apis") => segments.next().ok_or(ApiError::UnknownPath)?,
        _ => return Err(ApiError::UnknownPath),
    };
    let version = segments.next().ok_or(ApiError::UnknownPath)?;
    let rest: Vec<String> = segments.map(decode).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    // `namespaces/x` and `namespaces/x/status` are about the Namespace itself.
    let (namespace, rest) = match rest.as_slice() {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest[0] != "status" => {
            (Some((*namespace).to_owned()), rest)
        }
        rest => (None, rest),
    };
    let (plural, name, status) = match rest {
        [plural] => (*plural, None, false),
        [plural, name] => (*plural, Some((*name).to_owned()), false),
        [plural, name, "status"] => (*plural, Some((*name).to_owned()), true),
        _ => return Err(ApiError::UnknownPath),
    };
    let kind = kinds::by_url(group, version, plural).ok_or(ApiError::UnknownPath)?;
    let misplaced = if kind.namespaced() {
        namespace.is_none() && name.is_some()
    } else {
        namespace.is_some()
    };
    if misplaced || (status && !kind.status) {
        return Err(ApiError::UnknownPath);
    }
    Ok(Target {
        kind,
        namespace,
        name,
        status,
    })
}

/// Undoes percent encoding; invalid sequences stay as they are.
fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = segment
            .get(index + 1..index + 3)
            .filter(|_| bytes[index] == b'%');
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            index += 3;
        } else {
            decoded.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<(&'static str, Option<String>, Option<String>, bool)> {
        parse(path)
            .ok()
            .map(|t| (t.kind.plural, t.namespace, t.name, t.status))
    }

    #[test]
    fn paths_name_resources() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            parts("/api/v1/services"),
            Some(("services", None, None, false))
        );
        assert_eq!(
            parts("/api/v1/namespaces"),
            Some(("namespaces", None, None, false))
        );
        assert_eq!(
            parts("/api/v1/namespaces/a"),
            Some(("namespaces", None, some("a"), false))
        );
        assert_eq!(
            parts("/api/v1/namespaces/a/status"),
            Some(("namespaces", None, some("a"), true))
        );
        assert_eq!(
            parts("/api/v1/namespaces/a/services/b/status"),
            Some(("services", some("a"), some("b"), true))
        );
        assert_eq!(
            parts("/apis/networking.k8s.io/v1/ipaddresses/fd00%3A%3A1"),
            Some(("ipaddresses", None, some("fd00::1"), false))
        );
    }

    #[test]
    fn paths_of_nothing_are_unknown() {
        for path in [
            "/",
            "/api/v1",
            "/api/v2/services",
            "/apis/apps/v1/services",
            "/api/v1/services/a",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/namespaces/a/configmaps/b/status",
        ] {
            assert_eq!(parse(path), Err(ApiError::UnknownPath), "{path}");
        }
    }
}
