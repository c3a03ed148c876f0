//! `/v1/billing/…` and what is behind it, against a Stripe that keeps Stripe's rules.

mod oracle;
mod usage;
