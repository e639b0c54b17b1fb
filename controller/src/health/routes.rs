//! What /healthz, /livez, /metrics, /proxyMode and /configz answer (rules J10–J18).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Health;
use crate::{datapath::now_unix_ns, metrics};

/// /healthz and /livez.
pub fn health_routes(health: Arc<Health>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|State(health): State<Arc<Health>>| async move { healthz(&health) }),
        )
        .route(
            "/livez",
            get(|State(health): State<Arc<Health>>| async move { livez(&health) }),
        )
        .with_state(health)
}

/// Asks the owner of the maps to read their counters, and to say when that is done.
pub type Refresh = mpsc::Sender<oneshot::Sender<()>>;

/// /metrics, /proxyMode, /configz and /healthz. `options` are those in force.
pub fn metrics_routes(handle: PrometheusHandle, refresh: Refresh, options: Value) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                let (done, read) = oneshot::channel();
                if refresh.send(done).await.is_ok() {
                    let _ = read.await;
                }
                (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
                    handle.render(),
                )
            }),
        )
        .route("/proxyMode", get(|| async { "ebpf" }))
        .route("/configz", get(|| async { Json(options) }))
        .route("/healthz", get(|| async { "ok" }))
}

/// For load balancers: healthy, and on a node that stays.
fn healthz(health: &Health) -> Response {
    let (healthy, eligible) = (health.is_healthy(), health.is_eligible());
    let mut body = report(health, healthy);
    body["nodeEligible"] = eligible.into();
    let code = code(healthy && eligible);
    metrics::answered(false, code.as_u16());
    answer(code, &body)
}

/// For the kubelet (rule J11).
fn livez(health: &Health) -> Response {
    let alive = health.is_alive();
    let code = code(alive);
    metrics::answered(true, code.as_u16());
    answer(code, &report(health, alive))
}

fn report(health: &Health, healthy: bool) -> Value {
    let now = now_unix_ns();
    // A healthy proxy is up to date by definition (rule J14).
    let updated = if healthy {
        now
    } else {
        health.last_updated_at()
    };
    let family = json!({ "lastUpdated": rfc3339(updated), "healthy": healthy });
    json!({
        "lastUpdated": rfc3339(updated),
        "currentTime": rfc3339(now),
        "healthy": healthy,
        "status": { "IPv4": family, "IPv6": family },
    })
}

/// 200 or 503.
pub(super) fn code(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A JSON body with kube-proxy's headers (rule J4).
pub(super) fn answer(code: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    (code, headers, body.to_string()).into_response()
}

/// RFC 3339 in UTC.
fn rfc3339(unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns))
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Standing;

    #[test]
    fn node_eligibility_counts_for_healthz_only() {
        let health = Health::new(Duration::from_secs(60), true);
        health.updated();
        assert_eq!(healthz(&health).status(), StatusCode::OK);
        health.stands(Standing::Leaving);
        assert_eq!(healthz(&health).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(livez(&health).status(), StatusCode::OK);
    }

    #[test]
    fn unsynced_proxies_get_no_traffic_and_are_not_restarted() {
        let health = Health::new(Duration::from_secs(60), true);
        assert_eq!(healthz(&health).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(livez(&health).status(), StatusCode::OK);
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(
            rfc3339(1_700_000_000_123_000_000),
            "2023-11-14T22:13:20.123Z"
        );
    }
}
