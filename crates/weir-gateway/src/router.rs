//! Which path leads where. The API is mounted twice, under `/v1` and at the root.

use crate::error::Failure;
use crate::rest::{admin, auth, billing, events, idempotency, replay, schemas, tickets, topics};
use crate::state::Gateway;
use crate::{graphql, middleware, ops, pages, sse, ws};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::cors::{Any, CorsLayer};
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// Everything that callers reach.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let once = from_fn_with_state(Arc::clone(&gateway), idempotency::once);
    let api = Router::new()
        // Only what is long is worth compressing: history and lists, not the answers to publishes.
        .route("/events", post(events::publish).merge(get(replay::replay).layer(compression())))
        .route("/events/batch", post(events::publish_batch))
        .route("/topics", get(topics::list).layer(compression()))
        .merge(schemas::routes().route_layer(once.clone()).layer(compression()))
        .route("/tickets", post(tickets::create))
        .nest("/auth", auth::routes())
        .nest("/admin", admin::routes().route_layer(once.clone()).layer(compression()))
        .nest("/billing", billing::routes().route_layer(once).layer(compression()))
        .route("/billing/stripe/webhook", post(billing::payments::webhook))
        .route("/ws", get(ws::upgrade))
        .route("/sse", get(sse::over_hyper))
        .route("/graphql", post(graphql::post).get(graphql::get).layer(compression()));
    let pages = pages::routes(gateway.settings.console, gateway.settings.graphql.explorer);
    Router::new()
        .nest("/v1", api.clone())
        .merge(api)
        .merge(pages.layer(compression()))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors())
        .layer(from_fn_with_state(Arc::clone(&gateway), middleware::around))
        .with_state(gateway)
}

/// What operators and their probes reach, on a listener of its own.
pub fn ops_router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/overview", get(ops::overview))
        .with_state(gateway)
}

async fn not_found(request: Request) -> Failure {
    let (parts, _) = request.into_parts();
    let path: String = parts.uri.path().chars().take(80).collect();
    let error =
        Error::new(Code::NotFound, format!("There is nothing at `{path}`. The API is described at /docs."));
    Failure::new(error, crate::extract::request_id(&parts))
}

async fn wrong_method(request: Request) -> Failure {
    let (parts, _) = request.into_parts();
    let path: String = parts.uri.path().chars().take(80).collect();
    let error =
        Error::new(Code::MethodNotAllowed, format!("`{}` is not a method of `{path}`.", parts.method));
    Failure::new(error, crate::extract::request_id(&parts))
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    use axum::response::IntoResponse;
    Failure::new(Error::internal("a handler panicked; the panic's own line has the place"), RequestId::new())
        .into_response()
}

fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().compress_when(SizeAbove::new(1024))
}

/// Credentials travel in headers, never in cookies, so any origin may call.
fn cors() -> CorsLayer {
    let exposed = [
        "x-request-id",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "etag",
        "idempotent-replayed",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-weir-project"),
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(86_400))
}
