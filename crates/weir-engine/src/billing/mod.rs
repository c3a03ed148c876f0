//! What tenants use, may use, and pay for it.

mod allowance;
pub(crate) mod meter;
mod plan;

pub use allowance::{Admitted, Allowances, Units};
pub use meter::{
    Explained, Explanation, LineId, MeterSettings, MeterState, PieceId, UsageLine, UsageQuery, UsageReport,
    Window,
};
pub use plan::PlanInForce;
