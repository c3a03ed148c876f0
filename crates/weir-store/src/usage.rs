//! Metered use in hourly windows.

use crate::Reply;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// The longest range that [`Usage::usage`] answers, in days.
pub const MAX_USAGE_DAYS: u64 = 366;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Events accepted into the log.
    EventsPublished,
    /// Events handed to subscribers.
    EventsDelivered,
    /// Minutes of connections.
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

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text)
    }
}

/// How much to add to one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose use.
    pub tenant_id: TenantId,
    /// In which project.
    pub project_id: ProjectId,
    /// Of what.
    pub metric: Metric,
    /// In which hour: any time within it.
    pub at: Timestamp,
    /// How much, in the metric's unit.
    pub quantity: u64,
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

/// The start of the hour that holds `time`.
#[must_use]
pub const fn hour_of(time: Timestamp) -> Timestamp {
    time.hour()
}

/// Usage counters.
pub trait Usage: Send + Sync {
    /// Adds a node's batch, once: true when it was added, false when it had been before. A node (one run of
    /// one process, see [`NodeId`]) numbers its batches upwards from 1 and sends the next only when it
    /// knows that this one was taken; so after a lost answer it simply sends the same again.
    fn record(&self, node: NodeId, batch: u64, counted: Vec<Counted>) -> Reply<'_, bool>;

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
}
