//! Endpoints that events are sent to: what they are, how far they have come, and what is on its way to them.
//!
//! ```text
//!   a project's log   ░ delivered, or below ░│▓▓▓▓ to be read ▓▓▓▓▶
//!                                            └ cursor (webhooks)
//!   not taken yet     □ 4  □ 9               webhook_messages: copies, each with the time of its next attempt
//! ```
//! One node at a time delivers to an endpoint: the one that holds its lease. The cursor moves only under it, and a message
//! that was not taken is written down before the cursor passes it. So whatever dies, the next node sends everything that
//! is not known to be delivered, under the same name.

use crate::{After, By, Page, Reply};
use std::time::Duration;
use uuid::Uuid;
use weir_core::{DeadLetterId, NodeId, Pattern, Position, ProjectId, TenantId, Timestamp, WebhookId};

/// Endpoints of one project.
pub const MAX_WEBHOOKS: u32 = 100;
/// Messages that may wait for one endpoint; then nothing more is read for it.
pub const MAX_MESSAGES: u32 = 1_000;
/// Attempts of each endpoint that are kept.
pub const KEPT_ATTEMPTS: u32 = 500;

/// Why a webhook is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledFor {
    /// Somebody asked for it.
    Asked,
    /// It failed for too long.
    Failing,
    /// It said that it is gone (410).
    Gone,
}

impl DisabledFor {
    /// The name in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Asked, Self::Failing, Self::Gone].into_iter().find(|reason| reason.as_str() == name)
    }
}

/// What its owner decides about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTerms {
    /// What its owner calls it; may be empty.
    pub name: String,
    /// Where events are sent.
    pub url: String,
    /// Which ones.
    pub topics: Vec<Pattern>,
    /// One at a time, in order.
    pub ordered: bool,
    /// How many at once, where order does not matter.
    pub in_flight: u32,
}

/// An endpoint to make.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// What its owner decides.
    pub terms: WebhookTerms,
    /// The sealed secret.
    pub secret: Vec<u8>,
    /// Events after this are sent.
    pub cursor: Position,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which project.
    pub project_id: ProjectId,
    /// What its owner decides.
    pub terms: WebhookTerms,
    /// The sealed secret, and the one before it until its time ends.
    pub secret: Vec<u8>,
    /// The one before, if it still signs.
    pub old_secret: Option<(Vec<u8>, Timestamp)>,
    /// Whether it is sent anything.
    pub enabled: bool,
    /// Why and since when it is not.
    pub disabled: Option<(DisabledFor, Timestamp)>,
    /// The first failure after its last success.
    pub failing_since: Option<Timestamp>,
    /// Everything up to here was delivered, waits as a message, or is dead.
    pub cursor: Position,
    /// How often somebody moved the cursor.
    pub rewound: i64,
    /// How often anything about it was changed.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A message on its way to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookMessage {
    /// Its name, the same at every attempt.
    pub id: String,
    /// Which incarnation of the log it is from.
    pub epoch: u64,
    /// Its place in the order; of a gap the last sequence that is missing.
    pub sequence: u64,
    /// The event's id.
    pub event_id: String,
    /// The event's topic.
    pub topic: String,
    /// The event's cursor; empty where there is none.
    pub cursor: String,
    /// The trace that the event belongs to.
    pub traceparent: Option<String>,
    /// What is sent; empty for one that waits already, see [`Deliveries::body`].
    pub body: Vec<u8>,
    /// How many bytes that is.
    pub bytes: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next is due.
    pub due_at: Timestamp,
    /// When the first failed.
    pub first_failed_at: Option<Timestamp>,
    /// When the last failed.
    pub last_failed_at: Option<Timestamp>,
    /// How the last failed.
    pub failure: Option<String>,
    /// The dead letter that is tried again with this.
    pub dead_letter: Option<DeadLetterId>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The endpoint took it.
    Delivered,
    /// It did not, and is asked again.
    Retry,
    /// It did not, and is not asked again.
    Dead,
    /// It did not, and is not sent anything any more.
    Disabled,
}

impl AttemptOutcome {
    /// The name in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Disabled => "disabled",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Delivered, Self::Retry, Self::Dead, Self::Disabled]
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAttempt {
    /// Its id; the order of ids is the order of time.
    pub id: Uuid,
    /// When it began.
    pub at: Timestamp,
    /// Of which message.
    pub message_id: String,
    /// Of which event.
    pub event_id: String,
    /// Its topic.
    pub topic: String,
    /// Its place in the log.
    pub sequence: u64,
    /// Which attempt of this message: 1, 2, 3 …
    pub number: u32,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// What the endpoint answered.
    pub status: Option<u16>,
    /// What went wrong.
    pub failure: Option<String>,
    /// How long it took.
    pub millis: u64,
}

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// Every attempt failed.
    Exhausted,
    /// It is not what it should be, so no attempt can succeed.
    Undecodable,
}

