//! The operator's endpoints, on their own listener: liveness, readiness, metrics.

use crate::metrics::Format;
use crate::state::Gateway;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// Alive: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Everywhere else: what there is.
pub(crate) async fn elsewhere() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "There is nothing here. Try /healthz, /readyz, /overview or /metrics.\n")
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

/// One look at this node and what it knows of the others, for `weir top`.
pub(crate) async fn overview(State(gateway): State<Arc<Gateway>>) -> Response {
    Json(gateway.engine.overview().await).into_response()
}

/// What Prometheus scrapes, in the format that it likes best.
pub(crate) async fn metrics(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let format = Format::wanted(&headers);
    let health = gateway.engine.health().await;
    let kind = [(header::CONTENT_TYPE, format.content_type())];
    (kind, gateway.metrics.scrape(&gateway, &health, format)).into_response()
}
