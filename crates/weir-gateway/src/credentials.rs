//! Where credentials may stand in a request: `Authorization`, `X-API-Key`, and for browsers' sockets
//! and event streams, which cannot set headers, `?ticket=` and `?token=`. A member's token says only the tenant: the
//! project stands in `X-Weir-Project` or `?project=`.

use crate::query::Query;
use crate::rest::invalid;
use axum::http::HeaderMap;
use weir_core::{Code, ProjectId};
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
        return Ok(Some(Credentials::bearer(rest.trim()).in_project(project(headers)?)));
    }
    if let Some(value) = headers.get("x-api-key") {
        let text = value.to_str().map_err(|_| unreadable("X-API-Key"))?;
        return Ok(Some(Credentials::api_key(text.trim())));
    }
    Ok(None)
}

/// Credentials in the query of `/ws` and `/sse`.
///
/// # Errors
/// `INVALID_REQUEST` when they are there and cannot be read.
pub(crate) fn from_query(query: &Query) -> Result<Option<Credentials>, Error> {
    let project = query.parsed("project", PROJECT)?;
    let ticket = query.first("ticket").map(Credentials::ticket);
    // An API key in a URL would end up in histories and proxies' logs: only tokens here.
    let token = || query.first("token").map(|token| Credentials::token(token).in_project(project));
    Ok(ticket.or_else(token))
}

/// The form of a project's id.
pub(crate) const PROJECT: &str = "a project id (`prj_…`)";

/// The project that a member names in a header.
fn project(headers: &HeaderMap) -> Result<Option<ProjectId>, Error> {
    let Some(value) = headers.get("x-weir-project") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| invalid("X-Weir-Project", &format!("must be {PROJECT}")))
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
