//! HTTP: one handler for every path, split by what the path names.

mod read;
mod write;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest, Query, Request, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{Shared, discovery, error::ApiError, requests::RequestRecord, target};

/// Query parameters; the API has no repeated ones that matter here.
type Parameters = HashMap<String, String>;

/// The whole service.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.requests.record(RequestRecord::of(&request));
    let target = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    if let Err(error) = shared.faults.intercept(&target).await {
        return error.into_response();
    }
    if request.method() == Method::GET
        && let Some(response) = discovery::answer(request.uri().path())
    {
        return response;
    }
    match dispatch(&shared, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn dispatch(shared: &Arc<Shared>, request: Request) -> Result<Response, ApiError> {
    let target = target::parse(request.uri().path())?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(request.uri())
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let method = request.method().clone();
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let write = write::Write {
        shared,
        target: &target,
        parameters: &parameters,
    };
    match (method, target.name.is_some()) {
        (Method::GET, true) if !is_watch(&parameters) => read::get(shared, &target),
        (Method::GET, _) => read::list_or_watch(shared, target, &parameters),
        (Method::POST, false) => write.create(parse_body(&headers, &body)?),
        (Method::PUT, true) => write.replace(parse_body(&headers, &body)?),
        (Method::PATCH, true) => write.patch(content_type(&headers), &parse_body(&headers, &body)?),
        (Method::DELETE, true) => write.delete(&parse_body(&headers, &body)?),
        (Method::DELETE, false) => write.delete_collection(),
        _ => Err(ApiError::MethodNotAllowed),
    }
}

fn is_watch(parameters: &Parameters) -> bool {
    matches!(parameter(parameters, "watch"), "1" | "true")
}

/// A query parameter, empty when absent.
fn parameter<'a>(parameters: &'a Parameters, name: &str) -> &'a str {
    parameters.get(name).map_or("", String::as_str)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Decodes JSON, or YAML where the content type says so. No body is null.
fn parse_body(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let content_type = content_type(headers);
    if content_type.contains("yaml") {
        return serde_norway::from_slice(body).map_err(|e| ApiError::BadRequest(e.to_string()));
    }
    if !content_type.is_empty() && !content_type.contains("json") {
        return Err(ApiError::UnsupportedMediaType(content_type.to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::BadRequest(error.to_string()))
}
