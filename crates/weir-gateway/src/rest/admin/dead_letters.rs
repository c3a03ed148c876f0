//! `/v1/admin/dead-letters`.

use super::list::page;
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::Query;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{DeadLetterId, ProjectId, TenantId, Timestamp, WebhookId};
use weir_engine::admin::permits::{DeadLettersRead, DeadLettersWrite};
use weir_engine::{DeadLetter, DeadLetterFilter, DeadLetterTotals, MAX_LETTER_BYTES, MAX_LETTERS};

/// What could not be delivered or read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterBody {
    /// Its id.
    #[schema(value_type = String, example = "dlq_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: DeadLetterId,
    /// Of which project.
    #[schema(value_type = Option<String>)]
    project_id: Option<ProjectId>,
    /// Who could not do what it should: `webhook` (an endpoint did not take it) or `log` (it stands in the event log and is
    /// no event).
    source: &'static str,
    /// Which webhook.
    #[schema(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    /// The `webhook-id` that the endpoint saw.
    message_id: String,
    /// `dead`, or `redriven`: on its way again.
    state: &'static str,
    /// Why it died: `exhausted` (every attempt failed) or `undecodable`.
    reason: &'static str,
    /// How the last attempt failed.
    failure: String,
    /// How often it was tried.
    attempts: u32,
    /// When the first attempt failed.
    #[schema(value_type = String, format = DateTime)]
    first_failed_at: Timestamp,
    /// When the last did.
    #[schema(value_type = String, format = DateTime)]
    last_failed_at: Timestamp,
    /// The event's id.
    event_id: Option<String>,
    /// The event's topic.
    topic: Option<String>,
    /// The event's sequence.
    sequence: u64,
    /// The event's cursor.
    cursor: Option<String>,
    /// How many bytes it has.
    bytes: u64,
    /// The event as it was sent, or text that is none; where one letter is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
}

impl DeadLetterBody {
    fn of(letter: DeadLetter, whole: bool) -> Self {
        let event = whole.then(|| {
            let text = || Value::String(String::from_utf8_lossy(&letter.body).into_owned());
            serde_json::from_slice(&letter.body).unwrap_or_else(|_| text())
        });
        Self {
            id: letter.id,
            project_id: letter.project_id,
            source: letter.source.as_str(),
            webhook_id: letter.webhook_id,
            message_id: letter.message_id,
            state: if letter.redriven { "redriven" } else { "dead" },
            reason: letter.reason.as_str(),
            failure: letter.failure,
            attempts: letter.attempts,
            first_failed_at: letter.first_failed_at,
            last_failed_at: letter.last_failed_at,
            event_id: letter.event_id,
            topic: letter.topic,
            sequence: letter.sequence,
            cursor: letter.cursor,
            bytes: letter.bytes,
            event,
        }
    }
}

/// How many dead letters the tenant has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterCounts {
    /// Letters.
    letters: u64,
    /// Bytes of them.
    bytes: u64,
    /// Letters that were dropped to make room, since the tenant was made.
    dropped: u64,
    /// Letters that are kept at most.
    max_letters: u64,
    /// Bytes that are kept at most.
    max_bytes: u64,
}

impl From<DeadLetterTotals> for DeadLetterCounts {
    fn from(totals: DeadLetterTotals) -> Self {
        let DeadLetterTotals { letters, bytes, dropped } = totals;
        Self { letters, bytes, dropped, max_letters: MAX_LETTERS, max_bytes: MAX_LETTER_BYTES }
    }
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterPage {
    /// The letters, oldest first.
    data: Vec<DeadLetterBody>,
    /// Ask on with `cursor` set to this.
    next_cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
    /// How many the tenant has.
    totals: DeadLetterCounts,
}

/// Which to set on their way again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedriveWish {
    /// The tenant; for operators.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Only this project's.
    #[schema(value_type = Option<String>)]
    project_id: Option<ProjectId>,
    /// Only this webhook's.
    #[schema(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    /// At most so many: 1 to 1000, as many as can be when absent.
    limit: Option<u32>,
}

