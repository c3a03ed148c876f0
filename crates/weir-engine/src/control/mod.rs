//! This node among the others: signs of life, notices that wake it, and enforcing what changed.
//!
//! The database is the truth and is polled (`access/watch.rs`); notices only make it sooner. What is enforced here is
//! confirmed there, so that whoever made the change can say how far it has come.

mod enforce;
mod membership;

pub(crate) use enforce::Enforcement;
