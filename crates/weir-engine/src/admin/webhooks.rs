//! Webhooks: endpoints that events are sent to.

use super::permits::{WebhooksRead, WebhooksWrite};
use super::{May, Permit};
use crate::access::Reach;
use crate::resume::{self, Start};
use crate::webhooks::ping;
use crate::{Engine, Error};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{Code, Pattern, Position, ProjectId, Scope, Secret, TenantId, WebhookId};
use weir_log::Place;
use weir_store::webhooks::{NewWebhook, Webhook, WebhookAttempt, WebhookTerms};
use weir_store::{After, Page, StoreError};

/// Topics and patterns of one webhook.
const MAX_TOPICS: usize = 32;
/// Bytes of a URL.
const MAX_URL: usize = 2048;
/// Events in flight to one endpoint.
const MAX_IN_FLIGHT: u32 = 64;
/// For how long an old secret may go on signing.
const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A webhook to make.
#[derive(Clone, Debug)]
pub struct WebhookWish {
    /// The project whose events are sent.
    pub project: ProjectId,
    /// What its owner decides.
    pub terms: WebhookTerms,
    /// Where to begin.
    pub start: Start,
}

/// What to change about a webhook; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Another name.
    pub name: Option<String>,
    /// Another endpoint.
    pub url: Option<String>,
    /// Other topics.
    pub topics: Option<Vec<Pattern>>,
    /// Whether order matters.
    pub ordered: Option<bool>,
    /// How many at once.
    pub in_flight: Option<u32>,
}

/// What came of trying an endpoint.
#[derive(Clone, Debug)]
pub struct Pinged {
    /// The name of the message.
    pub message_id: String,
    /// What was answered.
    pub status: Option<u16>,
    /// What went wrong; nothing when the endpoint took it.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// The webhooks of a project.
    ///
    /// # Errors
    /// `NOT_FOUND` for a project out of reach; `DATABASE_UNAVAILABLE`.
    pub async fn list_webhooks(
        &self,
        may: &May<WebhooksRead>,
        project: ProjectId,
        page: After<WebhookId>,
    ) -> Result<Page<Webhook>, Error> {
        let tenant = self.tenant_of_project(may, project).await?;
        // A project that does not exist is an error, not an empty list.
        self.store.tenants.project(tenant, project).await?;
        Ok(self.store.webhooks.list(tenant, project, page).await?)
    }

