//! Metadata of Weir: tenants, projects, keys, tickets, usage and audit, on SQLite and PostgreSQL.
//!
//! May depend on `weir-core` and a database; knows no protocol and no event. Start reading at
//! [`Store`], then the trait of the noun you need: [`Tenants`], [`Keys`], [`Directory`], [`Tickets`],
//! [`Schemas`], [`Usage`], [`Billing`], [`Audit`], [`Idempotency`], [`People`], [`Members`], [`SignIns`]. Everything behind them is in
//! `sql/`, written once for both databases.

mod access;
pub mod alerts;
pub mod allowances;
pub mod audit;
mod billing;
#[cfg(test)]
mod conformance;
pub mod dead_letters;
mod directory;
mod erasure;
mod error;
mod idempotency;
mod inquiries;
mod keys;
mod ledger;
mod load;
pub mod members;
mod nodes;
mod notice;
mod outbox;
mod page;
mod payments;
pub mod people;
#[cfg(any(test, feature = "testing"))]
pub mod postgres_server;
mod schemas;
pub mod seal;
mod shares;
pub mod sign_ins;
mod signing;
mod sql;
mod storage;
mod store;
pub mod system;
mod tenants;
mod tickets;
mod usage;
pub mod webhooks;

pub use access::{AccessChange, AccessChangeKind, By, Changed};
pub use alerts::Alerts;
pub use allowances::Allowances;
pub use audit::Audit;
pub use billing::{Account, Billing, Standing, Terms};
pub use dead_letters::DeadLetters;
pub use directory::{Access, Bootstrap, Bootstrapped, Credential, Directory};
pub use erasure::{Doomed, Erasure};
pub use error::StoreError;
pub use idempotency::{Answer, CLAIM_TIME, Claim, Claimed, IDEMPOTENCY_WINDOW, Idempotency, KeyedRequest};
pub use inquiries::{Inquiries, Inquiry, InquiryId};
pub use keys::{ApiKey, Keys, NewKey};
pub use ledger::{Count, CountedRange, CountedTo, Ledger, Positions};
pub use load::Load;
pub use members::Members;
pub use nodes::{Closing, Enforced, Heartbeat, Node, Nodes};
pub use notice::{Notice, Notices};
pub use outbox::{Outbox, Report, ReportCount, ReportKey, ReportState, Settled};
pub use page::{After, MAX_PAGE, Page};
pub use payments::{Brake, Handled, PaymentEvent, PaymentEvents, Payments, Stood, SubscriptionState, UNPAID};
pub use people::{Email, People, User};
pub use schemas::{NewSchema, SchemaRoom, SchemaSet, Schemas, TopicSchema};
pub use shares::{Quota, Share, ShareWish, Shares};
pub use sign_ins::SignIns;
pub use signing::{
    MAX_KEY_SETS, MAX_SIGNING_KEYS, NewSigningKey, SigningAlgorithm, SigningKey, SigningMaterial,
    TopicTemplates,
};
pub use storage::{Amount, Mark, MarkBy, Reviewed, Storage, Stored};
#[cfg(any(test, feature = "testing"))]
pub use store::open_by;
pub use store::{Options, Store, Wall, latest_schema_version, open};
pub use system::{SystemEvents, WaitingEvent};
pub use tenants::{DEFAULT_STREAM, NewTenant, Overrides, Project, Tenant, TenantStatus, Tenants};
pub use tickets::{Ticket, Tickets};
pub use usage::{
    Accepted, Batch, Counted, Explain, MAX_QUANTITY, MAX_USAGE_DAYS, Metric, Usage, UsagePlace, UsageRange,
    UsageShare, UsageWindow, hour_of,
};
pub use webhooks::{Deliveries, Webhooks};

/// What a call of the store returns.
pub type Reply<'a, T> = futures::future::BoxFuture<'a, Result<T, StoreError>>;
