//! Billing accounts: which terms a tenant has, in which period it is, what it is willing to spend, how it stands.

use crate::{By, Changed, Reply};
use weir_core::{Period, Plan, PlanName, TenantId, Timestamp};

/// How a tenant stands with its bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing is owed.
    Active,
    /// A bill was not paid in time.
    PastDue,
    /// It was not paid within the time of grace either.
    Suspended,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Active, Self::PastDue, Self::Suspended];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Suspended => "suspended",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == text)
    }
}

/// A tenant as its bills see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub tenant_id: TenantId,
    /// The terms, in the version that it bought.
    pub plan: Plan,
    /// Periods are the months that begin here, until a subscription says otherwise.
    pub anchor: Timestamp,
    /// The period that it is in.
    pub period: Period,
    /// What it is willing to spend in a period beyond what is included, in millionths of the plan's currency.
    pub spend_cap_micros: Option<u64>,
    /// A limit of events that the platform set for this tenant alone.
    pub own_limit: Option<u64>,
    /// How it stands.
    pub standing: Standing,
    /// Since when it is past due.
    pub past_due_since: Option<Timestamp>,
    /// Its id at the payment provider.
    pub stripe_customer_id: Option<String>,
    /// Its subscription there.
    pub stripe_subscription_id: Option<String>,
}

/// Terms that a tenant had from some time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Since when.
    pub since: Timestamp,
    /// Which.
    pub plan: Plan,
}

impl Account {
    /// How many events may be accepted in the period; `None` is any number.
    #[must_use]
    pub fn event_limit(&self) -> Option<u64> {
        let planned = self.plan.event_limit(self.spend_cap_micros);
        // The platform's own word for this tenant stands in the plan's place; a cap still holds beneath it.
        match (self.own_limit, planned, self.spend_cap_micros) {
            (Some(own), Some(planned), Some(_)) if self.plan.price_per_event_micros > 0 => {
                Some(own.min(planned))
            }
            (Some(own), ..) => Some(own),
            (None, planned, _) => planned,
        }
    }
}

/// Billing accounts and plans. An account is made when it is first asked for, and is always in the period of now by the
/// database's clock: from one period to the next, never back.
pub trait Billing: Send + Sync {
    /// The tenant's account.
    fn account(&self, tenant: TenantId) -> Reply<'_, Account>;

    /// The terms that the account has had, oldest first; those of now are the last. None before there is an account.
    fn terms(&self, tenant: TenantId) -> Reply<'_, Vec<Terms>>;

    /// Sets what the tenant is willing to spend, in millionths of its plan's currency. `Invalid` where the plan has no
    /// price.
    fn set_spend_cap(&self, tenant: TenantId, cap: Option<u64>, by: By) -> Reply<'_, Changed<Account>>;

    /// Puts the account into the period of a subscription, whose later ones begin at the same day and hour as `anchor`.
    /// Both ends are moved
    /// back to the hour. A period that begins before the account's own is an old message and changes nothing;
    /// `Invalid` when it has not begun yet or does not end after its beginning.
    fn set_period(&self, tenant: TenantId, anchor: Timestamp, period: Period, by: By) -> Reply<'_, Account>;

    /// The newest version of every plan.
    fn plans(&self) -> Reply<'_, Vec<Plan>>;

    /// One version of a plan.
    fn plan(&self, name: PlanName, version: u32) -> Reply<'_, Plan>;

    /// Adds a version of a plan, with the number after the newest; who buys the plan from now on gets it. `version` of
    /// what is given counts for nothing.
    fn add_plan(&self, plan: Plan, by: By) -> Reply<'_, Plan>;
}
