//! Invoices that are computed here, with or without a payment provider: whole hours of usage at the plan's terms, in
//! integers.

use super::whose;
use crate::admin::May;
use crate::admin::permits::{BillingRead, BillingWrite};
use crate::billing::stripe::{Hosted, Received, StripeBilling};
use crate::{Engine, Error};
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Code, Period, Plan, TenantId, Timestamp};
use weir_store::{Account, Metric, Report, Terms};

/// Totals are rounded to hundredths of the currency's unit, half of one upwards: once, at the end.
const HUNDREDTH: u64 = 10_000;
/// A hundred years of months: where looking for older ones ends.
const MOST_PERIODS: usize = 1_200;

/// What a period cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalInvoice {
    /// Of which period.
    pub period: Period,
    /// Whether the period goes on.
    pub open: bool,
    /// At which terms: those at the end of the period, or of now while it goes on. They hold for all of it.
    pub plan: Plan,
    /// Since when the tenant had these terms.
    pub plan_since: Timestamp,
    /// Events that were published.
    pub quantity: u64,
    /// Those beyond the included ones.
    pub billable: u64,
    /// What they cost, exactly, in millionths of the currency's unit.
    pub amount_micros: u64,
    /// The same, rounded.
    pub total_micros: u64,
}

impl LocalInvoice {
    fn new(terms: &Terms, period: Period, now: Timestamp, quantity: u64) -> Result<Self, Error> {
        let plan = terms.plan.clone();
        let beyond = || Error::new(Code::BillingError, "The period's amount is beyond what can be counted.");
        let amount_micros = plan.price(quantity).ok_or_else(beyond)?.micros;
        let billable = quantity.saturating_sub(plan.monthly_events.unwrap_or(u64::MAX));
        let open = now < period.end;
        Ok(Self {
            period,
            open,
            plan,
            plan_since: terms.since,
            quantity,
            billable,
            amount_micros,
            total_micros: rounded(amount_micros),
        })
    }
}

/// To hundredths of the unit, half of one upwards.
const fn rounded(micros: u64) -> u64 {
    (micros / HUNDREDTH + (micros % HUNDREDTH * 2 / HUNDREDTH)).saturating_mul(HUNDREDTH)
}

/// A page of invoices, newest first.
#[derive(Clone, Debug)]
pub struct Invoices {
    /// Computed here.
    pub local: Vec<LocalInvoice>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// Usage of these periods that was not reported to the payment provider and is for people to settle.
    pub adjustments: Vec<Report>,
    /// The newest at the payment provider; none where it is not set up or was not used.
    pub hosted: Vec<Hosted>,
}

/// The terms of a period: the last that began before its end. Of `known` the first is of the tenant's beginning.
fn terms_of(known: &[Terms], account: &Account, period: Period) -> Terms {
    let last = known.iter().rev().find(|terms| terms.since < period.end).or_else(|| known.first());
    last.cloned().unwrap_or_else(|| Terms { since: account.anchor, plan: account.plan.clone() })
}

/// The period before another: months from the anchor, and before it from the tenant's beginning.
fn before(account: &Account, created: Timestamp, later: Period) -> Option<Period> {
    let moment = later.start.minus(Duration::from_micros(1));
    if later.start <= created {
        return None;
    }
    let anchor = if later.start > account.anchor { account.anchor } else { created };
    let month = Period::monthly(anchor, moment);
    Some(Period { start: month.start.max(created).min(moment), end: later.start })
}

impl Engine {
    /// What the tenant's periods cost, newest first, those that began before `before` only.
    ///
    /// # Errors
    /// `NOT_FOUND`; `BILLING_ERROR` for amounts beyond what can be counted, and what the payment provider says.
    pub async fn invoices(
        &self,
        may: &May<BillingRead>,
        tenant: Option<TenantId>,
        older_than: Option<Timestamp>,
        limit: u32,
    ) -> Result<Invoices, Error> {
        let tenant = self.store.tenants.get(whose(may, tenant)?).await?;
        let account = self.store.billing.account(tenant.id).await?;
        let (now, created) = (self.store.payments.time().await?, tenant.created_at.hour());
        let periods = std::iter::successors(Some(account.period), |later| before(&account, created, *later));
        let wanted =
            periods.take(MOST_PERIODS).filter(|period| older_than.is_none_or(|time| period.start < time));
        let mut wanted: Vec<_> = wanted.take(limit as usize + 1).collect();
        let has_more = wanted.len() > limit as usize;
        wanted.truncate(limit as usize);
        let terms = self.store.billing.terms(tenant.id).await?;
        let mut local = Vec::with_capacity(wanted.len());
        for period in wanted {
            let (start, end) = (period.start, period.end);
            let used = self.store.usage.total(tenant.id, Metric::EventsPublished, start, end).await?;
            local.push(LocalInvoice::new(&terms_of(&terms, &account, period), period, now, used)?);
        }
        let adjustments = match (local.last(), local.first()) {
            (Some(oldest), Some(newest)) => {
                let (from, to) = (oldest.period.start, newest.period.end);
                self.store.outbox.adjustments(tenant.id, from, to).await?
            }
            _ => Vec::new(),
        };
        let hosted = match (&self.stripe, &account.stripe_customer_id) {
            (Some(stripe), Some(customer)) if older_than.is_none() => stripe.hosted(customer, limit).await?,
            _ => Vec::new(),
        };
        Ok(Invoices { local, has_more, adjustments, hosted })
    }

