//! `/healthz` for load balancers and the suite, `/proxyMode` for operators (rules J10, J17).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

/// Serves both until the process ends; `ready` is set once everything is programmed.
pub(super) async fn serve(
    healthz: SocketAddr,
    metrics: SocketAddr,
    mode: &'static str,
    ready: Arc<AtomicBool>,
) -> Result<()> {
    let health = Router::new().route("/healthz", get(move || async move { answer(&ready) }));
    let proxy_mode = Router::new().route("/proxyMode", get(move || async move { mode }));
    for (address, routes) in [(healthz, health), (metrics, proxy_mode)] {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen at {address}"))?;
        tokio::spawn(async move { axum::serve(listener, routes).await });
    }
    Ok(())
}

/// A healthy proxy is up to date by definition (rule J14).
fn answer(ready: &AtomicBool) -> impl IntoResponse + use<> {
    let healthy = ready.load(Ordering::Relaxed);
    let code = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let now = jiff::Timestamp::now().to_string();
    let body = json!({ "lastUpdated": now, "currentTime": now, "healthy": healthy });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (code, kind, body.to_string())
}
