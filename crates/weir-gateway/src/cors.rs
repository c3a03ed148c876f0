//! Pages of any origin may call: credentials travel in headers, never in cookies. The same words for everybody, so they
//! are constants; a general layer would be cloned with its lists for each publish.
//! Terms: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization,content-type,x-api-key,idempotency-key,x-weir-project,if-match,if-none-match,x-request-id,\
     last-event-id,traceparent,tracestate",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id,ratelimit-limit,ratelimit-remaining,ratelimit-reset,retry-after,etag,idempotent-replayed",
);
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// The answer to a browser that asks, with `OPTIONS`, before it calls.
pub(crate) fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Lets the page that called read the answer.
pub(crate) fn open(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
