//! Where credentials may stand in a request: `Authorization`, `X-API-Key`, and for browsers' sockets
//! and event streams, which cannot set headers, `?ticket=` and `?token=`.

use crate::query::Query;
use axum::http::HeaderMap;
use weir_core::Code;
use weir_engine::{Credentials, Error};

/// Credentials in the headers. `None` when there are none.
///
/// # Errors
/// `INVALID_REQUEST` when a header is there and cannot be read.
pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Credentials>, Error> {
    if let Some(value) = headers.get(axum::http::header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unreadable("Authorization"))?;
        let (scheme, rest) = text.split_once(' ').ok_or_else(|| unreadable("Authorization"))?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unreadable("Authorization"));
        }
        return Ok(Some(Credentials::bearer(rest.trim())));
    }
    if let Some(value) = headers.get("x-api-key") {
        let text = value.to_str().map_err(|_| unreadable("X-API-Key"))?;
        return Ok(Some(Credentials::api_key(text.trim())));
    }
    Ok(None)
}

/// Credentials in the query of `/ws` and `/sse`.
pub(crate) fn from_query(query: &Query) -> Option<Credentials> {
    query
        .first("ticket")
        .map(Credentials::ticket)
        // An API key in a URL would end up in histories and proxies' logs: only client tokens here.
        .or_else(|| query.first("token").map(Credentials::token))
}

/// No credentials at all.
pub(crate) fn missing() -> Error {
    Error::new(
        Code::Unauthenticated,
        "No credentials: send `Authorization: Bearer <API key or client token>` or `X-API-Key: <API key>`; on /ws and /sse \
         also `?ticket=` or `?token=`.",
    )
}

fn unreadable(header: &str) -> Error {
    Error::new(
        Code::Unauthenticated,
        format!(
            "The header {header} cannot be read: send `Authorization: Bearer <API key or client token>`."
        ),
    )
    .with(serde_json::json!({ "header": header }))
}
