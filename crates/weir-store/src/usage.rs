//! Metered use in hourly windows, and what stands behind each number.

use crate::Reply;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// The longest range that [`Usage::usage`] answers, in days.
pub const MAX_USAGE_DAYS: u64 = 366;

/// The most that one batch can add to one counter. A thousand of them fit into a counter, and the number is exact in
/// every language that reads JSON.
pub const MAX_QUANTITY: u64 = 1 << 53;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Events accepted into the log, counted there.
    EventsPublished,
    /// Events handed to subscribers.
    EventsDelivered,
    /// Minutes of connections, whatever their transport.
    WebsocketMinutes,
    /// Requests to the HTTP interfaces.
    ApiRequests,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 4] =
        [Self::EventsPublished, Self::EventsDelivered, Self::WebsocketMinutes, Self::ApiRequests];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsPublished => "events_published",
            Self::EventsDelivered => "events_delivered",
            Self::WebsocketMinutes => "websocket_minutes",
            Self::ApiRequests => "api_requests",
        }
    }

    /// The metric of a public name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text)
    }
}

/// How much to add to one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose use.
    pub tenant_id: TenantId,
    /// In which project; nil for what belongs to no project.
    pub project_id: ProjectId,
    /// Of what.
    pub metric: Metric,
    /// In which hour: any time within it.
    pub at: Timestamp,
    /// How much, in the metric's unit; at most [`MAX_QUANTITY`].
    pub quantity: u64,
}

/// What a node counted since its last batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which node: one run of one process, see [`NodeId`].
    pub node: NodeId,
    /// Numbered upwards from 1. The next is sent only when it is known that this one was taken.
    pub number: u64,
    /// What the node counted before this time, by the database's clock, is in this batch or in one before.
    pub until: Timestamp,
    /// Anything but [`Metric::EventsPublished`], which is counted in the log.
    pub counted: Vec<Counted>,
}

/// One counter of one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageWindow {
    /// The start of the hour.
    pub window_start: Timestamp,
    /// Of what.
    pub metric: Metric,
    /// How much, in the metric's unit.
    pub quantity: u64,
}

/// How many events the log took, as far as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Counted so far.
    pub events: u64,
    /// Every event that was acknowledged before this time, by the database's clock, is among them.
    pub complete_until: Timestamp,
}

/// Part of an hour of [`Metric::EventsPublished`]: events that stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which project.
    pub project_id: ProjectId,
    /// The start of the hour.
    pub window_start: Timestamp,
    /// The incarnation of the log.
    pub epoch: u64,
    /// The project's sequence of the first of them.
    pub first_sequence: u64,
    /// The project's sequence of the last. All of the project's events between belong to this hour.
    pub last_sequence: u64,
    /// How many they are.
    pub quantity: u64,
    /// What counting them again gave; `None` before it was done, and when they were no longer in the log.
    pub recounted: Option<u64>,
    /// When that was done.
    pub recounted_at: Option<Timestamp>,
}

/// One node's part of an hour of another metric: the sum of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageShare {
    /// In which project.
    pub project_id: ProjectId,
    /// The start of the hour.
    pub window_start: Timestamp,
    /// Whose batches.
    pub node: NodeId,
    /// The first that added to it.
    pub first_batch: u64,
    /// The last.
    pub last_batch: u64,
    /// How many did.
    pub batches: u64,
    /// What they added, together.
    pub quantity: u64,
}

/// A place in a list of [`UsageRange`] (the last field is its epoch) or [`UsageShare`] (its node).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsagePlace<T> {
    /// The start of the hour.
    pub window_start: Timestamp,
    /// The project.
    pub project_id: ProjectId,
    /// What tells apart entries of the same project and hour.
    pub last: T,
}

/// Which part of an explanation to list.
#[derive(Clone, Copy, Debug)]
pub struct Explain<T> {
    /// Whose.
    pub tenant: TenantId,
    /// Of one project, or of all.
    pub project: Option<ProjectId>,
    /// Hours that start at or after this.
    pub from: Timestamp,
    /// Hours that start before this.
    pub to: Timestamp,
    /// After this one.
    pub after: Option<UsagePlace<T>>,
    /// At most so many.
    pub limit: usize,
}

/// The start of the hour that holds `time`.
#[must_use]
pub const fn hour_of(time: Timestamp) -> Timestamp {
    time.hour()
}

/// Usage counters.
pub trait Usage: Send + Sync {
    /// Adds a node's batch, once: true when it was added, false when it had been before. After a lost answer a node
    /// simply sends the same again.
    ///
    /// `Invalid` for a batch that can never be added.
    fn record(&self, batch: Batch) -> Reply<'_, bool>;

    /// The tenant's counters by hour, of one project or of all together, for the windows that start in
    /// `from..to`. `Invalid` for more than [`MAX_USAGE_DAYS`].
    fn usage(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        from: Timestamp,
        to: Timestamp,
    ) -> Reply<'_, Vec<UsageWindow>>;

    /// The sum over the same windows, however long the range.
    fn total(&self, tenant: TenantId, metric: Metric, from: Timestamp, to: Timestamp) -> Reply<'_, u64>;

    /// How many of the tenant's events were accepted in the hours that start in `from..to`, and up to when that is
    /// known. Both come from one look.
    fn accepted(&self, tenant: TenantId, from: Timestamp, to: Timestamp) -> Reply<'_, Accepted>;

    /// Hours that end at or before this time are closed: nothing is added to their events_published any more, and to the
    /// rest only by a node that was out of reach for longer than its lease.
    fn closed_until(&self) -> Reply<'_, Timestamp>;

    /// What stands behind [`Metric::EventsPublished`], in the order of hour, project and epoch.
    fn ranges(&self, wanted: Explain<u64>) -> Reply<'_, Vec<UsageRange>>;

    /// What stands behind another metric, in the order of hour, project and node.
    fn shares_of(&self, metric: Metric, wanted: Explain<NodeId>) -> Reply<'_, Vec<UsageShare>>;
}
