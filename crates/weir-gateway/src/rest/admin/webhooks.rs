//! `/v1/admin/webhooks`.

use super::list::{List, page};
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::{Query, one_start};
use crate::rest::invalid;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use weir_core::{Pattern, ProjectId, Timestamp, WebhookId};
use weir_engine::admin::permits::{WebhooksRead, WebhooksWrite};
use weir_engine::admin::{May, Permit, WebhookChange, WebhookWish};
use weir_engine::{Engine, Error, Start, Webhook, WebhookAttempt, WebhookTerms};

/// For how long an old secret signs on when nothing else is said.
const DEFAULT_GRACE: u64 = 24 * 3600;
/// How many at once when nothing else is said.
const DEFAULT_IN_FLIGHT: u32 = 8;

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookBody {
    /// Its id.
    #[schema(value_type = String, example = "whk_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: WebhookId,
    /// The project whose events are sent.
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// What its owner calls it.
    name: String,
    /// Where events are sent.
    url: String,
    /// Which ones: topics and patterns.
    #[schema(value_type = Vec<String>)]
    topics: Vec<Pattern>,
    /// One event at a time, in the project's order; the next waits until it was taken or is a dead letter.
    ordered: bool,
    /// How many at once where order does not matter.
    in_flight: u32,
    /// False while nothing is sent.
    enabled: bool,
    /// Why nothing is sent: `asked`, `failing` (for too long), or `gone` (it answered 410).
    disabled_reason: Option<&'static str>,
    /// Since when nothing is sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// The first failure after its last success.
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// Everything up to here was delivered, waits for another attempt, or is a dead letter.
    cursor: String,
    /// Until when the secret before the last rotation signs too.
    #[schema(value_type = Option<String>, format = DateTime)]
    old_secret_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Messages that wait for another attempt; where one webhook is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
}

impl WebhookBody {
    fn of(webhook: Webhook, engine: &Engine) -> Self {
        let cursor = engine.webhook_cursor(&webhook);
        Self {
            id: webhook.id,
            project_id: webhook.project_id,
            name: webhook.terms.name,
            url: webhook.terms.url,
            topics: webhook.terms.topics,
            ordered: webhook.terms.ordered,
            in_flight: webhook.terms.in_flight,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled.map(|(reason, _)| reason.as_str()),
            disabled_at: webhook.disabled.map(|(_, at)| at),
            failing_since: webhook.failing_since,
            cursor,
            old_secret_until: webhook.old_secret.map(|(_, until)| until),
            created_at: webhook.created_at,
            waiting: None,
        }
    }
}

/// A webhook with a new secret, which is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookWithSecret {
    #[serde(flatten)]
    webhook: WebhookBody,
    /// Verify signatures with it: `whsec_…`, as Standard Webhooks has it.
    secret: String,
}

/// A webhook to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWebhook {
    /// The project whose events are sent; an API key's own when absent.
    #[schema(value_type = Option<String>)]
    project_id: Option<ProjectId>,
    /// Up to 128 characters.
    #[serde(default)]
    name: String,
    /// Where events are sent: https.
    url: String,
    /// 1 to 32 topics and patterns. `@weir.>` has the server's own events.
    #[schema(value_type = Vec<String>)]
    topics: Vec<Pattern>,
    /// One event at a time, in order; false when absent.
    #[serde(default)]
    ordered: bool,
    /// How many at once where order does not matter: 1 to 64, 8 when absent.
    in_flight: Option<u32>,
    /// Begin after the event of this cursor; with what comes from now on when nothing is said.
    after: Option<String>,
    /// Begin with this sequence.
    from_sequence: Option<u64>,
    /// Begin with the first event accepted then or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    from_time: Option<Timestamp>,
}

/// What to change about a webhook; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeWebhook {
    /// Another name.
    name: Option<String>,
    /// Another endpoint.
    url: Option<String>,
    /// Other topics.
    #[schema(value_type = Option<Vec<String>>)]
    topics: Option<Vec<Pattern>>,
    /// Whether order matters.
    ordered: Option<bool>,
    /// How many at once.
    in_flight: Option<u32>,
}

/// How to rotate.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateWebhook {
    /// For how long the old secret signs too: 0 to 604800, a day when absent.
    grace_seconds: Option<u64>,
}

/// Where to begin again; one of them.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReplayWebhook {
    /// After the event of this cursor.
    after: Option<String>,
    /// With this sequence.
    from_sequence: Option<u64>,
    /// With the first event accepted then or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    from_time: Option<Timestamp>,
}

