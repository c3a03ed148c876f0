//! Requests to servers outside: key sets of identity providers, webhooks, the payment provider.
//!
//! The only crate that makes them, so that there is one place where it is decided what they may reach, how long
//! they may take and how much they may bring. Of the workspace it names only `weir-core`, and it shows nothing of the HTTP
//! client inside. Start reading at [`Outbound`]; [`address`] has the table of what is public; [`stripe`] is the
//! payment provider.

pub mod address;
mod client;
mod error;
mod guard;
pub mod stripe;
#[cfg(test)]
mod tests;
pub mod webhook;

pub use address::{Network, Networks};
pub use client::{Outbound, Policy, Request, Response};
pub use error::Error;