impl DeathReason {
    /// The name in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Undecodable => "undecodable",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Exhausted, Self::Undecodable].into_iter().find(|reason| reason.as_str() == name)
    }
}

/// What happened at an endpoint since the last time, to be written at once.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Where the cursor is now, if it moved.
    pub cursor: Option<Position>,
    /// Messages that were not taken: new ones with their body, and ones whose next attempt is later now.
    pub waiting: Vec<WebhookMessage>,
    /// Messages that were taken.
    pub taken: Vec<WebhookMessage>,
    /// Messages that are given up; they become dead letters.
    pub dead: Vec<(WebhookMessage, DeathReason)>,
    /// What was tried.
    pub attempts: Vec<WebhookAttempt>,
    /// Since when it fails: set, ended, or as it was.
    pub failing_since: Option<Option<Timestamp>>,
    /// Disables it.
    pub disable: Option<DisabledFor>,
}

/// Endpoints as their owners see them. Every change writes its audit entry in the same transaction.
pub trait Webhooks: Send + Sync {
    /// Makes one. `Conflict` when the project has as many as it can.
    fn create(&self, tenant: TenantId, project: ProjectId, new: NewWebhook, by: By) -> Reply<'_, Webhook>;

    /// Reads one.
    fn get(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, Webhook>;

    /// Those of a project.
    fn list(&self, tenant: TenantId, project: ProjectId, page: After<WebhookId>) -> Reply<'_, Page<Webhook>>;

    /// The tenant of one, whosever it is.
    fn tenant_of(&self, id: WebhookId) -> Reply<'_, Option<TenantId>>;

    /// Changes what its owner decides.
    fn change(&self, tenant: TenantId, id: WebhookId, terms: WebhookTerms, by: By) -> Reply<'_, Webhook>;

    /// Puts another secret in the place of the one it has, which goes on signing until `old_until`.
    fn rotate(
        &self,
        tenant: TenantId,
        id: WebhookId,
        secret: Vec<u8>,
        old_until: Timestamp,
        by: By,
    ) -> Reply<'_, Webhook>;

    /// Enables it, or disables it at somebody's request.
    fn set_enabled(&self, tenant: TenantId, id: WebhookId, enabled: bool, by: By) -> Reply<'_, Webhook>;

    /// Puts the cursor somewhere else. What waits is dropped where it will be read again.
    fn rewind(&self, tenant: TenantId, id: WebhookId, cursor: Position, by: By) -> Reply<'_, Webhook>;

    /// Deletes it, with what waits for it. Its dead letters stay.
    fn delete(&self, tenant: TenantId, id: WebhookId, by: By) -> Reply<'_, Webhook>;

    /// Its last attempts, the newest first; `after` is the id of the last one seen.
    fn attempts(&self, tenant: TenantId, id: WebhookId, page: After<Uuid>)
    -> Reply<'_, Page<WebhookAttempt>>;

    /// How many messages wait for it.
    fn waiting(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, u64>;
}

/// An endpoint that a node is to deliver to, and where its events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedWebhook {
    /// The endpoint.
    pub webhook: Webhook,
    /// The stream of its tenant.
    pub stream: String,
    /// It is more than the node's part: other nodes wait for work. Stop, then [`Deliveries::release`] it.
    pub surplus: bool,
}

/// Endpoints as the nodes that deliver see them.
pub trait Deliveries: Send + Sync {
    /// Renews the node's leases, takes endpoints that nobody holds (a node that is gone holds none) up to the node's
    /// part of all, and answers what the node holds. Endpoints that are disabled, or whose tenant is not served, are no
    /// one's.
    fn lease(&self, node: NodeId, lease: Duration) -> Reply<'_, Vec<LeasedWebhook>>;

    /// Gives up some of what the node holds.
    fn release(&self, node: NodeId, ids: Vec<WebhookId>) -> Reply<'_, ()>;

    /// What waits for an endpoint, in order, without bodies.
    fn messages(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, Vec<WebhookMessage>>;

    /// What a message says; `None` when it does not wait any more.
    fn body(&self, tenant: TenantId, id: WebhookId, message: String) -> Reply<'_, Option<Vec<u8>>>;

    /// Writes what happened, all or nothing. False when the endpoint is not this node's any more or somebody moved its cursor: then
    /// nothing was written.
    fn progress(&self, node: NodeId, of: &Webhook, progress: Progress, now: Timestamp) -> Reply<'_, bool>;
}
