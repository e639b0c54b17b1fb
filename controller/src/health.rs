//! The HTTP servers: /healthz and /livez for load balancers and the kubelet, /metrics
//! and /proxyMode for operators (rules J10–J18).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::{datapath::now_unix_ns, metrics};

/// What the servers report. Times are nanoseconds since the Unix epoch, 0 is "none".
#[derive(Debug)]
pub struct Health {
    synced: AtomicBool,
    eligible: AtomicBool,
    oldest_queued_at: AtomicU64,
    last_updated_at: AtomicU64,
    stale_after: Duration,
}

impl Health {
    /// Not synced yet. Unhealthy once a change has waited for `stale_after` (rule J13).
    pub fn new(stale_after: Duration) -> Self {
        Self {
            synced: AtomicBool::new(false),
            eligible: AtomicBool::new(true),
            oldest_queued_at: AtomicU64::new(0),
            last_updated_at: AtomicU64::new(0),
            stale_after,
        }
    }

    /// A change has arrived.
    pub fn queued(&self) {
        let _ = self.oldest_queued_at.compare_exchange(
            0,
            now_unix_ns(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Everything that has arrived is programmed.
    pub fn updated(&self) {
        self.oldest_queued_at.store(0, Ordering::Relaxed);
        self.last_updated_at.store(now_unix_ns(), Ordering::Relaxed);
        self.synced.store(true, Ordering::Relaxed);
    }

    /// Whether everything was programmed once and no change waits too long.
    pub fn is_healthy(&self) -> bool {
        let queued_at = self.oldest_queued_at.load(Ordering::Relaxed);
        let waited = now_unix_ns().saturating_sub(queued_at);
        let stale = queued_at != 0 && u128::from(waited) > self.stale_after.as_nanos();
        self.synced.load(Ordering::Relaxed) && !stale
    }

    fn answer(&self, livez: bool) -> Response {
        let healthy = self.is_healthy();
        let eligible = self.eligible.load(Ordering::Relaxed);
        let now = now_unix_ns();
        // A healthy proxy is up to date by definition (rule J14).
        let updated = if healthy {
            now
        } else {
            self.last_updated_at.load(Ordering::Relaxed)
        };
        let family = json!({ "lastUpdated": rfc3339(updated), "healthy": healthy });
        let mut body = json!({
            "lastUpdated": rfc3339(updated),
            "currentTime": rfc3339(now),
            "healthy": healthy,
            "status": { "IPv4": family, "IPv6": family },
        });
        if !livez && let Some(body) = body.as_object_mut() {
            body.insert("nodeEligible".into(), eligible.into());
        }
        let ok = healthy && (livez || eligible);
        let code = if ok {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        metrics::answered(livez, code.as_u16());
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (HeaderName::from_static("x-content-type-options"), "nosniff"),
        ];
        (code, headers, body.to_string()).into_response()
    }
}

/// /healthz and /livez.
pub fn health_routes(health: Arc<Health>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|State(health): State<Arc<Health>>| async move { health.answer(false) }),
        )
        .route(
            "/livez",
            get(|State(health): State<Arc<Health>>| async move { health.answer(true) }),
        )
        .with_state(health)
}

/// Asks the owner of the maps to read their counters, and to say when that is done.
pub type Refresh = mpsc::Sender<oneshot::Sender<()>>;

/// /metrics, /proxyMode and /healthz.
pub fn metrics_routes(handle: PrometheusHandle, refresh: Refresh) -> Router {
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
        .route("/healthz", get(|| async { "ok" }))
}

/// RFC 3339 in UTC.
fn rfc3339(unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns))
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_is_unhealthy() {
        let health = Health::new(Duration::from_secs(60));
        assert!(!health.is_healthy());
        assert_eq!(
            health.answer(false).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.updated();
        assert_eq!(health.answer(false).status(), StatusCode::OK);
    }

    #[test]
    fn change_that_waits_too_long_is_unhealthy_until_it_is_written() {
        let health = Health::new(Duration::ZERO);
        health.updated();
        health.queued();
        std::thread::sleep(Duration::from_millis(2));
        assert!(!health.is_healthy());
        health.updated();
        assert!(health.is_healthy());
    }

    #[test]
    fn node_eligibility_counts_for_healthz_only() {
        let health = Health::new(Duration::from_secs(60));
        health.updated();
        health.eligible.store(false, Ordering::Relaxed);
        assert_eq!(
            health.answer(false).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(health.answer(true).status(), StatusCode::OK);
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(
            rfc3339(1_700_000_000_123_000_000),
            "2023-11-14T22:13:20.123Z"
        );
    }
}
