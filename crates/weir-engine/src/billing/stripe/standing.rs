//! How a tenant stands: asked of Stripe, applied here.

use super::StripeBilling;
use super::report::Trouble;
use weir_core::{Period, PlanName, TenantId, Timestamp};
use weir_outbound::stripe::{InvoicesOf, Subscription};
use weir_store::{Account, By, Standing, Stood, StoreError, SubscriptionState};

/// Who changes a standing, in the audit trail.
const ACTOR: &str = "billing:stripe";

impl StripeBilling {
    /// Asks Stripe how a tenant stands and makes it so here. Looks may overlap: what an older one found is dropped.
    ///
    /// # Errors
    /// The database's and Stripe's; nothing is changed then, or all up to there.
    pub(super) async fn look(&self, tenant: TenantId) -> Result<String, Trouble> {
        let account = self.store.billing.account(tenant).await?;
        let Some(customer) = account.stripe_customer_id.clone() else {
            return Ok("the tenant has no customer".to_owned());
        };
        let look = self.store.payments.begin_look(tenant).await?;
        let client = &self.settings.client;
        let subscriptions = client.subscriptions(&customer).await?;
        let open = InvoicesOf { customer: &customer, status: Some("open"), after: None, limit: 100 };
        let overdue =
            client.invoices(&open).await?.data.iter().filter(|invoice| invoice.is_overdue()).count();

        let ours: Vec<_> =
            subscriptions.iter().filter(|one| one.item(&self.settings.price).is_some()).collect();
        let current = ours.iter().find(|one| one.runs()).copied();
        let states = ours.iter().filter(|one| one.runs() || one.ended_at.is_some());
        let states = states.map(|one| state(one, &customer)).collect();
        if !self.store.payments.note_subscriptions(tenant, look, states).await? {
            return Ok("a newer look was at work".to_owned());
        }
        self.apply_terms(&account, current).await?;
        let unpaid = current.is_some_and(|one| matches!(one.status.as_str(), "past_due" | "unpaid"));
        let owes = overdue > 0 || unpaid;
        self.apply_standing(&account, look, owes).await
    }

    /// Plan and period follow the subscription.
    async fn apply_terms(&self, account: &Account, current: Option<&Subscription>) -> Result<(), StoreError> {
        let tenant = account.tenant_id;
        let Some(subscription) = current else {
            // Who never subscribed has the plan that staff gave it.
            if account.stripe_subscription_id.is_some() && account.plan.name == PlanName::Pro {
                self.set_plan(tenant, PlanName::Free).await?;
            }
            return Ok(());
        };
        if account.plan.name == PlanName::Free {
            self.set_plan(tenant, PlanName::Pro).await?;
        }
        let Some(item) = subscription.item(&self.settings.price) else { return Ok(()) };
        let start = Timestamp::from_seconds(item.current_period_start);
        let period = Period { start, end: Timestamp::from_seconds(item.current_period_end) };
        let anchor = Timestamp::from_seconds(subscription.billing_cycle_anchor);
        match self.store.billing.set_period(tenant, anchor, period, self.by().await?).await {
            // A clock is wrong, theirs or ours: the period of the account goes on.
            Err(StoreError::Invalid(reason)) => {
                tracing::warn!(%tenant, reason, "the subscription's period is not one of now: {reason}");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    async fn set_plan(&self, tenant: TenantId, plan: PlanName) -> Result<(), StoreError> {
        let overrides = self.store.tenants.get(tenant).await?.overrides;
        self.store.tenants.set_plan(tenant, plan, overrides, self.by().await?).await.map(drop)
    }

    async fn apply_standing(&self, account: &Account, look: i64, owes: bool) -> Result<String, Trouble> {
        let (tenant, grace) = (account.tenant_id, self.settings.grace);
        let by = self.by().await?;
        let over = grace.is_zero() || account.past_due_since.is_some_and(|since| since.plus(grace) <= by.at);
        let standing = match (owes, over) {
            (false, _) => Standing::Active,
            (true, false) => Standing::PastDue,
            (true, true) => Standing::Suspended,
        };
        let stood = self.store.payments.set_standing(tenant, look, standing, self.settings.brake, by).await?;
        Ok(match stood {
            Stood::Already => format!("stands {} already", standing.as_str()),
            Stood::Outdated => "a newer look was at work".to_owned(),
            Stood::Changed(changed) => {
                let status = changed.value.status;
                if status == weir_store::TenantStatus::Suspended {
                    self.counts.add(|counts| &counts.suspended, 1);
                } else if standing == Standing::PastDue {
                    self.counts.add(|counts| &counts.past_due, 1);
                }
                let status = status.as_str();
                tracing::warn!(%tenant, status, "tenant {tenant} is {status} now, after its payments");
                format!("is {status} now")
            }
            Stood::Braked => {
                self.counts.add(|counts| &counts.braked, 1);
                let (most, within) = (self.settings.brake.most, self.settings.brake.within);
                tracing::error!(%tenant, most, "the brake holds: {most} tenants were suspended for their payments within {within:?}, and tenant {tenant} is not");
                if standing == Standing::Suspended && account.past_due_since.is_none() {
                    let by = self.by().await?;
                    self.store
                        .payments
                        .set_standing(tenant, look, Standing::PastDue, self.settings.brake, by)
                        .await?;
                }
                "is not suspended: the brake holds".to_owned()
            }
        })
    }

    async fn by(&self) -> Result<By, StoreError> {
        Ok(By::new(ACTOR, self.store.payments.time().await?))
    }
}

fn state(one: &Subscription, customer: &str) -> SubscriptionState {
    SubscriptionState {
        id: one.id.clone(),
        customer_id: customer.to_owned(),
        since: Timestamp::from_seconds(one.start_date),
        ended: one.ended_at.map(Timestamp::from_seconds),
    }
}