/// What redriving led to.
#[derive(Serialize, ToSchema)]
pub(crate) struct RedrivenBody {
    /// Letters that are on their way again because of this.
    redriven: u32,
    /// Letters that cannot be now: they are no events, their webhook was deleted, or too much waits for it.
    refused: u32,
}

/// List dead letters.
///
/// Oldest first, without what they say.
#[utoipa::path(get, path = "/v1/admin/dead-letters", tag = "webhooks", extensions(("x-permission" = json!("dead-letters:read"))),
    params(("tenant_id" = Option<String>, Query, description = "The tenant; for operators"),
        ("project_id" = Option<String>, Query, description = "Only this project's"),
        ("webhook_id" = Option<String>, Query, description = "Only this webhook's"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = DeadLetterPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<DeadLettersRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeadLetterPage>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async {
        let tenant = query.parsed("tenant_id", "a tenant id (`ten_…`)")?;
        let filter = DeadLetterFilter {
            project: query.parsed("project_id", "a project id (`prj_…`)")?,
            webhook: query.parsed("webhook_id", "a webhook id (`whk_…`)")?,
        };
        gateway.engine.dead_letters(&admin.0, tenant, filter, page(&query)?).await
    };
    let (found, totals) = found.await.map_err(|error| admin.fail(error))?;
    let last = found.items.last().map(|letter| letter.id.to_string());
    Ok(Json(DeadLetterPage {
        next_cursor: last.filter(|_| found.has_more),
        has_more: found.has_more,
        data: found.items.into_iter().map(|letter| DeadLetterBody::of(letter, false)).collect(),
        totals: totals.into(),
    }))
}

/// Inspect a dead letter.
#[utoipa::path(get, path = "/v1/admin/dead-letters/{id}", tag = "webhooks", extensions(("x-permission" = json!("dead-letters:read"))),
    params(("id" = String, Path, description = "The dead letter")),
    responses((status = 200, body = DeadLetterBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<DeadLettersRead>,
    Id(id): Id<DeadLetterId>,
) -> Result<Json<DeadLetterBody>, Failure> {
    let letter = gateway.engine.dead_letter(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(DeadLetterBody::of(letter, true)))
}

/// Redrive a dead letter.
///
/// It is sent again, in the order of its topic among those that are redriven, and is gone once it was taken. Asking twice has
/// one effect.
#[utoipa::path(post, path = "/v1/admin/dead-letters/{id}/redrive", tag = "webhooks", extensions(("x-permission" = json!("dead-letters:write"))),
    params(("id" = String, Path, description = "The dead letter")),
    responses((status = 200, body = DeadLetterBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn redrive(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<DeadLettersWrite>,
    Id(id): Id<DeadLetterId>,
) -> Result<Json<DeadLetterBody>, Failure> {
    let letter = gateway.engine.redrive(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(DeadLetterBody::of(letter, false)))
}

/// Redrive many dead letters.
///
/// Those first that stand first in the log.
#[utoipa::path(post, path = "/v1/admin/dead-letters/redrive", tag = "webhooks", extensions(("x-permission" = json!("dead-letters:write"))),
    request_body = RedriveWish,
    responses((status = 200, body = RedrivenBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn redrive_all(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<DeadLettersWrite>,
    body: RawBody,
) -> Result<Json<RedrivenBody>, Failure> {
    let wish: RedriveWish = if body.bytes.is_empty() { RedriveWish::default() } else { admin.read(&body)? };
    let filter = DeadLetterFilter { project: wish.project_id, webhook: wish.webhook_id };
    let done = gateway.engine.redrive_all(&admin.0, wish.tenant_id, filter, wish.limit).await;
    let done = done.map_err(|error| admin.fail(error))?;
    Ok(Json(RedrivenBody { redriven: done.redriven, refused: done.refused }))
}

/// Drop a dead letter.
#[utoipa::path(delete, path = "/v1/admin/dead-letters/{id}", tag = "webhooks", extensions(("x-permission" = json!("dead-letters:write"))),
    params(("id" = String, Path, description = "The dead letter")),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<DeadLettersWrite>,
    Id(id): Id<DeadLetterId>,
) -> Result<StatusCode, Failure> {
    gateway.engine.drop_dead_letter(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(StatusCode::NO_CONTENT)
}
