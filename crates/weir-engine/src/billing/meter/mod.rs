//! Metering. What was published is counted in the event log itself (`count`), everything else in this node's memory
//! (`tally`) and sent as numbered batches (`flush`); `recount` holds the first against the log again, `report` reads.
//!
//! ```text
//!   log's own order ──▶ count ──▶ position + hours, one transaction ─┐
//!                                                                     ├─▶ usage_hourly ──▶ report, bills
//!   hub, sessions, requests ──▶ tallies ──▶ flush: batch n of node ──┘
//! ```
//! Hours are by the database's clock, which all nodes share; a node's own clock may jump.

mod clock;
mod count;
mod flush;
mod recount;
mod report;
mod tally;

pub use report::{Explained, Explanation, LineId, PieceId, UsageLine, UsageQuery, UsageReport, Window};

use crate::Error;
use crate::figures::{Activity, Counts};
use clock::DatabaseClock;
use count::Counting;
use dashmap::DashMap;
use flush::Flushing;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub(crate) use tally::ConnectionTime;
use tally::Tally;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};
use weir_hub::Meter;
use weir_log::EventLog;
use weir_store::Store;

/// Between two looks at the log, and between two batches.
const EVERY: Duration = Duration::from_secs(1);
/// How long the last batches of a node that stops may take.
const LAST_BATCHES: Duration = Duration::from_secs(5);

/// How usage is kept.
#[derive(Clone, Debug)]
pub struct MeterSettings {
    /// How long the log ranges and batches behind a number are kept.
    pub explain_for: Duration,
    /// Whether closed hours are counted again in the log.
    pub recount: bool,
}

impl Default for MeterSettings {
    fn default() -> Self {
        Self { explain_for: Duration::from_secs(35 * 24 * 3600), recount: true }
    }
}

/// How metering does, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterState {
    /// How far the count of published events is behind, as this node knows.
    pub lag: Duration,
    /// Counters of this node that wait for the database.
    pub unsent: u64,
    /// Age of what this node has told of its use.
    pub flush_lag: Duration,
    /// Since this node started: published events that were gone before they were counted.
    pub lost: u64,
    /// Since this node started: events by which counting again differed.
    pub drift: u64,
    /// Since this node started: events counted in the log.
    pub counted: u64,
}

/// Counts what is published of one project, for those who watch.
pub(crate) struct Published(Arc<Tally>);

impl Published {
    pub(crate) fn add(&self, events: u64) {
        self.0.published.fetch_add(events, Ordering::Relaxed);
    }
}

/// The meters of one node, and its part in counting the log.
pub(crate) struct Metering {
    store: Store,
    log: Arc<dyn EventLog>,
    node: NodeId,
    settings: MeterSettings,
    clock: DatabaseClock,
    tallies: DashMap<(TenantId, ProjectId), Arc<Tally>>,
    flushing: tokio::sync::Mutex<Flushing>,
    unsent: AtomicU64,
    /// Up to when this node's use is told, in microseconds.
    told: AtomicI64,
    counting: Mutex<Counting>,
    lost: AtomicU64,
    drift: AtomicU64,
    counted: AtomicU64,
}

impl Metering {
    /// Looks where counting stands and what time it is.
    pub(crate) async fn new(
        store: Store,
        log: Arc<dyn EventLog>,
        node: NodeId,
        settings: MeterSettings,
    ) -> Result<Self, Error> {
        let positions = store.ledger.positions().await?;
        Ok(Self {
            clock: DatabaseClock::new(positions.now),
            store,
            log,
            node,
            settings,
            tallies: DashMap::new(),
            flushing: tokio::sync::Mutex::default(),
            unsent: AtomicU64::new(0),
            told: AtomicI64::new(positions.now.micros()),
            counting: Mutex::new(Counting::begin(&positions)),
            lost: AtomicU64::new(0),
            drift: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        })
    }

    fn tally(&self, tenant: TenantId, project: ProjectId) -> Arc<Tally> {
        if let Some(tally) = self.tallies.get(&(tenant, project)) {
            return Arc::clone(&tally);
        }
        Arc::clone(&self.tallies.entry((tenant, project)).or_default())
    }

