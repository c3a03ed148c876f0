//! The correctness properties of the design document, each as one property test that runs on both
//! backends: everything embedded in one server, and two servers on PostgreSQL and NATS JetStream.
//!
//! A file per section of the document. `generate.rs` makes inputs, `world.rs` boots the servers once per
//! property, `delivered.rs` holds the document's text against the tags here. Failing inputs are kept under
//! `proptest-regressions/` and tried first ever after: commit them.

#[cfg(test)]
mod auth;
#[cfg(test)]
mod billing;
#[cfg(test)]
mod delivered;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod graphql;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod payments;
#[cfg(test)]
mod persistence;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod rbac;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod websocket;
#[cfg(test)]
mod world;
