//! Counting what the event log took, so that each event is counted once whoever counts, and whatever dies on the way.

use crate::{Reply, UsageRange};
use weir_core::{ProjectId, TenantId, Timestamp};

/// How far one incarnation of a log has been counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedTo {
    /// The incarnation.
    pub epoch: u64,
    /// Under which name it was found.
    pub stream: String,
    /// The number of the last counted event, in the log's own order.
    pub position: u64,
    /// The hour that it was put into.
    pub reached: Timestamp,
    /// Everything that was acknowledged before this time, by the database's clock, is counted.
    pub complete_until: Timestamp,
    /// Events that were gone before they were counted.
    pub lost: u64,
    /// The log is there.
    pub live: bool,
}

/// Where counting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The time by the database's clock, just before the rest was read.
    pub now: Timestamp,
    /// The streams that hold tenants' events.
    pub streams: Vec<String>,
    /// How far each incarnation was counted, those that are gone too.
    pub counted: Vec<CountedTo>,
}

/// Events of one project and hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedRange {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which project.
    pub project_id: ProjectId,
    /// The start of the hour that they count in.
    pub window_start: Timestamp,
    /// The project's sequence of the first.
    pub first_sequence: u64,
    /// The project's sequence of the last.
    pub last_sequence: u64,
    /// How many.
    pub quantity: u64,
    /// The bytes of all of them: payloads, ids, topics, types and headers.
    pub bytes: u64,
}

/// One step of counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Where it began: the position as it was read, `None` when there was none.
    pub from: Option<u64>,
    /// What is true afterwards.
    pub to: CountedTo,
    /// What it found; one entry a project and hour.
    pub ranges: Vec<CountedRange>,
}

/// The book of what was counted in the event log. The installation's own, across tenants.
pub trait Ledger: Send + Sync {
    /// Where counting stands.
    fn positions(&self) -> Reply<'_, Positions>;

    /// Adds what a step found, to the usage and to what is stored, and moves the position, in one transaction. False when the position is no longer where
    /// the step began: somebody else counted these events, and nothing was changed.
    fn count(&self, step: Count) -> Reply<'_, bool>;

    /// Ranges whose hour starts before `before` and that were not counted again yet, the oldest first.
    fn to_recount(&self, before: Timestamp, limit: usize) -> Reply<'_, Vec<UsageRange>>;

    /// The sequence of the last of the project's events in the range before this one, where there is one.
    fn counted_before(&self, range: UsageRange) -> Reply<'_, Option<u64>>;

    /// Keeps what counting a range again gave, `None` when its events were no longer all there. False when the range
    /// was counted on, or again, meanwhile.
    fn recounted(&self, range: UsageRange, found: Option<u64>) -> Reply<'_, bool>;

    /// Forgets what stands behind hours that started before `before`. The numbers themselves stay.
    fn forget_explanations(&self, before: Timestamp) -> Reply<'_, ()>;
}
