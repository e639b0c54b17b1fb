//! Discovery documents and what surrounds them, generated from the table of kinds.
//!
//! The aggregated form is not offered: clients that ask for it fall back to
//! these documents. OpenAPI v3 says no more than kubectl reads: which kinds
//! exist and that writes accept `fieldValidation` and `dryRun`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::kinds::{self, KINDS, Kind};

/// What `/version` answers.
const GIT_VERSION: &str = "v1.34.0";

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Answers a path that is not about objects; none when it is.
pub(crate) fn answer(path: &str) -> Option<Response> {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let document = match segments.as_slice() {
        [] => json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/readyz", "/version"]}),
        ["healthz" | "livez" | "readyz", ..] => return Some("ok".into_response()),
        ["version"] => json!({
            "major": "1", "minor": "34", "gitVersion": GIT_VERSION, "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
            "platform": "linux/amd64",
        }),
        ["api"] => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        ["apis"] => {
            let groups: Vec<_> = kinds::groups().into_iter().map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let found = kinds::groups()
                .into_iter()
                .find(|(group, _)| group == name)?;
            let mut document = group(found);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            document
        }
        ["api", version] => resources("", version)?,
        ["apis", group, version] => resources(group, version)?,
        ["openapi", "v3"] => openapi_index(),
        ["openapi", "v3", "api", version] => openapi("", version)?,
        ["openapi", "v3", "apis", group, version] => openapi(group, version)?,
        _ => return None,
    };
    Some(Json(document).into_response())
}

fn group((name, version): (&str, &str)) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn of_version(group: &str, version: &str) -> Option<Vec<&'static Kind>> {
    let kinds: Vec<_> = KINDS
        .iter()
        .filter(|k| k.group == group && k.version == version)
        .collect();
    (!kinds.is_empty()).then_some(kinds)
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let kinds = of_version(group, version)?;
    let mut resources = Vec::new();
    for kind in &kinds {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced(),
            "kind": kind.kind, "verbs": VERBS, "shortNames": kind.short_names,
        }));
        if kind.status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "",
                "namespaced": kind.namespaced(), "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": kinds[0].api_version(), "resources": resources,
    }))
}

fn openapi_index() -> Value {
    let groups = kinds::groups();
    let named = groups
        .iter()
        .map(|(group, version)| format!("apis/{group}/{version}"));
    let paths: Map<String, Value> = std::iter::once("api/v1".to_owned())
        .chain(named)
        .map(|path| {
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")});
            (path, url)
        })
        .collect();
    json!({"paths": paths})
}

fn openapi(group: &str, version: &str) -> Option<Value> {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in of_version(group, version)? {
        let id = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let root = if group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{group}")
        };
        let namespace = if kind.namespaced() {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        paths.insert(
            format!("{root}/{version}{namespace}/{}/{{name}}", kind.plural),
            json!({"patch": {
                "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": id,
                "parameters": [parameter("dryRun"), parameter("fieldValidation")],
                "requestBody": {"content": {"application/merge-patch+json": {}}},
                "responses": {"200": {"description": "OK"}},
            }}),
        );
        let schema = json!({"type": "object", "x-kubernetes-group-version-kind": [id]});
        schemas.insert(format!("{}.{}", kind.version, kind.kind), schema);
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": paths, "components": {"schemas": schemas},
    }))
}
