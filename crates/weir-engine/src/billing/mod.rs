//! What tenants use and what they pay for it.

pub(crate) mod meter;

pub use meter::{
    Explained, Explanation, LineId, MeterSettings, MeterState, PieceId, UsageLine, UsageQuery, UsageReport,
    Window,
};
