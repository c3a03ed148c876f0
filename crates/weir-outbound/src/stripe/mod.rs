//! Stripe: the dozen calls that billing makes, and the check of what Stripe says.
//!
//! [`Stripe`] makes the calls; every failure says whether the call took effect ([`Error`]), because that decides
//! whether it may be made again. [`verify`] holds a webhook against its signature. The API version is pinned
//! ([`VERSION`]), and every change of state carries an idempotency key.

mod answers;
mod calls;
mod client;
mod error;
mod signature;

pub use answers::{
    CheckoutSession, Customer, ErrorReport, Invoice, List, Meter, PortalSession, Price, Subscription, Summary,
};
pub use calls::{Checkout, InvoicesOf, MeterEvent};
pub use client::{API_BASE, Stripe, VERSION};
pub use error::{Error, Refusal};
pub use signature::{InvalidSignature, TOLERANCE_SECONDS, verify};
