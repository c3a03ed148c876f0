//! Webhooks and dead letters.

use super::connection::{self, Connection, Edge};
use super::scalars::{DateTime, Json, Long};
use super::viewer::{Viewer, id};
use crate::query::one_start;
use crate::rest::invalid;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use std::time::Duration;
use weir_core::{Pattern, ProjectId, Secret};
use weir_engine::admin::permits::{DeadLettersRead, DeadLettersWrite, WebhooksRead, WebhooksWrite};
use weir_engine::admin::{May, Permit, WebhookChange, WebhookWish};
use weir_engine::{DeadLetterFilter, Engine, Error, Start, WebhookTerms};

/// For how long an old secret signs on when nothing else is said.
const DEFAULT_GRACE: i32 = 24 * 3600;

/// An endpoint that events are sent to.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Webhook {
    /// Its id, `whk_…`.
    id: ID,
    /// The project whose events are sent.
    project_id: ID,
    /// What its owner calls it.
    name: String,
    /// Where events are sent.
    url: String,
    /// Which ones: topics and patterns.
    topics: Vec<String>,
    /// One event at a time, in the project's order.
    ordered: bool,
    /// How many at once where order does not matter.
    in_flight: u32,
    /// False while nothing is sent.
    enabled: bool,
    /// Why nothing is sent: `asked`, `failing` or `gone`.
    disabled_reason: Option<String>,
    /// Since when nothing is sent.
    disabled_at: Option<DateTime>,
    /// The first failure after its last success.
    failing_since: Option<DateTime>,
    /// Everything up to here was delivered, waits for another attempt, or is a dead letter.
    cursor: String,
    /// When it was made.
    created_at: DateTime,
    /// The secret that signs: in the answer that made it, and nowhere else.
    secret: Option<String>,
}

impl Webhook {
    fn of(webhook: weir_engine::Webhook, engine: &Engine, secret: Option<&Secret>) -> Self {
        let cursor = engine.webhook_cursor(&webhook);
        Self {
            id: webhook.id.to_string().into(),
            project_id: webhook.project_id.to_string().into(),
            name: webhook.terms.name,
            url: webhook.terms.url,
            topics: webhook.terms.topics.iter().map(ToString::to_string).collect(),
            ordered: webhook.terms.ordered,
            in_flight: webhook.terms.in_flight,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled.map(|(reason, _)| reason.as_str().to_owned()),
            disabled_at: webhook.disabled.map(|(_, at)| DateTime(at)),
            failing_since: webhook.failing_since.map(DateTime),
            cursor,
            created_at: webhook.created_at.into(),
            secret: secret.map(|secret| secret.expose().to_owned()),
        }
    }
}

/// What could not be delivered or read.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct DeadLetter {
    /// Its id, `dlq_…`.
    id: ID,
    /// Of which project.
    project_id: Option<ID>,
    /// `webhook` or `log`.
    source: String,
    /// Which webhook.
    webhook_id: Option<ID>,
    /// True while it is on its way again.
    redriven: bool,
    /// `exhausted` or `undecodable`.
    reason: String,
    /// How the last attempt failed.
    failure: String,
    /// How often it was tried.
    attempts: u32,
    /// When the first attempt failed.
    first_failed_at: DateTime,
    /// When the last did.
    last_failed_at: DateTime,
    /// The event's id.
    event_id: Option<String>,
    /// The event's topic.
    topic: Option<String>,
    /// The event's sequence.
    sequence: Long,
    /// The event's cursor.
    cursor: Option<String>,
    /// The event as it was sent; where one letter is asked for.
    event: Option<Json>,
}

impl DeadLetter {
    fn of(letter: weir_engine::DeadLetter, whole: bool) -> Self {
        Self {
            id: letter.id.to_string().into(),
            project_id: letter.project_id.map(|id| id.to_string().into()),
            source: letter.source.as_str().to_owned(),
            webhook_id: letter.webhook_id.map(|id| id.to_string().into()),
            redriven: letter.redriven,
            reason: letter.reason.as_str().to_owned(),
            failure: letter.failure,
            attempts: letter.attempts,
            first_failed_at: letter.first_failed_at.into(),
            last_failed_at: letter.last_failed_at.into(),
            event_id: letter.event_id,
            topic: letter.topic,
            sequence: Long(letter.sequence),
            cursor: letter.cursor,
            event: whole.then(|| Json::text(String::from_utf8_lossy(&letter.body).into_owned())),
        }
    }
}

/// What came of trying an endpoint.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct WebhookTest {
    /// Whether the endpoint took it.
    delivered: bool,
    /// What it answered.
    status: Option<i32>,
    /// What went wrong.
    failure: Option<String>,
}

/// What redriving led to.
#[derive(SimpleObject)]
pub(super) struct Redriven {
    /// Letters that are on their way again because of this.
    redriven: u32,
    /// Letters that cannot be now.
    refused: u32,
}