/// What came of trying an endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct PingedBody {
    /// The `webhook-id` that it was sent.
    message_id: String,
    /// Whether the endpoint took it.
    delivered: bool,
    /// What it answered.
    status: Option<u16>,
    /// What went wrong.
    failure: Option<String>,
    /// How long it took.
    duration_ms: u64,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
pub(crate) struct AttemptBody {
    /// Its id.
    id: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The `webhook-id`, the same at every attempt.
    message_id: String,
    /// The event's id.
    event_id: String,
    /// The event's topic.
    topic: String,
    /// The event's place in the log; of a gap the last sequence that is missing.
    sequence: u64,
    /// Which attempt of this message: 1, 2, 3 …
    number: u32,
    /// `delivered`, `retry` (another comes), `dead` (a dead letter now), or `disabled` (nothing is sent any more).
    outcome: &'static str,
    /// What the endpoint answered.
    status: Option<u16>,
    /// What went wrong.
    failure: Option<String>,
    /// How long it took.
    duration_ms: u64,
}

impl From<WebhookAttempt> for AttemptBody {
    fn from(attempt: WebhookAttempt) -> Self {
        Self {
            id: attempt.id.to_string(),
            at: attempt.at,
            message_id: attempt.message_id,
            event_id: attempt.event_id,
            topic: attempt.topic,
            sequence: attempt.sequence,
            number: attempt.number,
            outcome: attempt.outcome.as_str(),
            status: attempt.status,
            failure: attempt.failure,
            duration_ms: attempt.millis,
        }
    }
}

fn project<P: Permit>(may: &May<P>, named: Option<ProjectId>) -> Result<ProjectId, Error> {
    let missing = || invalid("project_id", "is needed: the project whose events are sent");
    named.or(may.principal().project).ok_or_else(missing)
}

fn start(
    after: Option<String>,
    sequence: Option<u64>,
    time: Option<Timestamp>,
) -> Result<Option<Start>, Error> {
    one_start([after.map(Start::After), sequence.map(Start::Sequence), time.map(Start::Time)])
}

/// List webhooks.
///
/// Those of one project.
#[utoipa::path(get, path = "/v1/admin/webhooks", tag = "webhooks", extensions(("x-permission" = json!("webhooks:read"))),
    params(("project_id" = Option<String>, Query, description = "The project; an API key's own when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<WebhookBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<WebhookBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async {
        let project = project(&admin.0, query.parsed("project_id", "a project id (`prj_…`)")?)?;
        gateway.engine.list_webhooks(&admin.0, project, page(&query)?).await
    };
    let found = found.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(found, |one| one.id, |one| WebhookBody::of(one, &gateway.engine))))
}

/// Create a webhook.
///
/// Events of the topics are sent to the endpoint, signed, at least once, from now on or from where `after`, `from_sequence`
/// or `from_time` says. A project has at most 100. Needs `events:subscribe` too.
#[utoipa::path(post, path = "/v1/admin/webhooks", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    request_body = CreateWebhook,
    responses((status = 201, body = WebhookWithSecret), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    body: RawBody,
) -> Result<(StatusCode, Json<WebhookWithSecret>), Failure> {
    let wish: CreateWebhook = admin.read(&body)?;
    let made = async {
        let start = start(wish.after, wish.from_sequence, wish.from_time)?.unwrap_or(Start::Live);
        let terms = WebhookTerms {
            name: wish.name,
            url: wish.url,
            topics: wish.topics,
            ordered: wish.ordered,
            in_flight: wish.in_flight.unwrap_or(DEFAULT_IN_FLIGHT),
        };
        let wish = WebhookWish { project: project(&admin.0, wish.project_id)?, terms, start };
        gateway.engine.create_webhook(&admin.0, wish).await
    };
    let (made, secret) = made.await.map_err(|error| admin.fail(error))?;
    let webhook = WebhookBody::of(made, &gateway.engine);
    Ok((StatusCode::CREATED, Json(WebhookWithSecret { webhook, secret: secret.expose().to_owned() })))
}

/// Read a webhook.
#[utoipa::path(get, path = "/v1/admin/webhooks/{id}", tag = "webhooks", extensions(("x-permission" = json!("webhooks:read"))),
    params(("id" = String, Path, description = "The webhook")),
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksRead>,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookBody>, Failure> {
    let (webhook, waiting) = gateway.engine.webhook(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(WebhookBody { waiting: Some(waiting), ..WebhookBody::of(webhook, &gateway.engine) }))
}

