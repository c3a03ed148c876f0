//! What tenants use, may use, and pay for it.

mod allowance;
pub(crate) mod meter;
mod plan;

pub(crate) use allowance::{Admitted, Allowances};
pub use meter::{
    Explained, Explanation, LineId, MeterSettings, MeterState, PieceId, UsageLine, UsageQuery, UsageReport,
    Window,
};
pub use plan::PlanInForce;
