//! `/v1/billing/plan`, `/plans`, `/spend-cap`.

use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::Query;
use crate::rest::Enforced;
use crate::rest::admin::Admin;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Currency, Plan, PlanName, TenantId, Timestamp};
use weir_engine::Error;
use weir_engine::admin::permits::{BillingRead, BillingWrite, TenantsManage};
use weir_engine::billing::PlanInForce;

/// The terms of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanBody {
    /// `free`, `pro` or `enterprise`.
    #[schema(value_type = String)]
    name: PlanName,
    /// Counted from 1; who bought an earlier version keeps its terms.
    version: u32,
    /// The currency of its price.
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// Events of a billing period that are included; null is unlimited.
    monthly_events: Option<u64>,
    /// Price of an event beyond those, in millionths of the currency's unit; 0 where none can be bought.
    price_per_event_micros: u64,
}

impl From<Plan> for PlanBody {
    fn from(plan: Plan) -> Self {
        let Plan { name, version, currency, monthly_events, price_per_event_micros } = plan;
        Self { name, version, currency, monthly_events, price_per_event_micros }
    }
}

/// The plans that are sold.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlansBody {
    /// The newest version of each.
    data: Vec<PlanBody>,
}

/// Terms on which a plan is to be sold from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPlan {
    /// `free`, `pro` or `enterprise`.
    #[schema(value_type = String)]
    name: PlanName,
    /// The currency of its price; `USD` when absent.
    #[schema(value_type = Option<String>)]
    currency: Option<Currency>,
    /// Events of a billing period that are included; null is unlimited.
    monthly_events: Option<u64>,
    /// Price of an event beyond those, in millionths of the currency's unit; 0 when absent: none can be bought.
    #[serde(default)]
    price_per_event_micros: u64,
}

/// A share of the limit that was reached.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReachedBody {
    /// 50, 80 or 100 percent.
    percent: u32,
    /// Of how many events.
    limit: u64,
    /// When it was noticed.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// A tenant's plan as it is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanInForceBody {
    /// Whose.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// The terms, in the version that was bought.
    plan: PlanBody,
    /// `active`, `past_due` or `suspended`.
    standing: &'static str,
    /// The beginning of the billing period.
    #[schema(value_type = String, format = DateTime)]
    period_start: Timestamp,
    /// Its end, and the beginning of the next.
    #[schema(value_type = String, format = DateTime)]
    resets_at: Timestamp,
    /// Events that may be accepted in the period; null is any number.
    event_limit: Option<u64>,
    /// Events of the period that the log has counted.
    used: u64,
    /// Every event that was accepted before this time is counted.
    #[schema(value_type = String, format = DateTime)]
    counted_until: Timestamp,
    /// What `used` costs beyond what is included, in millionths of the currency's unit.
    cost_micros: u64,
    /// What the tenant is willing to spend in a period; null is any amount.
    spend_cap_micros: Option<u64>,
    /// Shares of the limit that were reached in the period.
    reached: Vec<ReachedBody>,
    /// The limits that hold beside the number of events.
    #[schema(value_type = Object)]
    limits: Value,
}

impl From<PlanInForce> for PlanInForceBody {
    fn from(in_force: PlanInForce) -> Self {
        let PlanInForce { account, limits, used, counted_until, reached } = in_force;
        Self {
            tenant_id: account.tenant_id,
            standing: account.standing.as_str(),
            period_start: account.period.start,
            resets_at: account.period.end,
            event_limit: account.event_limit(),
            used,
            counted_until,
            cost_micros: account.plan.price(used).map_or(u64::MAX, |cost| cost.micros),
            spend_cap_micros: account.spend_cap_micros,
            reached: reached
                .into_iter()
                .map(|reached| ReachedBody {
                    percent: reached.threshold,
                    limit: reached.limit,
                    at: reached.at,
                })
                .collect(),
            limits: json!(limits),
            plan: account.plan.into(),
        }
    }
}

