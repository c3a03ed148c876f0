//! What the event logs keep of each project, and the part of it that goes.

use crate::Reply;
use std::time::Duration;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// What one incarnation of a log keeps of a project. Bytes are the events' own: payload, id, topic, type and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which project.
    pub project_id: ProjectId,
    /// In which incarnation.
    pub epoch: u64,
    /// Under which stream's name.
    pub stream: String,
    /// The last event that was counted.
    pub last_sequence: u64,
    /// Everything that was counted up to it.
    pub total: Amount,
    /// The last event that is not retained.
    pub floor_sequence: u64,
    /// Everything that was counted up to that.
    pub gone: Amount,
    /// When the first retained event was accepted, where that is known.
    pub oldest_at: Option<Timestamp>,
    /// How often somebody asked for a review.
    pub asked: i64,
}

impl Stored {
    /// What is retained.
    #[must_use]
    pub const fn kept(&self) -> Amount {
        Amount {
            events: self.total.events.saturating_sub(self.gone.events),
            bytes: self.total.bytes.saturating_sub(self.gone.bytes),
        }
    }
}

/// So many events with so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub events: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

/// A place in a project's log, and what was counted up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Up to and including this event.
    pub sequence: u64,
    /// Everything that was counted.
    pub up_to: Amount,
}

/// What to look for a mark by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkBy {
    /// At or before this event.
    Sequence(u64),
    /// With no more bytes up to it.
    Bytes(u64),
}

/// What a review of a project came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The first retained event was accepted then.
    pub oldest_at: Option<Timestamp>,
    /// When to look again.
    pub next: Timestamp,
}

/// What the logs keep. The book is written by [`crate::Ledger::count`]; here it is read, and the floors are raised.
pub trait Storage: Send + Sync {
    /// Takes or renews the turn to enforce retention, for `lease`. False when another node has it that runs.
    fn take_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool>;

    /// What the logs that are there keep of a tenant.
    fn of_tenant(&self, tenant: TenantId) -> Reply<'_, Vec<Stored>>;

    /// Tenants with a project that is to be looked at, at most so many.
    fn due(&self, now: Timestamp, limit: u32) -> Reply<'_, Vec<TenantId>>;

    /// The last mark that is not beyond.
    fn mark(&self, of: Stored, by: MarkBy) -> Reply<'_, Option<Mark>>;

    /// Notes that a project's events up to the mark are no longer retained, before the log is told. False when more is
    /// gone already.
    fn raise(&self, of: Stored, to: Mark, oldest_at: Option<Timestamp>) -> Reply<'_, bool>;

    /// Notes that a project was looked at, unless it was asked for again since `of` was read.
    fn reviewed(&self, of: Stored, reviewed: Reviewed) -> Reply<'_, ()>;

    /// Projects with a floor, after this one in order, at most so many: whoever takes over tells the log again.
    fn floors(&self, after: Option<(ProjectId, u64)>, limit: u32) -> Reply<'_, Vec<Stored>>;
}