/// A dead letter that is gone.
#[derive(SimpleObject)]
pub(super) struct DroppedDeadLetter {
    /// Its id.
    id: ID,
}

/// A webhook to make.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct WebhookInput {
    /// The project whose events are sent; an API key's own when absent.
    project_id: Option<ID>,
    /// Up to 128 characters.
    #[graphql(default)]
    name: String,
    /// Where events are sent: https.
    url: String,
    /// 1 to 32 topics and patterns.
    topics: Vec<String>,
    /// One event at a time, in order.
    #[graphql(default)]
    ordered: bool,
    /// How many at once where order does not matter: 1 to 64.
    #[graphql(default = 8)]
    in_flight: u32,
    /// Begin after the event of this cursor; with what comes from now on when absent.
    after: Option<String>,
}

/// What to change about a webhook; what is absent stays.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct WebhookChangeInput {
    /// Another name.
    name: Option<String>,
    /// Another endpoint.
    url: Option<String>,
    /// Other topics.
    topics: Option<Vec<String>>,
    /// Whether order matters.
    ordered: Option<bool>,
    /// How many at once.
    in_flight: Option<u32>,
    /// Whether anything is sent.
    enabled: Option<bool>,
}

fn project<P: Permit>(may: &May<P>, named: Option<&ID>) -> Result<ProjectId, Error> {
    let named = named.map(|project| id("project_id", project)).transpose()?;
    named.or(may.principal().project).ok_or_else(|| invalid("project_id", "is needed"))
}

fn patterns(texts: Vec<String>) -> Result<Vec<Pattern>, Error> {
    texts.iter().map(|text| text.parse().map_err(Error::from)).collect()
}

fn filter(project: Option<&ID>, webhook: Option<&ID>) -> Result<DeadLetterFilter, Error> {
    Ok(DeadLetterFilter {
        project: project.map(|project| id("project_id", project)).transpose()?,
        webhook: webhook.map(|webhook| id("webhook_id", webhook)).transpose()?,
    })
}

#[derive(Default)]
pub(super) struct WebhookQuery;

#[Object(rename_args = "snake_case")]
impl WebhookQuery {
    /// The webhooks of a project, oldest first. Needs `webhooks:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn webhooks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project; an API key's own when absent.")] project_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Webhook>>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksRead>().await?;
            let (engine, page) = (&viewer.gateway.engine, connection::page(first, after.as_deref())?);
            let found = engine.list_webhooks(&may, project(&may, project_id.as_ref())?, page).await?;
            let edge = |one: weir_engine::Webhook| Edge {
                cursor: one.id.to_string(),
                node: Webhook::of(one, engine, None),
            };
            Ok(Connection::of(found, edge))
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }

    /// Dead letters of a tenant, oldest first, without what they say. Needs `dead-letters:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn dead_letters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; for operators.")] tenant_id: Option<ID>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
        #[graphql(desc = "Only this webhook's.")] webhook_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<DeadLetter>>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<DeadLettersRead>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            let filter = filter(project_id.as_ref(), webhook_id.as_ref())?;
            let page = connection::page(first, after.as_deref())?;
            let (found, _) = viewer.gateway.engine.dead_letters(&may, tenant, filter, page).await?;
            let edge = |one: weir_engine::DeadLetter| Edge {
                cursor: one.id.to_string(),
                node: DeadLetter::of(one, false),
            };
            Ok(Connection::of(found, edge))
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }

    /// One dead letter, with what it says. Needs `dead-letters:read`.
    async fn dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The letter.", name = "id")] letter: ID,
    ) -> Option<Result<DeadLetter>> {
        let read = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<DeadLettersRead>().await?;
            let found = viewer.gateway.engine.dead_letter(&may, id("id", &letter)?).await?;
            Ok(DeadLetter::of(found, true))
        };
        Some(read.await.map_err(|error: Error| error.into()))
    }
}

#[derive(Default)]
pub(super) struct WebhookMutation;

