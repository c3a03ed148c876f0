//! The plan in force.

use super::enforced::Enforced;
use super::scalars::{DateTime, Json, Long};
use super::tenants::Plan;
use super::viewer::{Viewer, id};
use async_graphql::{Context, ID, Object, Result, SimpleObject};
use weir_engine::Error;
use weir_engine::admin::permits::{BillingRead, BillingWrite};
use weir_engine::billing::PlanInForce;

/// A tenant's plan as it is in force, and how much of it is used. Money is in millionths of the currency's unit.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct BillingAccount {
    /// Whose.
    tenant_id: ID,
    /// What it bought.
    plan: Plan,
    /// The version of the terms that it bought.
    plan_version: Long,
    /// The currency.
    currency: String,
    /// Events of a billing period that are included; null is unlimited.
    included_events: Option<Long>,
    /// Price of an event beyond those.
    price_per_event_micros: Long,
    /// `active`, `past_due` or `suspended`.
    standing: String,
    /// The beginning of the billing period.
    period_start: DateTime,
    /// Its end, and the beginning of the next.
    resets_at: DateTime,
    /// Events that may be accepted in the period; null is any number.
    event_limit: Option<Long>,
    /// Events of the period that the log has counted.
    used: Long,
    /// Every event that was accepted before this time is counted.
    counted_until: DateTime,
    /// What `used` costs beyond what is included.
    cost_micros: Long,
    /// What the tenant is willing to spend in a period; null is any amount.
    spend_cap_micros: Option<Long>,
    /// The limits that hold beside the number of events.
    limits: Json,
}

impl From<PlanInForce> for BillingAccount {
    fn from(in_force: PlanInForce) -> Self {
        let PlanInForce { account, limits, used, counted_until, reached: _ } = in_force;
        Self {
            tenant_id: account.tenant_id.to_string().into(),
            plan: account.plan.name.into(),
            plan_version: Long(account.plan.version.into()),
            currency: account.plan.currency.as_str().to_owned(),
            included_events: account.plan.monthly_events.map(Long),
            price_per_event_micros: Long(account.plan.price_per_event_micros),
            standing: account.standing.as_str().to_owned(),
            period_start: account.period.start.into(),
            resets_at: account.period.end.into(),
            event_limit: account.event_limit().map(Long),
            used: Long(used),
            counted_until: counted_until.into(),
            cost_micros: Long(account.plan.price(used).map_or(u64::MAX, |cost| cost.micros)),
            spend_cap_micros: account.spend_cap_micros.map(Long),
            limits: Json::of(&limits),
        }
    }
}

/// A spend cap that was set, and where it holds.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct SpendCapChange {
    /// What the tenant is willing to spend in a period; null is any amount.
    spend_cap_micros: Option<Long>,
    /// Where it holds already.
    enforced: Enforced,
}

#[derive(Default)]
pub(super) struct BillingQuery;

#[Object(rename_args = "snake_case")]
impl BillingQuery {
    /// The plan in force, the billing period and what was used of it. Needs `billing:read`.
    #[graphql(complexity = "5 + child_complexity")]
    async fn billing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
    ) -> Option<Result<BillingAccount>> {
        let read = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<BillingRead>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            Ok(viewer.gateway.engine.plan_in_force(&may, tenant).await?.into())
        };
        Some(read.await.map_err(|error: Error| error.into()))
    }
}

#[derive(Default)]
pub(super) struct BillingMutation;

#[Object(rename_args = "snake_case")]
impl BillingMutation {
    /// Cap what is spent in a period beyond what is included. Needs `billing:write`.
    async fn set_spend_cap(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "In millionths of the currency's unit; null lifts the cap.")] micros: Option<Long>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
    ) -> Option<Result<SpendCapChange>> {
        let set = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<BillingWrite>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            let engine = &viewer.gateway.engine;
            let micros = micros.map(|micros| micros.0);
            let (account, change) = engine.set_spend_cap(&may, tenant, micros).await?;
            let enforced = engine.enforced(&change).await.into();
            Ok(SpendCapChange { spend_cap_micros: account.spend_cap_micros.map(Long), enforced })
        };
        Some(set.await.map_err(|error: Error| error.into()))
    }
}
