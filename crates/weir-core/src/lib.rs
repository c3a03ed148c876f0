//! The vocabulary of Weir: ids, topics, events, cursors, scopes, plans, limits and error codes.
//!
//! May depend on nothing that does I/O: no runtime, no database, no sockets. Everything here is
//! plain data with its rules, so every other crate can share it. Start reading at [`event`], then
//! [`cursor`] and [`code`].

pub mod alert;
pub mod breaker;
pub mod clock;
pub mod code;
pub mod cursor;
pub mod event;
pub mod histogram;
pub mod ids;
pub mod key;
pub mod money;
pub mod payload;
pub mod period;
pub mod permission;
pub mod plan;
pub mod scope;
pub mod secret;
pub mod system;
pub mod topic;
pub mod trace;

pub use alert::Severity;
pub use breaker::Breaker;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use code::Code;
pub use cursor::{Cursor, CursorError, CursorKey};
pub use event::{Event, EventId, NewEvent, Position};
pub use histogram::{Distribution, Histogram};
pub use ids::{
    AlertId, ConnectionId, DeadLetterId, InvitationId, KeyId, NodeId, ProjectId, RequestId, SigningKeyId,
    TenantId, UserId, WebhookId,
};
pub use money::{Currency, Money};
pub use payload::Payload;
pub use period::Period;
pub use permission::{Permission, Permissions};
pub use plan::{Limits, Plan, PlanName, ProjectLimits};
pub use scope::{Role, Scope, Scopes};
pub use secret::{RootSecret, Secret};
pub use system::SystemTopic;
pub use topic::{Pattern, Topic};
pub use trace::TraceContext;
