//! Which path leads where. The API is mounted twice, under `/v1` and at the root.

use crate::error::Failure;
use crate::middleware::AroundLayer;
use crate::rest::{admin, auth, billing, events, idempotency, replay, schemas, tickets, topics};
use crate::state::Gateway;
use crate::{graphql, ops, pages, sse, ws};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use weir_core::Code;
use weir_engine::Error;

/// Everything that callers reach.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let pages = pages::routes(gateway.settings.console, gateway.settings.graphql.explorer);
    Router::new()
        .merge(api("/v1", &gateway))
        .merge(api("", &gateway))
        .merge(pages.layer(compression()))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(AroundLayer(Arc::clone(&gateway)))
        .with_state(gateway)
}

/// The API under a prefix. What is called most has its whole path here: a nested router writes the path anew for each
/// request.
fn api(prefix: &str, gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    let once = from_fn_with_state(Arc::clone(gateway), idempotency::once);
    let at = |path: &str| format!("{prefix}{path}");
    let rest = Router::new()
        .merge(schemas::routes().route_layer(once.clone()).layer(compression()))
        .nest("/auth", auth::routes().layer(map_response(not_kept)))
        .nest(
            "/admin",
            admin::routes().route_layer(once.clone()).layer(compression()).layer(map_response(not_kept)),
        )
        .nest("/billing", billing::routes().route_layer(once).layer(compression()))
        .route("/billing/stripe/webhook", post(billing::payments::webhook));
    let often = Router::new()
        // Only what is long is worth compressing: history and lists, not the answers to publishes.
        .route(&at("/events"), post(events::publish).merge(get(replay::replay).layer(compression())))
        .route(&at("/events/batch"), post(events::publish_batch))
        .route(&at("/topics"), get(topics::list).layer(compression()))
        .route(&at("/tickets"), post(tickets::create))
        .route(&at("/ws"), get(ws::upgrade))
        .route(&at("/sse"), get(sse::over_hyper))
        .route(&at("/graphql"), post(graphql::post).get(graphql::get).layer(compression()));
    if prefix.is_empty() { often.merge(rest) } else { often.nest(prefix, rest) }
}

/// What operators and their probes reach, on a listener of its own.
pub fn ops_router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/overview", get(ops::overview))
        .fallback(ops::elsewhere)
        .with_state(gateway)
}

/// Keys, tokens and who may do what stay in no cache on the way.
async fn not_kept(mut response: Response) -> Response {
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
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

fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().compress_when(SizeAbove::new(1024))
}
