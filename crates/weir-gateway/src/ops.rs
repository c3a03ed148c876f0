//! The operator's endpoints, on their own listener: liveness, readiness, metrics.

use crate::state::Gateway;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// Alive: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready for traffic, with a reason for each dependency that is not.
pub(crate) async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    let health = gateway.engine.health().await;
    let draining = gateway.is_draining();
    let ready = health.ready() && !draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |problem: &Option<String>| problem.clone().unwrap_or_else(|| "ok".to_owned());
    let body = json!({
        "ready": ready,
        "draining": draining,
        "database": word(&health.database),
        "event_log": word(&health.event_log),
        "access": word(&health.access),
        "durability": health.durability,
    });
    (status, Json(body)).into_response()
}

/// Prometheus' text exposition.
pub(crate) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], gateway.metrics.text(&gateway)).into_response()
}
