//! What could not be delivered or read, kept until somebody looks.
//!
//! A tenant keeps [`MAX_LETTERS`] and [`MAX_BYTES`] of them. What comes beyond drops the oldest, and how many were dropped is
//! told: refusing the new ones would stop the endpoints and the counting that they come from.

use crate::webhooks::DeathReason;
use crate::{After, By, Page, Reply};
use weir_core::{DeadLetterId, ProjectId, TenantId, Timestamp, WebhookId};

/// Dead letters of one tenant.
pub const MAX_LETTERS: u64 = 10_000;
/// Bytes of them.
pub const MAX_BYTES: u64 = 64 << 20;
/// Dead letters that are set on their way again at once.
pub const MAX_REDRIVEN: u32 = 1_000;

/// Who could not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadSource {
    /// An endpoint did not take it.
    Webhook,
    /// It stands in the log and is no event.
    Log,
}

impl DeadSource {
    /// The name in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Log => "log",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Webhook, Self::Log].into_iter().find(|source| source.as_str() == name)
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id; the order of ids is the order of dying.
    pub id: DeadLetterId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which project.
    pub project_id: Option<ProjectId>,
    /// Who could not do what it should.
    pub source: DeadSource,
    /// Which endpoint.
    pub webhook_id: Option<WebhookId>,
    /// The name of the message there.
    pub message_id: String,
    /// On its way again.
    pub redriven: bool,
    /// Why it died.
    pub reason: DeathReason,
    /// How the last attempt failed, or what is wrong with it.
    pub failure: String,
    /// How often it was tried, in all its lives.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failed_at: Timestamp,
    /// When the last did.
    pub last_failed_at: Timestamp,
    /// The event's id.
    pub event_id: Option<String>,
    /// The event's topic.
    pub topic: Option<String>,
    /// The event's cursor.
    pub cursor: Option<String>,
    /// The trace that the event belongs to.
    pub traceparent: Option<String>,
    /// Which incarnation of the log it is from.
    pub epoch: u64,
    /// Its place there.
    pub sequence: u64,
    /// What it says; left out of lists.
    pub body: Vec<u8>,
    /// How many bytes that is.
    pub bytes: u64,
}

/// Something in the log that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonEvent {
    /// Whose, by where it stands.
    pub tenant: TenantId,
    /// Of which project, by where it stands.
    pub project: ProjectId,
    /// Under which topic it stands.
    pub topic: String,
    /// The stream.
    pub stream: String,
    /// Which incarnation.
    pub epoch: u64,
    /// Its place there.
    pub sequence: u64,
    /// What is wrong with it.
    pub failure: String,
    /// What it says.
    pub body: Vec<u8>,
}

/// Which dead letters.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetterFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this endpoint.
    pub webhook: Option<WebhookId>,
}

/// How many a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterTotals {
    /// Letters.
    pub letters: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Letters that were dropped to make room, ever.
    pub dropped: u64,
}

/// What redriving led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Letters that are on their way again because of this.
    pub redriven: u32,
    /// Letters that cannot be: what they died of is not mended by trying again, or their endpoint is gone.
    pub refused: u32,
}

/// Dead letters. Every change that somebody asks for writes its audit entry in the same transaction.
pub trait DeadLetters: Send + Sync {
    /// A page of them, without bodies.
    fn list(
        &self,
        tenant: TenantId,
        filter: DeadLetterFilter,
        page: After<DeadLetterId>,
    ) -> Reply<'_, Page<DeadLetter>>;

    /// One, with its body.
    fn get(&self, tenant: TenantId, id: DeadLetterId) -> Reply<'_, DeadLetter>;

    /// The tenant of one, whosever it is.
    fn tenant_of(&self, id: DeadLetterId) -> Reply<'_, Option<TenantId>>;

    /// How many there are.
    fn totals(&self, tenant: TenantId) -> Reply<'_, DeadLetterTotals>;

    /// How many there are of all tenants, those with the most first.
    fn all_totals(&self, limit: u32) -> Reply<'_, Vec<(TenantId, DeadLetterTotals)>>;

    /// Sets one on its way again; once, however often it is asked for. `Conflict` when it cannot be: it is no message of
    /// an endpoint that is there.
    fn redrive(&self, tenant: TenantId, id: DeadLetterId, by: By) -> Reply<'_, DeadLetter>;

    /// Sets those on their way again that stand first in the log, at most `limit`.
    fn redrive_all(
        &self,
        tenant: TenantId,
        filter: DeadLetterFilter,
        limit: u32,
        by: By,
    ) -> Reply<'_, Redriven>;

    /// Drops one.
    fn drop_letter(&self, tenant: TenantId, id: DeadLetterId, by: By) -> Reply<'_, ()>;

    /// Keeps what stands in the log and is no event; once each.
    fn bury(&self, poison: Vec<PoisonEvent>, now: Timestamp) -> Reply<'_, ()>;
}
