//! Errors of the API and their `Status` shape (`k8s.io/apimachinery` api/errors).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// What the API refuses, with the code and reason a real server gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: String, name: String },
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists { resource: String, name: String },
    #[error(
        "Operation cannot be fulfilled on {resource} \"{name}\": the object has been modified; \
         please apply your changes to the latest version and try again"
    )]
    Conflict { resource: String, name: String },
    #[error("{kind} \"{name}\" is invalid: {field}: Invalid value: {reason}")]
    Invalid {
        kind: String,
        name: String,
        field: String,
        reason: String,
    },
    #[error("{0}")]
    BadRequest(String),
    /// HTTP 410: a resourceVersion or continue token older than the history kept.
    #[error("{0}")]
    Expired(String),
    /// HTTP 504 with the cause the client retries on: a resourceVersion of the future.
    #[error("Too large resource version: {requested}, current: {current}")]
    TooLargeVersion { requested: u64, current: u64 },
    #[error("the server could not find the requested resource")]
    UnknownPath,
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("the body of the request was in an unknown format - {0}")]
    UnsupportedMediaType(String),
    /// Asked for through fault injection.
    #[error("injected failure")]
    Injected {
        code: u16,
        retry_after_seconds: Option<u32>,
    },
}

impl ApiError {
    /// HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::UnknownPath => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Invalid { .. } => 422,
            Self::BadRequest(_) => 400,
            Self::Expired(_) => 410,
            Self::TooLargeVersion { .. } => 504,
            Self::MethodNotAllowed => 405,
            Self::UnsupportedMediaType(_) => 415,
            Self::Injected { code, .. } => *code,
        }
    }

    /// Machine-readable `metav1.StatusReason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::UnknownPath => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. } => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::Expired(_) => "Expired",
            Self::TooLargeVersion { .. } => "Timeout",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Injected { code: 429, .. } => "TooManyRequests",
            Self::Injected { code: 503, .. } => "ServiceUnavailable",
            Self::Injected { code: 401, .. } => "Unauthorized",
            Self::Injected { code: 403, .. } => "Forbidden",
            Self::Injected { .. } => "InternalError",
        }
    }

    /// The `metav1.Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        let details = match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name } => {
                let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
                json!({"name": name, "group": group, "kind": plural})
            }
            Self::Invalid {
                kind,
                name,
                field,
                reason,
            } => json!({
                "name": name, "kind": kind,
                "causes": [{"reason": "FieldValueInvalid", "message": reason, "field": field}],
            }),
            Self::TooLargeVersion { .. } => json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }),
            Self::Injected {
                retry_after_seconds: Some(seconds),
                ..
            } => {
                json!({"retryAfterSeconds": seconds})
            }
            _ => return status,
        };
        status["details"] = details;
        status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, axum::Json(self.status())).into_response();
        if let Self::Injected {
            retry_after_seconds: Some(seconds),
            ..
        } = self
        {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
