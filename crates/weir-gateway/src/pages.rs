//! The built-in pages, embedded in the binary: the playground at `/`, the API reference at `/docs`, and the files of
//! the GraphQL explorer.

use crate::openapi;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use std::sync::Arc;
use std::sync::LazyLock;

use crate::state::Gateway;

#[derive(RustEmbed)]
#[folder = "../../web"]
struct Files;

static DOCUMENT: LazyLock<String> = LazyLock::new(openapi::json);

/// `/openapi.json` always; the pages when they are enabled, and the files of those that are.
pub(crate) fn routes(console: bool, explorer: bool) -> Router<Arc<Gateway>> {
    let mut router = Router::new().route("/openapi.json", get(document));
    if console {
        router = router
            .route("/", get(async || file("index.html")))
            .route("/docs", get(async || file("docs.html")));
    }
    if console || explorer {
        let asset = get(async |axum::extract::Path(name): axum::extract::Path<String>| file(&name));
        router = router.route("/assets/{name}", asset);
    }
    router
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// Nothing is loaded from elsewhere, nothing but scripts sends a form, and no other site may frame the page.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; form-action 'none'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// One of the embedded files.
pub(crate) fn file(name: &str) -> Response {
    let Some(file) = Files::get(name) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, file.data.into_owned()).into_response()
}