    /// One webhook, and how many messages wait for it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn webhook(&self, may: &May<WebhooksRead>, id: WebhookId) -> Result<(Webhook, u64), Error> {
        let tenant = self.tenant_of_webhook(may, id).await?;
        let webhook = self.store.webhooks.get(tenant, id).await?;
        Ok((webhook, self.store.webhooks.waiting(tenant, id).await?))
    }

    /// The cursor up to which everything was delivered, waits, or is dead.
    #[must_use]
    pub fn webhook_cursor(&self, of: &Webhook) -> String {
        self.cursors.encode(&weir_core::Cursor { project: of.project_id, position: of.cursor })
    }

    /// The last attempts of a webhook, the newest first.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn webhook_attempts(
        &self,
        may: &May<WebhooksRead>,
        id: WebhookId,
        page: After<Uuid>,
    ) -> Result<Page<WebhookAttempt>, Error> {
        let tenant = self.tenant_of_webhook(may, id).await?;
        self.store.webhooks.get(tenant, id).await?;
        Ok(self.store.webhooks.attempts(tenant, id, page).await?)
    }

    /// Makes a webhook. Its secret is in this answer and nowhere else.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a URL that is not sent to, no topics or too many; `INSUFFICIENT_SCOPE` when its maker may
    /// not subscribe; `INVALID_CURSOR`; `CONFLICT` when the project has as many as it can; `NOT_FOUND` for a project out of reach.
    pub async fn create_webhook(
        &self,
        may: &May<WebhooksWrite>,
        wish: WebhookWish,
    ) -> Result<(Webhook, Secret), Error> {
        self.check_terms(&wish.terms)?;
        require_subscribe(may)?;
        let tenant = self.tenant_of_project(may, wish.project).await?;
        let place = self.place_of(tenant, wish.project).await?;
        let cursor = self.position_of(&place, &wish.start).await?;
        let id = WebhookId::new();
        let (secret, sealed) = self.webhooks.new_secret(id)?;
        let new = NewWebhook { id, terms: wish.terms, secret: sealed, cursor };
        let made = self.store.webhooks.create(tenant, wish.project, new, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok((made, secret))
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// As [`Engine::create_webhook`].
    pub async fn change_webhook(
        &self,
        may: &May<WebhooksWrite>,
        id: WebhookId,
        change: WebhookChange,
    ) -> Result<Webhook, Error> {
        // Where it leads and what it is sent is for those who may see that.
        if change.url.is_some() || change.topics.is_some() {
            require_subscribe(may)?;
        }
        let tenant = self.tenant_of_webhook(may, id).await?;
        let now = self.store.webhooks.get(tenant, id).await?.terms;
        let terms = WebhookTerms {
            name: change.name.unwrap_or(now.name),
            url: change.url.unwrap_or(now.url),
            topics: change.topics.unwrap_or(now.topics),
            ordered: change.ordered.unwrap_or(now.ordered),
            in_flight: change.in_flight.unwrap_or(now.in_flight),
        };
        self.check_terms(&terms)?;
        let changed = self.store.webhooks.change(tenant, id, terms, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok(changed)
    }

    /// Gives a webhook another secret; the one that it has signs too for the time of `grace`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for more than 7 days; `NOT_FOUND`.
    pub async fn rotate_webhook(
        &self,
        may: &May<WebhooksWrite>,
        id: WebhookId,
        grace: Duration,
    ) -> Result<(Webhook, Secret), Error> {
        if grace > MAX_GRACE {
            let message =
                format!("`grace_seconds` is {}; at most 604800 (7 days) are allowed.", grace.as_secs());
            return Err(Error::new(Code::InvalidRequest, message)
                .with(json!({ "field": "grace_seconds", "limit": MAX_GRACE.as_secs() })));
        }
        let tenant = self.tenant_of_webhook(may, id).await?;
        let (secret, sealed) = self.webhooks.new_secret(id)?;
        let by = may.by(&*self.clock);
        let until = by.at.plus(grace);
        let changed = self.store.webhooks.rotate(tenant, id, sealed, until, by).await?;
        self.webhooks.look();
        Ok((changed, secret))
    }

    /// Enables a webhook, or disables it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn enable_webhook(
        &self,
        may: &May<WebhooksWrite>,
        id: WebhookId,
        enabled: bool,
    ) -> Result<Webhook, Error> {
        let tenant = self.tenant_of_webhook(may, id).await?;
        let changed = self.store.webhooks.set_enabled(tenant, id, enabled, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok(changed)
    }

    /// Has a webhook begin somewhere else. What is not retained there is told to the endpoint as a gap.
    ///
    /// # Errors
    /// `INVALID_CURSOR`, `NOT_FOUND`, `EVENT_LOG_UNAVAILABLE`.
    pub async fn replay_webhook(
        &self,
        may: &May<WebhooksWrite>,
        id: WebhookId,
        start: Start,
    ) -> Result<Webhook, Error> {
        require_subscribe(may)?;
        let tenant = self.tenant_of_webhook(may, id).await?;
        let webhook = self.store.webhooks.get(tenant, id).await?;
        let place = self.place_of(tenant, webhook.project_id).await?;
        let cursor = self.position_of(&place, &start).await?;
        let changed = self.store.webhooks.rewind(tenant, id, cursor, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok(changed)
    }

    /// Sends a word to an endpoint, once and now, whether it is enabled or not.
    ///
    /// # Errors
    /// `NOT_FOUND`. That the endpoint does not take it is no error.
    pub async fn ping_webhook(&self, may: &May<WebhooksWrite>, id: WebhookId) -> Result<Pinged, Error> {
        let tenant = self.tenant_of_webhook(may, id).await?;
        let webhook = self.store.webhooks.get(tenant, id).await?;
        let message = ping(&webhook, self.clock.now());
        let secrets = self.webhooks.secrets(&webhook, &*self.clock)?;
        let body = message.body.clone();
        let url = &webhook.terms.url;
        let attempted = self.webhooks.attempt(url, &message, body, &secrets, &*self.clock).await;
        Ok(Pinged {
            message_id: message.id,
            status: attempted.status,
            failure: attempted.failure,
            took: attempted.took,
        })
    }

    /// Deletes a webhook and what waits for it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn delete_webhook(&self, may: &May<WebhooksWrite>, id: WebhookId) -> Result<Webhook, Error> {
        let tenant = self.tenant_of_webhook(may, id).await?;
        let deleted = self.store.webhooks.delete(tenant, id, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok(deleted)
    }

    fn check_terms(&self, terms: &WebhookTerms) -> Result<(), Error> {
        let wrong = |field: &str, message: String| {
            Err(Error::new(Code::InvalidRequest, message).with(json!({ "field": field })))
        };
        if terms.url.len() > MAX_URL {
            return wrong(
                "url",
                format!("`url` has {} bytes; at most {MAX_URL} are allowed.", terms.url.len()),
            );
        }
        if let Err(error) = self.webhooks.check_url(&terms.url) {
            return wrong("url", format!("Nothing can be sent to this `url`: {error}."));
        }
        if !(1..=MAX_TOPICS).contains(&terms.topics.len()) {
            let count = terms.topics.len();
            return wrong("topics", format!("`topics` has {count} entries; 1 to {MAX_TOPICS} are allowed."));
        }
        if !(1..=MAX_IN_FLIGHT).contains(&terms.in_flight) {
            let count = terms.in_flight;
            return wrong("in_flight", format!("`in_flight` is {count}; 1 to {MAX_IN_FLIGHT} are allowed."));
        }
        Ok(())
    }

    async fn place_of(&self, tenant: TenantId, project: ProjectId) -> Result<Place, Error> {
        let access = self.store.directory.access(tenant, project).await?;
        let access = access.ok_or_else(|| Error::not_found("project"))?;
        Ok(Place { tenant, project, stream: access.tenant.stream.as_str().into() })
    }

    /// The position that a wish means, gone or not: whoever reads on from it finds that out.
    async fn position_of(&self, place: &Place, start: &Start) -> Result<Position, Error> {
        let bounds = || async { Ok::<_, Error>(self.log.inspect(place, 0).await?.bounds) };
        Ok(match start {
            Start::After(cursor) => resume::decode(&self.cursors, place, cursor)?.position,
            Start::Sequence(wanted) => {
                let head = bounds().await?.head;
                Position { sequence: wanted.saturating_sub(1).min(head.sequence), check: 0, ..head }
            }
            Start::Time(time) => {
                let after = self.log.locate(place, *time).await?;
                Position { sequence: after, check: 0, ..bounds().await?.head }
            }
            Start::Earliest => {
                let bounds = bounds().await?;
                Position { sequence: bounds.floor, check: 0, ..bounds.head }
            }
            Start::Live => bounds().await?.head,
        })
    }

    async fn tenant_of_webhook<P: Permit>(&self, may: &May<P>, id: WebhookId) -> Result<TenantId, Error> {
        match may.principal().reach {
            Reach::Tenant(own) => Ok(own),
            Reach::Installation => {
                let found = self.store.webhooks.tenant_of(id).await?;
                Ok(found.ok_or(StoreError::NotFound("webhook"))?)
            }
        }
    }
}

/// Whoever makes a webhook gets to see what it is sent.
fn require_subscribe(may: &May<WebhooksWrite>) -> Result<(), Error> {
    if may.principal().scopes.contains(Scope::EventsSubscribe) {
        return Ok(());
    }
    let message =
        "A webhook is sent events, so this needs `events:subscribe`, which your credentials do not hold.";
    Err(Error::new(Code::InsufficientScope, message).with(json!({ "missing": Scope::EventsSubscribe })))
}
