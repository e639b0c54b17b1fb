//! POST, PUT, PATCH and DELETE.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Parameters, parameter};
use crate::apiserver::{
    Shared,
    error::ApiError,
    object::{Key, map_mut, meta, name_suffix, not_found},
    patch::{self, Format},
    selectors::Selectors,
    store::{Part, Preconditions, WriteOptions, Written},
    target::Target,
};

/// A write request less its body.
pub(super) struct Write<'a> {
    pub(super) shared: &'a Shared,
    pub(super) target: &'a Target,
    pub(super) parameters: &'a Parameters,
}

impl Write<'_> {
    pub(super) fn create(&self, mut object: Value) -> Result<Response, ApiError> {
        self.check_body(&object)?;
        if !meta(&object, "resourceVersion").is_empty() {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::BadRequest(text.into()));
        }
        let kind = self.target.kind;
        let mut name = meta(&object, "name").to_owned();
        let prefix = meta(&object, "generateName");
        if name.is_empty() && !prefix.is_empty() {
            name = format!("{prefix}{}", name_suffix());
        }
        let metadata = map_mut(&mut object, "metadata");
        metadata.remove("uid");
        metadata.insert("name".into(), name.clone().into());
        let key = self.key(&name);
        let written =
            self.shared
                .store
                .write(kind, &key, self.options(), |before| match before {
                    Some(_) => Err(ApiError::AlreadyExists {
                        resource: kind.resource(),
                        name,
                    }),
                    None => Ok(object),
                })?;
        Ok(respond(&written))
    }

    pub(super) fn replace(&self, object: Value) -> Result<Response, ApiError> {
        self.check_body(&object)?;
        let key = self.named_key();
        let kind = self.target.kind;
        if meta(&object, "name") != key.name {
            let text = "the name of the object does not match the name on the URL";
            return Err(ApiError::BadRequest(text.into()));
        }
        let written =
            self.shared
                .store
                .write(kind, &key, self.options(), |before| match before {
                    Some(_) => Ok(object),
                    None => Err(not_found(kind, &key.name)),
                })?;
        Ok(respond(&written))
    }

    pub(super) fn patch(&self, content_type: &str, body: &Value) -> Result<Response, ApiError> {
        let format = Format::from_content_type(content_type)?;
        let key = self.named_key();
        let kind = self.target.kind;
        let written =
            self.shared
                .store
                .write(kind, &key, self.options(), |before| match before {
                    Some(before) => patch::apply(kind, format, before, body),
                    None if format == Format::Apply && !self.target.status => {
                        patch::apply(kind, format, &json!({}), body)
                    }
                    None => Err(not_found(kind, &key.name)),
                })?;
        Ok(respond(&written))
    }

    pub(super) fn delete(&self, options: &Value) -> Result<Response, ApiError> {
        let given = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        let conditions = Preconditions {
            uid: given("uid"),
            resource_version: given("resourceVersion"),
        };
        let dry_run = self.options().dry_run || options["dryRun"][0] == "All";
        let kind = self.target.kind;
        let key = self.named_key();
        if let (true, Some(seconds @ 1..), false) =
            (kind.plural == "pods", self.grace(options), dry_run)
        {
            let marked = self.shared.store.mark(kind, &key, seconds)?;
            return Ok(Json(&*marked).into_response());
        }
        let object = self.shared.store.delete(kind, &key, &conditions, dry_run)?;
        if !dry_run && let Ok(marked) = self.shared.store.get(kind, &key) {
            // Finalizers keep it.
            return Ok(Json(&*marked).into_response());
        }
        Ok(Json(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": key.name, "group": kind.group, "kind": kind.plural, "uid": meta(&object, "uid"),
            },
        }))
        .into_response())
    }

    pub(super) fn delete_collection(&self) -> Result<Response, ApiError> {
        let selectors = Selectors::parse(
            self.target.kind,
            parameter(self.parameters, "labelSelector"),
            parameter(self.parameters, "fieldSelector"),
        )?;
        let store = &self.shared.store;
        let namespace = self.target.namespace.as_deref();
        let (_, objects) = store.list(self.target.kind, namespace, None)?;
        let dry_run = self.options().dry_run;
        for (key, _) in objects
            .iter()
            .filter(|(_, object)| selectors.matches(object))
        {
            match store.delete(self.target.kind, key, &Preconditions::default(), dry_run) {
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        });
        Ok(Json(status).into_response())
    }

    /// The grace period that a deletion asks for, in its body or its query.
    fn grace(&self, options: &Value) -> Option<u64> {
        let in_query = || {
            parameter(self.parameters, "gracePeriodSeconds")
                .parse()
                .ok()
        };
        options["gracePeriodSeconds"].as_u64().or_else(in_query)
    }

    fn options(&self) -> WriteOptions {
        let part = if self.target.status {
            Part::Status
        } else {
            Part::Main
        };
        WriteOptions {
            part,
            dry_run: parameter(self.parameters, "dryRun") == "All",
        }
    }

    fn key(&self, name: &str) -> Key {
        Key::new(self.target.namespace.clone().unwrap_or_default(), name)
    }

    fn named_key(&self) -> Key {
        self.key(self.target.name.as_deref().unwrap_or_default())
    }

    /// The body must be of the kind and namespace the URL names.
    fn check_body(&self, object: &Value) -> Result<(), ApiError> {
        let kind = self.target.kind;
        let (api_version, given) = (&object["apiVersion"], &object["kind"]);
        let same = |value: &Value, wanted: &str| value.is_null() || *value == wanted;
        if !object.is_object() || !same(given, kind.kind) || !same(api_version, &kind.api_version())
        {
            let text = format!(
                "{given} in version {api_version} cannot be handled as a {}",
                kind.kind
            );
            return Err(ApiError::BadRequest(text));
        }
        let namespace = meta(object, "namespace");
        let wanted = self.target.namespace.as_deref();
        if !namespace.is_empty() && wanted.is_some_and(|wanted| wanted != namespace) {
            let text = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::BadRequest(text.into()));
        }
        if kind.namespaced() && wanted.is_none() {
            return Err(ApiError::MethodNotAllowed);
        }
        Ok(())
    }
}

fn respond(written: &Written) -> Response {
    let code = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    (code, Json(&*written.object)).into_response()
}
