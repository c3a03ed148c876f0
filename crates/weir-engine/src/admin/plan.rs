//! Limits that people set for parts of their tenant: never above what its plan has.

use crate::Error;
use serde_json::json;
use weir_core::{Code, PlanName};

/// Refuses a rate, or a bound, above the tenant's. 0 is unlimited on both sides: then the other one holds.
pub(super) fn rate_within(plan: PlanName, field: &str, wanted: u64, tenants: u64) -> Result<(), Error> {
    if tenants == 0 { Ok(()) } else { within(plan, field, wanted, tenants) }
}

/// Refuses a limit above the tenant's.
pub(super) fn within(plan: PlanName, field: &str, wanted: u64, tenants: u64) -> Result<(), Error> {
    if wanted <= tenants {
        return Ok(());
    }
    Err(Error::new(
        Code::LimitAbovePlan,
        format!("`{field}` is {wanted}; the tenant, on the plan {plan}, has {tenants}: ask for no more, or for another plan."),
    )
    .with(json!({ "field": field, "requested": wanted, "limit": tenants, "plan": plan })))
}