    /// Where the hub counts what it delivers for a project.
    pub(crate) fn meter(&self, tenant: TenantId, project: ProjectId) -> Arc<Meter> {
        Arc::clone(&self.tally(tenant, project).delivered)
    }

    /// Events and bytes delivered so far, by project.
    pub(crate) fn meters(&self) -> Vec<(TenantId, ProjectId, Arc<Meter>)> {
        let meter = |entry: dashmap::mapref::multiple::RefMulti<'_, (TenantId, ProjectId), Arc<Tally>>| {
            let (tenant, project) = *entry.key();
            (tenant, project, Arc::clone(&entry.delivered))
        };
        self.tallies.iter().map(meter).collect()
    }

    /// The time by the database's clock.
    pub(crate) fn now(&self) -> weir_core::Timestamp {
        self.clock.now()
    }

    /// Counts one request; of what belongs to no project the project is nil.
    pub(crate) fn request(&self, tenant: TenantId, project: Option<ProjectId>) {
        let project = project.unwrap_or_else(|| ProjectId::from_uuid(uuid::Uuid::nil()));
        let tally = self.tally(tenant, project);
        tally.requests.fetch_add(1, Ordering::Relaxed);
        tally.requested.fetch_add(1, Ordering::Relaxed);
    }

    /// Where what is published of a project is shown to count.
    pub(crate) fn published(&self, tenant: TenantId, project: ProjectId) -> Published {
        Published(self.tally(tenant, project))
    }

    /// What every project has done here, and its connections.
    pub(crate) fn activity(&self) -> Vec<Activity> {
        let activity = |entry: dashmap::mapref::multiple::RefMulti<'_, (TenantId, ProjectId), Arc<Tally>>| {
            let (tenant, project) = *entry.key();
            let counts = Counts {
                published: entry.published.load(Ordering::Relaxed),
                delivered: entry.delivered.delivered.load(Ordering::Relaxed),
                requests: entry.requested.load(Ordering::Relaxed),
            };
            Activity { tenant, project, counts, connections: u64::from(entry.live()) }
        };
        self.tallies.iter().map(activity).collect()
    }

    /// Counts the time of a connection, until the answer is dropped.
    pub(crate) fn connected(&self, tenant: TenantId, project: ProjectId) -> ConnectionTime {
        ConnectionTime::begin(self.tally(tenant, project))
    }

    /// How it does.
    pub(crate) fn state(&self) -> MeterState {
        MeterState {
            lag: self.clock.now().since(self.counting().complete_until()),
            unsent: self.unsent.load(Ordering::Relaxed),
            flush_lag: self.clock.now().since(Timestamp::from_micros(self.told.load(Ordering::Relaxed))),
            lost: self.lost.load(Ordering::Relaxed),
            drift: self.drift.load(Ordering::Relaxed),
            counted: self.counted.load(Ordering::Relaxed),
        }
    }

    fn counting(&self) -> std::sync::MutexGuard<'_, Counting> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what was counted here, for ever.
    pub(crate) async fn keep_sending(self: Arc<Self>) {
        let mut failing = false;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let sent = self.flush().await;
            report_change(&mut failing, "what was used on this node cannot be written", sent.err());
        }
    }

    /// Counts the log, for ever.
    pub(crate) async fn keep_counting(self: Arc<Self>) {
        let mut failing = false;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let counted = self.count().await;
            report_change(&mut failing, "published events cannot be counted", counted.err());
        }
    }

    /// Sends everything, minutes that have begun included. Nothing may be delivered or connected any more.
    pub(crate) async fn finish(&self) {
        match timeout(LAST_BATCHES, self.flush_last()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the last usage of this node could not be written and is lost: {error}");
            }
            Err(_) => tracing::error!(
                "the last usage of this node was not written within {LAST_BATCHES:?} and is lost"
            ),
        }
    }
}

/// Says once that something began to fail, and once that it works again.
fn report_change(failing: &mut bool, what: &str, error: Option<Error>) {
    match error {
        Some(error) if !*failing => {
            let cause = error.internal.unwrap_or(error.message);
            tracing::warn!(cause, "{what}: {cause}");
            *failing = true;
        }
        None if *failing => {
            tracing::info!("it works again: {what}");
            *failing = false;
        }
        _ => {}
    }
}

/// Whether so much time has passed.
fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}
