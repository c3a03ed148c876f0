//! The protocols: REST, WebSocket, SSE, GraphQL, and the operator's endpoints. Translates between them and the
//! engine, and decides nothing itself.
//!
//! May depend on core, engine and hub. The only crate that names axum and async-graphql. Start reading at [`serve`], then
//! `router.rs`; one handler shows the pattern: `rest/events.rs`.

mod acceptor;
mod cors;
mod credentials;
mod error;
mod extract;
mod front;
pub mod graphql;
mod metrics;
mod middleware;
pub mod openapi;
mod ops;
mod pages;
mod query;
mod rest;
mod router;
mod scene;
mod server;
mod sse;
mod state;
mod upgrade;
mod ws;

pub use acceptor::Acceptor;
pub use metrics::series::document as metrics_document;
pub use router::{ops_router, router};
pub use server::{Server, serve};
pub use state::{Gateway, Settings};
