//! Limits that are decided in memory: rates by GCRA, shares of connections, admission of new connections.

mod connections;
mod gcra;
mod quota;
mod rates;

pub use connections::ConnectionSlot;
pub(crate) use connections::{Connections, Excess};
pub use gcra::{Decision, Gcra, Rate};
pub use rates::Rates;