#[Object(rename_args = "snake_case")]
impl WebhookMutation {
    /// Create a webhook. Needs `webhooks:write` and `events:subscribe`.
    async fn create_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.")] input: WebhookInput,
    ) -> Option<Result<Webhook>> {
        let create = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let terms = WebhookTerms {
                name: input.name,
                url: input.url,
                topics: patterns(input.topics)?,
                ordered: input.ordered,
                in_flight: input.in_flight,
            };
            let start = one_start([input.after.map(Start::After), None, None])?.unwrap_or(Start::Live);
            let wish = WebhookWish { project: project(&may, input.project_id.as_ref())?, terms, start };
            let engine = &viewer.gateway.engine;
            let (made, secret) = engine.create_webhook(&may, wish).await?;
            Ok(Webhook::of(made, engine, Some(&secret)))
        };
        Some(create.await.map_err(|error: Error| error.into()))
    }

    /// Change a webhook, enable or disable it. Needs `webhooks:write`.
    async fn change_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.", name = "id")] webhook: ID,
        #[graphql(desc = "What to change.")] input: WebhookChangeInput,
    ) -> Option<Result<Webhook>> {
        let change = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let (engine, id) = (&viewer.gateway.engine, id("id", &webhook)?);
            let wish = WebhookChange {
                name: input.name,
                url: input.url,
                topics: input.topics.map(patterns).transpose()?,
                ordered: input.ordered,
                in_flight: input.in_flight,
            };
            let changed = engine.change_webhook(&may, id, wish).await?;
            let changed = match input.enabled {
                Some(enabled) => engine.enable_webhook(&may, id, enabled).await?,
                None => changed,
            };
            Ok(Webhook::of(changed, engine, None))
        };
        Some(change.await.map_err(|error: Error| error.into()))
    }

    /// Rotate a webhook's secret: both sign until the old one's time ends. Needs `webhooks:write`.
    async fn rotate_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.", name = "id")] webhook: ID,
        #[graphql(desc = "For how long the old secret signs too: 0 to 604800 seconds, 86400 when absent.")]
        grace_seconds: Option<i32>,
    ) -> Option<Result<Webhook>> {
        let rotate = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let grace = u64::try_from(grace_seconds.unwrap_or(DEFAULT_GRACE))
                .map_err(|_| invalid("grace_seconds", "must be 0 or more"))?;
            let engine = &viewer.gateway.engine;
            let grace = Duration::from_secs(grace);
            let (changed, secret) = engine.rotate_webhook(&may, id("id", &webhook)?, grace).await?;
            Ok(Webhook::of(changed, engine, Some(&secret)))
        };
        Some(rotate.await.map_err(|error: Error| error.into()))
    }

    /// Send an endpoint an event on `@weir.webhook.ping`, once and at once. Needs `webhooks:write`.
    async fn test_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.", name = "id")] webhook: ID,
    ) -> Option<Result<WebhookTest>> {
        let test = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let pinged = viewer.gateway.engine.ping_webhook(&may, id("id", &webhook)?).await?;
            let status = pinged.status.map(i32::from);
            Ok(WebhookTest { delivered: pinged.failure.is_none(), status, failure: pinged.failure })
        };
        Some(test.await.map_err(|error: Error| error.into()))
    }

    /// Have a webhook begin again after the event of a cursor. Needs `webhooks:write` and `events:subscribe`.
    async fn replay_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.", name = "id")] webhook: ID,
        #[graphql(desc = "The cursor.")] after: String,
    ) -> Option<Result<Webhook>> {
        let replay = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let engine = &viewer.gateway.engine;
            let changed = engine.replay_webhook(&may, id("id", &webhook)?, Start::After(after)).await?;
            Ok(Webhook::of(changed, engine, None))
        };
        Some(replay.await.map_err(|error: Error| error.into()))
    }

    /// Delete a webhook and what waits for it. Needs `webhooks:write`.
    async fn delete_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The webhook.", name = "id")] webhook: ID,
    ) -> Option<Result<Webhook>> {
        let delete = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<WebhooksWrite>().await?;
            let engine = &viewer.gateway.engine;
            let deleted = engine.delete_webhook(&may, id("id", &webhook)?).await?;
            Ok(Webhook::of(deleted, engine, None))
        };
        Some(delete.await.map_err(|error: Error| error.into()))
    }

    /// Set a dead letter on its way again; asking twice has one effect. Needs `dead-letters:write`.
    async fn redrive_dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The letter.", name = "id")] letter: ID,
    ) -> Option<Result<DeadLetter>> {
        let redrive = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<DeadLettersWrite>().await?;
            let found = viewer.gateway.engine.redrive(&may, id("id", &letter)?).await?;
            Ok(DeadLetter::of(found, false))
        };
        Some(redrive.await.map_err(|error: Error| error.into()))
    }

    /// Set up to 1,000 dead letters on their way again, those first that stand first in the log. Needs
    /// `dead-letters:write`.
    async fn redrive_dead_letters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; for operators.")] tenant_id: Option<ID>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
        #[graphql(desc = "Only this webhook's.")] webhook_id: Option<ID>,
    ) -> Option<Result<Redriven>> {
        let redrive = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<DeadLettersWrite>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            let filter = filter(project_id.as_ref(), webhook_id.as_ref())?;
            let done = viewer.gateway.engine.redrive_all(&may, tenant, filter, None).await?;
            Ok(Redriven { redriven: done.redriven, refused: done.refused })
        };
        Some(redrive.await.map_err(|error: Error| error.into()))
    }

    /// Drop a dead letter. Needs `dead-letters:write`.
    async fn drop_dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The letter.", name = "id")] letter: ID,
    ) -> Option<Result<DroppedDeadLetter>> {
        let drop = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<DeadLettersWrite>().await?;
            viewer.gateway.engine.drop_dead_letter(&may, id("id", &letter)?).await?;
            Ok(DroppedDeadLetter { id: letter })
        };
        Some(drop.await.map_err(|error: Error| error.into()))
    }
}
