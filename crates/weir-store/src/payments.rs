//! What the payment provider says: customers, subscriptions, who pays and who does not.

use crate::{By, Changed, Reply, Standing, Tenant};
use std::time::Duration;
use weir_core::{TenantId, Timestamp};

/// The reason of a suspension for unpaid bills, and the only one that a payment ends.
pub const UNPAID: &str = "payment_failed";

/// A webhook that came and was not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's id of it.
    pub id: String,
    /// Such as `invoice.paid`.
    pub kind: String,
    /// Whom it is about, if it says.
    pub customer_id: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// What became of a webhook.
#[derive(Clone, Debug)]
pub enum Handled {
    /// It was looked at: what came of it, for people.
    Done(String),
    /// It could not be looked at; again then.
    Again(Timestamp),
}

/// A tenant's subscription as the provider has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// The provider's id of it.
    pub id: String,
    /// Of which customer.
    pub customer_id: String,
    /// When it began: usage is reported from the next full hour on.
    pub since: Timestamp,
    /// When it ended, if it did: hours that are not over by then are not reported.
    pub ended: Option<Timestamp>,
}

/// At most so many suspensions for payments within a time.
#[derive(Clone, Copy, Debug)]
pub struct Brake {
    /// How many.
    pub most: u32,
    /// In the last so long.
    pub within: Duration,
}

/// What came of a change of standing.
#[derive(Clone, Debug)]
pub enum Stood {
    /// Nothing had to be changed.
    Already,
    /// It was changed.
    Changed(Box<Changed<Tenant>>),
    /// It was not changed: the brake holds.
    Braked,
    /// It was not changed: a newer look has begun.
    Outdated,
}

/// The installation's view of the payment provider. Nothing here is one tenant's own call.
pub trait Payments: Send + Sync {
    /// Gives the tenant a customer, unless it has one; returns the one that it has now.
    fn link_customer(&self, tenant: TenantId, customer: String, by: By) -> Reply<'_, String>;

    /// Whose customer this is.
    fn tenant_of_customer(&self, customer: String) -> Reply<'_, Option<TenantId>>;

    /// Begins a look at how a tenant stands: what was asked before it is out of date from now on. Returns its number.
    fn begin_look(&self, tenant: TenantId) -> Reply<'_, i64>;

    /// Notes the tenant's subscriptions, the newest first. The first that has not ended becomes the account's. False when
    /// a newer look than this has begun; nothing is noted then.
    fn note_subscriptions(&self, tenant: TenantId, look: i64, all: Vec<SubscriptionState>)
    -> Reply<'_, bool>;

    /// Changes how a tenant stands with its bills, and with it the tenant's status: past due; suspended with the reason
    /// [`UNPAID`](crate::UNPAID), if the brake lets it; active again, if it was not suspended for another reason.
    fn set_standing(
        &self,
        tenant: TenantId,
        look: i64,
        standing: Standing,
        brake: Brake,
        by: By,
    ) -> Reply<'_, Stood>;

    /// Tenants that are past due since before `since`, the longest first.
    fn past_due(&self, since: Timestamp, limit: u32) -> Reply<'_, Vec<TenantId>>;

    /// Tenants after `after` that do not stand well and have a customer, in the order of their ids: to be looked after
    /// even if no webhook comes.
    fn troubled(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<TenantId>>;

    /// The time, by the clock of billing.
    fn time(&self) -> Reply<'_, Timestamp>;
}

/// Webhooks of the payment provider, each kept until it was looked at, and remembered after.
pub trait PaymentEvents: Send + Sync {
    /// Keeps a webhook. False when it had come before.
    fn take_event(&self, id: String, kind: String, customer: Option<String>) -> Reply<'_, bool>;

    /// Webhooks that are to be looked at.
    fn due_events(&self, limit: u32) -> Reply<'_, Vec<PaymentEvent>>;

    /// Notes what became of a webhook.
    fn settle_event(&self, id: String, handled: Handled) -> Reply<'_, ()>;

    /// Forgets webhooks that were looked at for longer ago than `keep`, and returns how many.
    fn forget_events(&self, keep: Duration) -> Reply<'_, u64>;
}
