//! Requests to servers outside: key sets of identity providers, webhooks, the payment provider.
//!
//! The only crate that makes them, so that there is one place where it is decided what they may reach, how long
//! they may take and how much they may bring. Names no other crate of the workspace and shows nothing of the HTTP
//! client inside. Start reading at [`Outbound`]; [`address`] has the table of what is public.

pub mod address;
mod client;
mod error;
mod guard;
#[cfg(test)]
mod tests;

pub use address::{Network, Networks};
pub use client::{Outbound, Policy, Request, Response};
pub use error::Error;
