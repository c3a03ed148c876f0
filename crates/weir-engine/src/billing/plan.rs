//! The terms that hold for a tenant, and what it is willing to spend.

use crate::admin::May;
use crate::admin::permits::{BillingRead, BillingWrite, TenantsManage};
use crate::billing::whose;
use crate::{Engine, Error};
use weir_core::{Limits, Plan, TenantId, Timestamp};
use weir_store::allowances::Reached;
use weir_store::{AccessChange, Account};

/// A tenant's plan as it is in force.
#[derive(Clone, Debug)]
pub struct PlanInForce {
    /// The terms, the period, the cap.
    pub account: Account,
    /// The limits that hold beside the number of events.
    pub limits: Limits,
    /// Events of the period that the log has counted.
    pub used: u64,
    /// Every event that was accepted before this time is among them.
    pub counted_until: Timestamp,
    /// Shares of the limit that were reached in the period.
    pub reached: Vec<Reached>,
}

impl Engine {
    /// The plan of a tenant, by default the caller's own.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn plan_in_force(
        &self,
        may: &May<BillingRead>,
        tenant: Option<TenantId>,
    ) -> Result<PlanInForce, Error> {
        let tenant = whose(may, tenant)?;
        let account = self.store.billing.account(tenant).await?;
        let start = account.period.start;
        let (limits, used, reached) = tokio::try_join!(
            self.store.tenants.get(tenant),
            self.store.usage.accepted(tenant, start, account.period.end),
            self.store.allowances.reached(tenant, start),
        )?;
        Ok(PlanInForce {
            account,
            limits: limits.limits,
            used: used.events,
            counted_until: used.complete_until,
            reached,
        })
    }

    /// Sets what a tenant is willing to spend in a period beyond what its plan includes; `None` is any amount.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_REQUEST` where the plan has no price.
    pub async fn set_spend_cap(
        &self,
        may: &May<BillingWrite>,
        tenant: Option<TenantId>,
        micros: Option<u64>,
    ) -> Result<(Account, AccessChange), Error> {
        let tenant = whose(may, tenant)?;
        let changed = self.store.billing.set_spend_cap(tenant, micros, may.by(&*self.clock)).await?;
        Ok((changed.value, changed.change))
    }

    /// The plans that are sold.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn plans(&self, _may: &May<BillingRead>) -> Result<Vec<Plan>, Error> {
        Ok(self.store.billing.plans().await?)
    }

    /// Sells a plan on other terms from now on. Who has it keeps the old ones.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for terms that cannot be counted; `CONFLICT` with another change at the same moment.
    pub async fn add_plan(&self, may: &May<TenantsManage>, terms: Plan) -> Result<Plan, Error> {
        Ok(self.store.billing.add_plan(terms, may.by(&*self.clock)).await?)
    }
}
