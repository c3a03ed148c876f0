//! Sockets and fan-out. One thread per shard owns its connections: it parses what they send, matches
//! published messages to their subscriptions, and writes. It knows no HTTP, no storage and no plans.
//!
//! May depend on `weir-core` only. The only crate that names mio and calls the kernel directly. Start
//! reading at [`api`], which is the whole conversation between the async engine and the shards; then
//! `shard/mod.rs`, the loop, and `shard/pass.rs`, the fan-out.

pub mod api;
mod backlog;
mod command;
mod connection;
mod counters;
mod encode;
mod hub;
mod index;
mod operation;
mod project;
mod ring;
mod shard;
pub mod websocket;

pub use api::{
    Attach, Attached, Closed, ClosedBy, Config, Conn, Dialect, Goodbye, Listener, ListeningSocket, Message,
    Meter, NewConnection, NotCovered, Socket, Stats, ready,
};
pub use hub::Hub;
pub use operation::{Operation, Shape};

/// The parts of a pass, for the benchmark.
#[doc(hidden)]
pub mod parts {
    pub use crate::encode::put_event;
    pub use crate::index::Index;
}
