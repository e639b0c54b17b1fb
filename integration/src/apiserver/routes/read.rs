//! GET: one object, a list, a watch.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Parameters, is_watch, parameter};
use crate::apiserver::{
    Shared,
    error::ApiError,
    list::{self, ListRequest, parse_version},
    object::Key,
    selectors::Selectors,
    target::Target,
    watch::{self, Start, WatchRequest},
};

/// Length of a watch that names no `timeoutSeconds`.
const WATCH_TIMEOUT: Duration = Duration::from_mins(30);

pub(super) fn get(shared: &Shared, target: &Target) -> Result<Response, ApiError> {
    let key = Key::new(
        target.namespace.clone().unwrap_or_default(),
        target.name.clone().unwrap_or_default(),
    );
    Ok(Json(&*shared.store.get(target.kind, &key)?).into_response())
}

pub(super) fn list_or_watch(
    shared: &Arc<Shared>,
    target: Target,
    parameters: &Parameters,
) -> Result<Response, ApiError> {
    let mut fields = parameter(parameters, "fieldSelector").to_owned();
    if let Some(name) = &target.name {
        // The watch of a single object.
        fields = format!("metadata.name={name}");
    }
    let selectors = Selectors::parse(target.kind, parameter(parameters, "labelSelector"), &fields)?;
    if is_watch(parameters) {
        return start_watch(shared, target, selectors, parameters);
    }
    let resource_version_match = parameter(parameters, "resourceVersionMatch");
    let request = ListRequest {
        namespace: target.namespace,
        selectors,
        limit: parameter(parameters, "limit").parse().unwrap_or(0),
        continue_token: parameters
            .get("continue")
            .filter(|token| !token.is_empty())
            .cloned(),
        resource_version: parameter(parameters, "resourceVersion").to_owned(),
        exact: resource_version_match == "Exact",
    };
    if !resource_version_match.is_empty() && request.resource_version.is_empty() {
        let text = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(ApiError::BadRequest(text.into()));
    }
    Ok(Json(list::list(&shared.store, target.kind, &request)?).into_response())
}

fn start_watch(
    shared: &Arc<Shared>,
    target: Target,
    selectors: Selectors,
    parameters: &Parameters,
) -> Result<Response, ApiError> {
    let wants_bookmarks = parameter(parameters, "allowWatchBookmarks") == "true";
    let timeout = match parameter(parameters, "timeoutSeconds").parse() {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => WATCH_TIMEOUT,
    };
    let request = WatchRequest {
        kind: target.kind,
        namespace: target.namespace,
        selectors,
        start: watch_start(parameters, wants_bookmarks)?,
        bookmarks: wants_bookmarks.then_some(shared.bookmark_interval),
        timeout,
    };
    let started = shared.faults.refuse_watch().and_then(|()| {
        watch::start(
            Arc::clone(&shared.store),
            Arc::clone(&shared.faults),
            request,
        )
    });
    let body = match started {
        Ok(frames) => Body::from_stream(lines(frames)),
        Err(error @ ApiError::Expired(_)) if !shared.faults.gone_is_status() => Body::from(
            format!("{}\n", json!({"type": "ERROR", "object": error.status()})),
        ),
        Err(error) => return Err(error),
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Which of the start rules of "Resource versions" in the Kubernetes API
/// documentation a request falls under.
fn watch_start(parameters: &Parameters, wants_bookmarks: bool) -> Result<Start, ApiError> {
    let version = parameter(parameters, "resourceVersion");
    let version_match = parameter(parameters, "resourceVersionMatch");
    if parameter(parameters, "sendInitialEvents") == "true" {
        if version_match != "NotOlderThan" || !wants_bookmarks {
            let text = "sendInitialEvents requires resourceVersionMatch=NotOlderThan and \
                        allowWatchBookmarks=true";
            return Err(ApiError::BadRequest(text.into()));
        }
        return Ok(Start::Initial { mark_end: true });
    }
    if !version_match.is_empty() {
        let text =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(ApiError::BadRequest(text.into()));
    }
    match version {
        "" | "0" => Ok(Start::Initial { mark_end: false }),
        version => Ok(Start::After(parse_version(version)?)),
    }
}

fn lines(
    frames: mpsc::Receiver<bytes::Bytes>,
) -> impl futures::Stream<Item = Result<bytes::Bytes, Infallible>> {
    stream::unfold(frames, |mut frames| async move {
        let line = frames.recv().await?;
        Some((Ok(line), frames))
    })
}
