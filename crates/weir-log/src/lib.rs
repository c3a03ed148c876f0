//! Events: append, read, follow. One trait, [`EventLog`], and two backends behind it:
//! [`embedded`] (one process, fjall, group commit) and [`jetstream`] (NATS, any number of nodes).
//!
//! May depend on `weir-core` only. The only crate that names fjall and async-nats. Start reading at
//! [`EventLog`]; `conformance.rs` holds what both backends must do.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod feed;
pub mod jetstream;
pub mod load;
pub mod log;
pub mod walk;

pub use error::LogError;
pub use feed::{Feed, FeedItem};
pub use load::{LinkLoad, Load, StreamLoad};
pub use log::{
    Appended, Bounds, Durability, EventLog, Health, Inspection, Outcome, Page, Place, ReadQuery, Record,
    System, TopicHead,
};
pub use walk::{Milestone, Poison, Run, Walked};
