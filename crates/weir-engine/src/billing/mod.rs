//! What tenants use, may use, and pay for it.

mod allowance;
mod invoices;
pub(crate) mod meter;
mod plan;
pub mod stripe;

pub use allowance::{Admitted, Allowances, Units};
pub use invoices::{Invoices, LocalInvoice};
pub use meter::{
    Explained, Explanation, LineId, MeterSettings, MeterState, PieceId, UsageLine, UsageQuery, UsageReport,
    Window,
};
pub use plan::PlanInForce;

use crate::admin::{May, Permit};
use crate::{Error, Reach};
use serde_json::json;
use weir_core::{Code, TenantId};

/// Whose billing is meant: one's own tenant's, and for operators the named one's.
pub(crate) fn whose<P: Permit>(may: &May<P>, tenant: Option<TenantId>) -> Result<TenantId, Error> {
    match (tenant, may.principal().reach) {
        (Some(tenant), _) => may.tenant(tenant),
        (None, Reach::Tenant(own)) => Ok(own),
        (None, Reach::Installation) => {
            let field = json!({ "field": "tenant_id" });
            Err(Error::new(Code::InvalidRequest, "Name the tenant with `tenant_id`.").with(field))
        }
    }
}
