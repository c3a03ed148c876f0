//! Usage on its way to the payment provider.

use crate::{Metric, Reply};
use std::time::Duration;
use weir_core::{NodeId, TenantId, Timestamp};

/// Which report: the parts of its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportKey {
    /// Whose usage.
    pub tenant_id: TenantId,
    /// Of what.
    pub metric: Metric,
    /// The start of the hour.
    pub window_start: Timestamp,
    /// 1 for the first report of the hour, more for corrections.
    pub revision: u32,
}

/// How far a report has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportState {
    /// To be sent; perhaps sent already, under an identifier that is still remembered.
    Pending,
    /// Sent, and nobody knows whether it arrived: to be compared before it is sent again.
    Unsure,
    /// Arrived.
    Sent,
    /// Not sent, and for people to settle.
    Adjustment,
    /// Taken and found wrong afterwards: it is not billed, and for people to settle.
    Rejected,
}

impl ReportState {
    const ALL: [Self; 5] = [Self::Pending, Self::Unsure, Self::Sent, Self::Adjustment, Self::Rejected];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unsure => "unsure",
            Self::Sent => "sent",
            Self::Adjustment => "adjustment",
            Self::Rejected => "rejected",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Usage of an hour to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub key: ReportKey,
    /// What it adds to the hour; below zero takes back.
    pub quantity: i64,
    /// The customer it is for.
    pub customer_id: String,
    /// How far it has come.
    pub state: ReportState,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was sent first, since it was last certain that it had not arrived.
    pub first_sent_at: Option<Timestamp>,
    /// When it was sent last.
    pub last_sent_at: Option<Timestamp>,
    /// Why it is not sent.
    pub note: Option<String>,
}

/// What became of a report.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which.
    pub key: ReportKey,
    /// How far it has come.
    pub state: ReportState,
    /// When it is looked at again, if it is not done.
    pub due_at: Timestamp,
    /// Why it is not sent.
    pub note: Option<String>,
}

/// How many reports there are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportCount {
    /// The state.
    pub state: ReportState,
    /// How many.
    pub reports: u64,
    /// The hour of the oldest.
    pub oldest: Timestamp,
}

/// Reports of usage. They are written from closed hours, in one statement, so that each hour's reports add up to its
/// usage; then they are marked as begun, sent, and settled. Whoever does that holds the turn.
pub trait Outbox: Send + Sync {
    /// Takes or renews the turn to report, for `lease`. False when another node has it that runs.
    fn take_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool>;

    /// Writes what is not yet reported of the hours that start in `from..until`, which must be closed, of the tenants
    /// with a subscription that covers them. Returns how many reports that made.
    fn write_reports(&self, metric: Metric, from: Timestamp, until: Timestamp) -> Reply<'_, u64>;

    /// The time, by the clock of billing, and reports that are due at it: the oldest of each tenant, none while an earlier
    /// one of its hour is not done.
    fn due_reports(&self, limit: u32) -> Reply<'_, (Timestamp, Vec<Report>)>;

    /// Marks reports as being sent at `now`, before they are. A report that is `afresh` is known not to have arrived
    /// before.
    fn begin_reports(&self, reports: Vec<(ReportKey, bool)>, now: Timestamp) -> Reply<'_, ()>;

    /// Notes what became of reports that are not done yet.
    fn settle_reports(&self, settled: Vec<Settled>) -> Reply<'_, ()>;

    /// Notes that a report which was sent is not billed. False when it is not known as sent.
    fn reject_report(&self, key: ReportKey, note: String) -> Reply<'_, bool>;

    /// What has arrived of a tenant's hour.
    fn arrived(&self, tenant: TenantId, metric: Metric, window_start: Timestamp) -> Reply<'_, i64>;

    /// The tenant's reports of the hours that start in `from..until` that are for people to settle, oldest first, at most
    /// 1000.
    fn adjustments(&self, tenant: TenantId, from: Timestamp, until: Timestamp) -> Reply<'_, Vec<Report>>;

    /// How many reports are not done, by state, and how many are for people to settle.
    fn open_reports(&self) -> Reply<'_, Vec<ReportCount>>;
}