    /// Where the tenant subscribes.
    ///
    /// # Errors
    /// See [`StripeBilling::checkout`]; `NOT_FOUND` where payments are not set up.
    pub async fn checkout(&self, may: &May<BillingWrite>, tenant: Option<TenantId>) -> Result<String, Error> {
        let tenant = self.store.tenants.get(whose(may, tenant)?).await?;
        self.payments()?.checkout(&tenant, may.by(&*self.clock)).await
    }

    /// Where the tenant looks after its payments.
    ///
    /// # Errors
    /// See [`StripeBilling::portal`]; `NOT_FOUND` where payments are not set up.
    pub async fn portal(&self, may: &May<BillingWrite>, tenant: Option<TenantId>) -> Result<String, Error> {
        let tenant = whose(may, tenant)?;
        self.payments()?.portal(tenant).await
    }

    /// Takes a webhook of the payment provider.
    ///
    /// # Errors
    /// See [`StripeBilling::receive`]; `NOT_FOUND` where payments are not set up.
    pub async fn payment_webhook(&self, signature: Option<&str>, body: &[u8]) -> Result<Received, Error> {
        self.payments()?.receive(signature, body, self.clock.now()).await
    }

    /// Billing through the payment provider, where it is set up.
    #[must_use]
    pub const fn stripe(&self) -> Option<&Arc<StripeBilling>> {
        self.stripe.as_ref()
    }

    fn payments(&self) -> Result<&Arc<StripeBilling>, Error> {
        self.stripe.as_ref().ok_or_else(|| {
            Error::new(
                Code::NotFound,
                "Payments are not set up on this installation: the operator has set no `stripe.secret_key`.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::PlanName;
    use weir_store::Standing;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn account(anchor: &str, now: &str) -> Account {
        Account {
            tenant_id: TenantId::new(),
            plan: Plan::of(PlanName::Pro),
            anchor: time(anchor),
            period: Period::monthly(time(anchor), time(now)),
            spend_cap_micros: None,
            own_limit: None,
            standing: Standing::Active,
            past_due_since: None,
            stripe_customer_id: None,
            stripe_subscription_id: None,
        }
    }

    #[test]
    fn amounts_are_exact_and_the_total_is_rounded_once() {
        let account = account("2026-01-01T00:00:00Z", "2026-03-10T00:00:00Z");
        let terms = terms_of(&[], &account, account.period);
        let of = |quantity| LocalInvoice::new(&terms, account.period, time("2026-03-10T00:00:00Z"), quantity);
        for (quantity, billable, amount, total) in [
            (0, 0, 0, 0),
            (5_000_000, 0, 0, 0),
            (5_000_001, 1, 3, 0),
            (5_001_666, 1_666, 4_998, 0),
            (5_001_667, 1_667, 5_001, 10_000),
            (5_005_000, 5_000, 15_000, 20_000),
            (105_000_000, 100_000_000, 300_000_000, 300_000_000),
        ] {
            let invoice = of(quantity).expect("can be counted");
            assert_eq!(
                (invoice.billable, invoice.amount_micros, invoice.total_micros),
                (billable, amount, total)
            );
            assert!(invoice.open);
        }
        assert_eq!(of(u64::MAX).expect_err("cannot").code, Code::BillingError);
    }

    #[test]
    fn a_period_has_the_terms_of_its_end() {
        let account = account("2026-01-01T00:00:00Z", "2026-04-10T00:00:00Z");
        let since = |text, name| Terms { since: time(text), plan: Plan::of(name) };
        let known = [
            since("2026-01-01T00:00:00Z", PlanName::Free),
            since("2026-02-10T00:00:00Z", PlanName::Pro),
            since("2026-04-01T00:00:00Z", PlanName::Enterprise),
        ];
        let month = |text| Period::monthly(account.anchor, time(text));
        for (month, plan) in [
            (month("2025-12-05T00:00:00Z"), PlanName::Free),
            (month("2026-01-05T00:00:00Z"), PlanName::Free),
            (month("2026-02-05T00:00:00Z"), PlanName::Pro),
            // What was bought in the moment at which it ended belongs to the next.
            (month("2026-03-05T00:00:00Z"), PlanName::Pro),
            (month("2026-04-05T00:00:00Z"), PlanName::Enterprise),
        ] {
            assert_eq!(terms_of(&known, &account, month).plan.name, plan, "{month:?}");
        }
    }

    #[test]
    fn periods_go_back_without_gaps_to_the_beginning() {
        // It began in January and subscribed in March, in the middle of its own month.
        let (created, account) =
            (time("2026-01-31T10:00:00Z"), account("2026-03-15T08:00:00Z", "2026-05-20T00:00:00Z"));
        let periods: Vec<_> =
            std::iter::successors(Some(account.period), |later| before(&account, created, *later)).collect();
        let starts: Vec<_> = periods.iter().map(|period| period.start.to_string()[..13].to_owned()).collect();
        let expected = ["2026-05-15T08", "2026-04-15T08", "2026-03-15T08", "2026-02-28T10", "2026-01-31T10"];
        assert_eq!(starts, expected);
        assert!(periods.windows(2).all(|pair| pair[1].end == pair[0].start), "{periods:?}");
    }
}