/// Change a webhook.
#[utoipa::path(patch, path = "/v1/admin/webhooks/{id}", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")), request_body = ChangeWebhook,
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn change(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    body: RawBody,
) -> Result<Json<WebhookBody>, Failure> {
    let ChangeWebhook { name, url, topics, ordered, in_flight } = admin.read(&body)?;
    let change = WebhookChange { name, url, topics, ordered, in_flight };
    let changed = gateway.engine.change_webhook(&admin.0, id, change).await;
    Ok(Json(WebhookBody::of(changed.map_err(|error| admin.fail(error))?, &gateway.engine)))
}

/// Delete a webhook.
///
/// What waits for it is gone with it; its dead letters stay.
#[utoipa::path(delete, path = "/v1/admin/webhooks/{id}", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")),
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookBody>, Failure> {
    let removed = gateway.engine.delete_webhook(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(WebhookBody::of(removed, &gateway.engine)))
}

/// Rotate a webhook's secret.
///
/// Messages are signed with both until the old one's time ends.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/rotate", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")), request_body = RotateWebhook,
    responses((status = 201, body = WebhookWithSecret), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    body: RawBody,
) -> Result<(StatusCode, Json<WebhookWithSecret>), Failure> {
    let wish: RotateWebhook =
        if body.bytes.is_empty() { RotateWebhook::default() } else { admin.read(&body)? };
    let grace = Duration::from_secs(wish.grace_seconds.unwrap_or(DEFAULT_GRACE));
    let rotated = gateway.engine.rotate_webhook(&admin.0, id, grace).await;
    let (webhook, secret) = rotated.map_err(|error| admin.fail(error))?;
    let webhook = WebhookBody::of(webhook, &gateway.engine);
    Ok((StatusCode::CREATED, Json(WebhookWithSecret { webhook, secret: secret.expose().to_owned() })))
}

/// Try a webhook.
///
/// Sends an event on `@weir.webhook.ping`, once and at once, and says what came of it.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/test", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")),
    responses((status = 200, body = PingedBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn test(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<Json<PingedBody>, Failure> {
    let pinged = gateway.engine.ping_webhook(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(PingedBody {
        message_id: pinged.message_id,
        delivered: pinged.failure.is_none(),
        status: pinged.status,
        failure: pinged.failure,
        duration_ms: u64::try_from(pinged.took.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Enable a webhook.
///
/// It goes on where it stood; what waits is tried at once.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/enable", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")),
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn enable(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookBody>, Failure> {
    let enabled = gateway.engine.enable_webhook(&admin.0, id, true).await;
    Ok(Json(WebhookBody::of(enabled.map_err(|error| admin.fail(error))?, &gateway.engine)))
}

/// Disable a webhook.
///
/// Nothing is sent until it is enabled. Where it stands is kept.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/disable", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")),
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn disable(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookBody>, Failure> {
    let disabled = gateway.engine.enable_webhook(&admin.0, id, false).await;
    Ok(Json(WebhookBody::of(disabled.map_err(|error| admin.fail(error))?, &gateway.engine)))
}

/// Replay to a webhook.
///
/// It begins again where `after`, `from_sequence` or `from_time` says. What is not retained any more is told to the endpoint
/// as `@weir.webhook.gap`. Events that were sent before come under the same `webhook-id`.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/replay", tag = "webhooks", extensions(("x-permission" = json!("webhooks:write"))),
    params(("id" = String, Path, description = "The webhook")), request_body = ReplayWebhook,
    responses((status = 200, body = WebhookBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn replay(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    body: RawBody,
) -> Result<Json<WebhookBody>, Failure> {
    let wish: ReplayWebhook = admin.read(&body)?;
    let replayed = async {
        let start = start(wish.after, wish.from_sequence, wish.from_time)?;
        let missing =
            || invalid("after", "is needed, or `from_sequence`, or `from_time`: where to begin again");
        gateway.engine.replay_webhook(&admin.0, id, start.ok_or_else(missing)?).await
    };
    Ok(Json(WebhookBody::of(replayed.await.map_err(|error| admin.fail(error))?, &gateway.engine)))
}

/// List attempts.
///
/// The last 500 of a webhook, the newest first.
#[utoipa::path(get, path = "/v1/admin/webhooks/{id}/attempts", tag = "webhooks", extensions(("x-permission" = json!("webhooks:read"))),
    params(("id" = String, Path, description = "The webhook"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<AttemptBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn attempts(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<WebhooksRead>,
    Id(id): Id<WebhookId>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<AttemptBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async { gateway.engine.webhook_attempts(&admin.0, id, page(&query)?).await };
    let found = found.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(found, |one| one.id, AttemptBody::from)))
}
