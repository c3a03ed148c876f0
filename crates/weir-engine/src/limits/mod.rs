//! Limits that are decided in memory: rates by GCRA, connection counts, admission of new connections.

mod connections;
mod gcra;

pub use connections::{ConnectionSlot, Connections};
pub use gcra::{Decision, Gcra, Rate};