/// What to spend at most.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpendCap {
    /// In a period, beyond what the plan includes, in millionths of its currency's unit; null is any amount.
    #[serde(deserialize_with = "given")]
    #[schema(required)]
    micros: Option<u64>,
}

/// A cap that was set, and where it holds already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpendCapBody {
    /// What may be spent in a period, in millionths of the currency's unit; null is any amount.
    micros: Option<u64>,
    /// The currency of the plan.
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// Events that may be accepted in the period because of it; null is any number.
    event_limit: Option<u64>,
    /// Where it holds already.
    enforced: Enforced,
}

/// `null` takes a cap away; a body that does not mention it is a mistake.
fn given<'de, D: serde::Deserializer<'de>>(body: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(body)
}

fn tenant(query: Option<&str>) -> Result<Option<TenantId>, Error> {
    Query::parse(query).parsed("tenant_id", "a tenant's id")
}

/// The plan in force: terms, period, limits, what is used.
#[utoipa::path(get, path = "/v1/billing/plan", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    params(("tenant_id" = Option<String>, Query, description = "Whose; one's own when absent, needed by operators")),
    responses((status = 200, body = PlanInForceBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<PlanInForceBody>, Failure> {
    let tenant = tenant(query.as_deref()).map_err(|error| admin.fail(error))?;
    let plan = gateway.engine.plan_in_force(&admin.0, tenant).await.map_err(|error| admin.fail(error))?;
    Ok(Json(plan.into()))
}

/// Set what to spend in a period at most.
///
/// Beyond what the plan includes. Events that it does not pay are refused, from the moment on at which this answers on
/// the nodes that it names.
#[utoipa::path(put, path = "/v1/billing/spend-cap", tag = "billing", extensions(("x-permission" = json!("billing:write"))),
    params(("tenant_id" = Option<String>, Query, description = "Whose; one's own when absent, needed by operators")),
    request_body = SpendCap,
    responses((status = 200, body = SpendCapBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn set_spend_cap(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingWrite>,
    RawQuery(query): RawQuery,
    body: RawBody,
) -> Result<Json<SpendCapBody>, Failure> {
    let tenant = tenant(query.as_deref()).map_err(|error| admin.fail(error))?;
    let SpendCap { micros } = admin.read(&body)?;
    let set = gateway.engine.set_spend_cap(&admin.0, tenant, micros).await;
    let (account, change) = set.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&change).await.into();
    Ok(Json(SpendCapBody {
        micros: account.spend_cap_micros,
        currency: account.plan.currency,
        event_limit: account.event_limit(),
        enforced,
    }))
}

/// The plans that are sold.
#[utoipa::path(get, path = "/v1/billing/plans", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    responses((status = 200, body = PlansBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
) -> Result<Json<PlansBody>, Failure> {
    let plans = gateway.engine.plans(&admin.0).await.map_err(|error| admin.fail(error))?;
    Ok(Json(PlansBody { data: plans.into_iter().map(PlanBody::from).collect() }))
}

/// Sell a plan on other terms from now on.
///
/// Who bought an earlier version keeps its terms, until it changes to another plan.
#[utoipa::path(post, path = "/v1/billing/plans", tag = "billing", extensions(("x-permission" = json!("tenants:manage"))),
    request_body = NewPlan,
    responses((status = 201, body = PlanBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn add(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantsManage>,
    body: RawBody,
) -> Result<(StatusCode, Json<PlanBody>), Failure> {
    let NewPlan { name, currency, monthly_events, price_per_event_micros } = admin.read(&body)?;
    let currency = currency.unwrap_or(Currency::USD);
    let terms = Plan { name, version: 0, currency, monthly_events, price_per_event_micros };
    let plan = gateway.engine.add_plan(&admin.0, terms).await.map_err(|error| admin.fail(error))?;
    Ok((StatusCode::CREATED, Json(plan.into())))
}
