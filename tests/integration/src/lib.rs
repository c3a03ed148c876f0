//! Tests of the whole product from outside, over its sockets: one file per path, and `resume.rs` and
//! `faults.rs` for the promises that cross paths. Each test starts servers of its own.

#[cfg(test)]
mod access;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod alert_rules;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod allowance;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod billing;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod dashboards;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod graphql;
#[cfg(test)]
mod graphql_admin;
#[cfg(test)]
mod graphql_live;
#[cfg(test)]
mod graphql_matrix;
#[cfg(test)]
mod hops;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod members;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod redaction;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod system;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod topics;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod webhooks;
#[cfg(test)]
mod ws;
