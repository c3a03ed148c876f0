//! The whole product without protocols: who may do what, publish, replay, live sessions, limits.
//!
//! May depend on core, store, log and hub; knows no HTTP, no frames, no GraphQL. Start reading at
//! [`Engine`], then follow one event: `publish.rs` → the log → `pump.rs` → the hub; and one reader:
//! `session.rs` → `resume.rs` → the hub.

pub mod access;
pub mod admin;
pub mod alerts;
pub mod billing;
mod control;
mod encode;
mod engine;
mod error;
pub mod figures;
pub mod limits;
mod outage;
mod overview;
pub mod people;
mod projects;
mod publish;
mod pump;
mod replay;
mod resume;
mod retention;
mod schemas;
mod session;
mod sessions;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
pub mod webhooks;

pub use access::{Caller, Claims, Credentials, Grant, Principal, Reach, Ticket, Who};
pub use encode::{Fields, event_json};
pub use engine::{Engine, EngineHealth, Parts, Settings};
pub use error::Error;
pub use overview::{NodeSeen, Overview, TenantLoad};
pub use publish::Published;
pub use replay::ReplayPage;
pub use resume::{Gap, GapReason, Start};
pub use retention::{Kept, RetentionSettings};
pub use schemas::{Difference, SchemaWish, SetSchema};
pub use session::{Envelope, Farewell, Operation, Session, SubscribeError, Subscribed, Voice};
pub use trace::{Origin, SpanCounts, Tracer, Traces};

// What administration answers with; the gateway does not name the store.
pub use weir_store::alerts::{Alert, AlertFilter, AlertState, AlertStates};
pub use weir_store::audit;
pub use weir_store::dead_letters::{
    DeadLetter, DeadLetterFilter, DeadLetterTotals, DeadSource, MAX_BYTES as MAX_LETTER_BYTES, MAX_LETTERS,
    Redriven,
};
pub use weir_store::members::{Invitation, Member};
pub use weir_store::people::Membership;
pub use weir_store::webhooks::{
    AttemptOutcome, DeathReason, DisabledFor, Webhook, WebhookAttempt, WebhookTerms,
};
pub use weir_store::{
    After, Amount, ApiKey, Metric, Overrides, Page, Project, SigningAlgorithm, SigningKey, SigningMaterial,
    Tenant, TenantStatus, TopicSchema, TopicTemplates, UsageWindow, User,
};
