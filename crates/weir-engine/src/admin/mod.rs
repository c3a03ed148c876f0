//! Administration: tenants, projects, keys of servers and of tokens. Every call takes a [`May`], which exists only for somebody who holds
//! the permission: a signature says who may call it, on every protocol.

mod alerts;
mod audit;
mod connections;
mod dead_letters;
mod enforced;
mod keys;
mod members;
mod once;
mod permit;
mod plan;
mod projects;
mod signing;
mod storage;
mod tenants;
mod usage;
mod webhooks;

pub use connections::{Connection, Connections};
pub use enforced::Enforced;
pub use keys::{KeyWish, MAX_GRACE};
pub use members::{Invited, MemberWish};
pub use once::{Held, MAX_IDEMPOTENCY_KEY, Turn};
pub use permit::{May, Permit, permits};
pub use projects::ProjectChange;
pub use signing::SigningWish;
pub use storage::{Storage, StorageReport};
pub use tenants::{TenantChange, TenantWish};
pub use webhooks::{Pinged, WebhookChange, WebhookWish};
