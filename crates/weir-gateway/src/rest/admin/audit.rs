//! `/v1/admin/audit`.

use super::Admin;
use super::list::{List, page};
use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::state::Gateway;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{TenantId, Timestamp};
use weir_engine::Error;
use weir_engine::admin::permits::AuditRead;
use weir_engine::audit::{Entry, Filter, Flaw, Verification, hex};

/// An entry of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryBody {
    /// Its place in the tenant's chain: 1, 2, 3, … without a gap.
    sequence: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who: `key:key_…`, `member:usr_…`, `cli`, `system`.
    actor: String,
    /// What was done.
    #[schema(example = "key.revoke")]
    action: String,
    /// To what: an id.
    target: String,
    /// What else is worth knowing.
    #[schema(value_type = Object)]
    details: Value,
    /// The SHA-256 that the next entry continues, 64 hex digits.
    hash: String,
}

impl From<Entry> for EntryBody {
    fn from(entry: Entry) -> Self {
        let details = serde_json::from_str(&entry.details);
        Self {
            sequence: entry.sequence,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            // It was written as JSON; if it is not any more, verifying says so and reading shows what is there.
            details: details.unwrap_or(Value::String(entry.details)),
            hash: hex::text(&entry.hash),
        }
    }
}

/// What checking the chain found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerificationBody {
    /// Whether every entry is there and as it was written.
    intact: bool,
    /// How many entries, when it is intact.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<i64>,
    /// The hash of the last entry. Noted elsewhere, it proves later that the chain was not rewritten either.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// The first entry that is not as it was written, or is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_at: Option<i64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl From<Verification> for VerificationBody {
    fn from(found: Verification) -> Self {
        let (mut entries, mut head, mut broken_at, mut reason) = (None, None, None, None);
        match found {
            Verification::Intact { entries: count, head: hash } => {
                (entries, head) = (Some(count), Some(hex::text(&hash)));
            }
            Verification::Broken(Flaw { sequence, reason: why }) => {
                (broken_at, reason) = (Some(sequence), Some(why));
            }
        }
        Self { intact: entries.is_some(), entries, head, broken_at, reason }
    }
}

fn tenant(query: &Query) -> Result<Option<TenantId>, Error> {
    query.parsed("tenant_id", "a tenant id (`ten_…`)")
}

fn filter(query: &Query) -> Result<Filter, Error> {
    const TIME: &str = "an RFC 3339 time such as 2026-01-31T12:00:00Z";
    let text = |name: &str| query.first(name).map(str::to_owned);
    Ok(Filter {
        action: text("action"),
        actor: text("actor"),
        target: text("target"),
        from: query.parsed("from", TIME)?,
        to: query.parsed("to", TIME)?,
    })
}

/// Read the audit trail.
///
/// Who changed what, oldest first. Every change is here; nothing is ever changed or removed.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "admin", extensions(("x-permission" = json!("audit:read"))),
    params(("tenant_id" = Option<String>, Query, description = "Operators: whose; the installation's own trail when absent"),
        ("action" = Option<String>, Query, description = "Only this action, such as `key.revoke`"),
        ("actor" = Option<String>, Query, description = "Only by this actor, such as `key:key_…`"),
        ("target" = Option<String>, Query, description = "Only about this id"),
        ("from" = Option<String>, Query, description = "From this time on (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<EntryBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<AuditRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<EntryBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let entries =
        async { gateway.engine.audit(&admin.0, tenant(&query)?, filter(&query)?, page(&query)?).await };
    let entries = entries.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(entries, |entry| entry.sequence, EntryBody::from)))
}

/// Check the audit trail.
///
/// Reads the whole chain and finds entries that were edited, removed, reordered or cut off its end.
#[utoipa::path(get, path = "/v1/admin/audit/verify", tag = "admin", extensions(("x-permission" = json!("audit:read"))),
    params(("tenant_id" = Option<String>, Query, description = "Operators: whose; the installation's own trail when absent")),
    responses((status = 200, body = VerificationBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn verify(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<AuditRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<VerificationBody>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async { gateway.engine.verify_audit(&admin.0, tenant(&query)?).await };
    Ok(Json(found.await.map_err(|error| admin.fail(error))?.into()))
}

/// Export the audit trail.
///
/// The whole chain as JSON, one entry a line, with the hashes: `weir audit verify --file` checks it again, anywhere.
#[utoipa::path(get, path = "/v1/admin/audit/export", tag = "admin", extensions(("x-permission" = json!("audit:read"))),
    params(("tenant_id" = Option<String>, Query, description = "Operators: whose; the installation's own trail when absent")),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn export(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<AuditRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref());
    let pages = tenant(&query).and_then(|tenant| gateway.engine.export_audit(&admin.0, tenant));
    let pages = pages.map_err(|error| admin.fail(error))?;
    // When a later page fails the body breaks off without its end, which clients notice.
    let lines = pages.and_then(|entries| async move { lines(&entries) });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn lines(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(Error::internal)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
