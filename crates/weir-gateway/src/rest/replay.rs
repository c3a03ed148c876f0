//! `GET /v1/events`: history, page by page.

use crate::error::{ErrorBody, Failure};
use crate::extract::Authenticated;
use crate::query::Query;
use crate::rest::invalid;
use crate::state::Gateway;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Code, Pattern};
use weir_engine::{Error, Gap, ReplayPage, Start, event_json};

const DEFAULT_LIMIT: usize = 100;

/// An event as subscribers and replays see it.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "describes what event_json writes; never built")]
pub(crate) struct EventBody {
    /// The publisher's word for what kind of event it is.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Where it was published.
    topic: String,
    /// The publisher's id, or the one it was given.
    id: String,
    /// Its place in the project's order.
    sequence: u64,
    /// The sequence of the event before it on the same topic; 0 when none was retained.
    previous: u64,
    /// Resume after it with this, on any transport.
    cursor: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    published_at: String,
    /// Pairs that travel with it.
    headers: Option<BTreeMap<String, String>>,
    /// What it says: any JSON value.
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
}

/// Events that will not come, declared.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "describes how Gap is written; never built")]
pub(crate) struct GapBody {
    /// `expired`, `epoch_changed`, `ahead_of_log` or `rewritten`.
    reason: String,
    /// The first sequence that is missing or cannot be trusted.
    from: u64,
    /// The last one.
    to: u64,
}

/// A page of history.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "describes what write_page writes; never built")]
pub(crate) struct EventPage {
    /// The events, in order.
    data: Vec<EventBody>,
    /// Read on with `after` set to this; also resumes live on any transport.
    next_cursor: String,
    /// False when the page ends at the newest event.
    has_more: bool,
    /// What is missing before the first event of the page.
    gap: Option<GapBody>,
}

/// Replay events.
///
/// From the first retained event, or from where `after`, `from_sequence` or `from_time` says. A page may
/// hold fewer events than `limit` and still have more after it.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(
        ("topics" = Option<String>, Query, description = "Topics and patterns (`*` one token, a last `>` one or more), comma-separated; all when absent"),
        ("topic" = Option<String>, Query, description = "One topic or pattern, taken whole: for names with a comma; may be repeated"),
        ("after" = Option<String>, Query, description = "A cursor"),
        ("from_sequence" = Option<u64>, Query, description = "The first sequence wanted"),
        ("from_time" = Option<String>, Query, description = "RFC 3339; the first time wanted"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000)),
    responses((status = 200, body = EventPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn replay(
    State(gateway): State<Arc<Gateway>>,
    auth: Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref());
    let (patterns, start, limit) = wish(&query).map_err(|error| auth.fail(error))?;
    let page = gateway.engine.replay(&auth.caller, patterns, start, limit).await;
    let body = write_page(&page.map_err(|error| auth.fail(error))?);
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

fn wish(query: &Query) -> Result<(Vec<Pattern>, Start, usize), Error> {
    let mut patterns = query.patterns()?;
    if patterns.is_empty() {
        patterns.push(Pattern::all());
    }
    if patterns.len() > 128 {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("{} topics; at most 128 in one replay.", patterns.len()),
        ));
    }
    let start = query.start()?.unwrap_or(Start::Earliest);
    Ok((patterns, start, limit(query, DEFAULT_LIMIT)?))
}

/// The `limit` parameter of any list: 1 to 1000.
pub(crate) fn limit(query: &Query, default: usize) -> Result<usize, Error> {
    match query.parsed("limit", "a whole number from 1 to 1000")? {
        None => Ok(default),
        Some(limit @ 1..=1000) => Ok(limit),
        Some(other) => Err(invalid("limit", &format!("must be from 1 to 1000; got {other}"))),
    }
}

/// Payloads are copied as they are: a page of a thousand events is not parsed to be written.
fn write_page(page: &ReplayPage) -> Vec<u8> {
    let weight: usize = page.events.iter().map(|(event, _)| event.weight() + 256).sum();
    let mut out = Vec::with_capacity(weight);
    out.extend_from_slice(br#"{"data":["#);
    for (i, (event, cursor)) in page.events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&event_json(event, cursor));
    }
    let gap = page.gap.as_ref().map_or_else(|| "null".to_owned(), gap_json);
    let tail =
        format!(r#"],"next_cursor":"{}","has_more":{},"gap":{gap}}}"#, page.next_cursor, page.has_more);
    out.extend_from_slice(tail.as_bytes());
    out
}

fn gap_json(gap: &Gap) -> String {
    serde_json::to_string(gap).unwrap_or_else(|_| "null".to_owned())
}
