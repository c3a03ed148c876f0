//! Retention: what is older, or more, than a tenant's limits allow goes; what deleted projects leave is erased.
//!
//! ```text
//!   counting ──▶ log_storage, log_marks ──▶ review ──▶ cut ──▶ floor in the database ──▶ EventLog::trim
//!   (what is kept of each project)         (limits)  (where)    (so that a death here
//!                                                                forgets nothing)
//!   deleted projects ──▶ EventLog::erase ──▶ their rows ──▶ EventLog::shred
//! ```
//! One node at a time has the turn. Should two work at once all the same, nothing happens twice: floors only rise, and
//! what is noted of them is what was counted.

mod cut;
mod erase;
mod review;

pub use review::Kept;

use crate::Error;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_core::{Clock, NodeId};
use weir_log::{EventLog, Place};
use weir_store::{Store, Stored};

/// For how long the turn lasts when its node is gone.
const LEASE: Duration = Duration::from_secs(60);
/// Tenants that are looked at before the turn is renewed, and how often that is in one pass.
const TENANTS: u32 = 100;
const ROUNDS: usize = 10;
/// A tenant for which something failed is looked at again after this time, and others come first.
const AGAIN: Duration = Duration::from_secs(30);
/// Floors that the log is told again at once.
const TELLING: usize = 16;

/// How retention works.
#[derive(Clone, Debug)]
pub struct RetentionSettings {
    /// Between two looks.
    pub interval: Duration,
    /// No event is kept longer, whatever a plan says.
    pub max_age: Option<Duration>,
    /// How long after its deletion a project is erased.
    pub erase_after: Duration,
    /// Between two rewritings of the log's files without what was erased.
    pub shred_interval: Duration,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            max_age: None,
            erase_after: Duration::from_secs(60),
            shred_interval: Duration::from_secs(3600),
        }
    }
}

/// The background work.
pub(crate) struct Retention {
    store: Store,
    log: Arc<dyn EventLog>,
    node: NodeId,
    clock: Arc<dyn Clock>,
    settings: RetentionSettings,
    /// This node had the turn at the last pass.
    had_turn: AtomicBool,
    shredded: std::sync::Mutex<Option<Instant>>,
}

impl Retention {
    pub(crate) const fn new(
        store: Store,
        log: Arc<dyn EventLog>,
        node: NodeId,
        clock: Arc<dyn Clock>,
        settings: RetentionSettings,
    ) -> Self {
        let (had_turn, shredded) = (AtomicBool::new(false), std::sync::Mutex::new(None));
        Self { store, log, node, clock, settings, had_turn, shredded }
    }

    /// Works for ever.
    pub(crate) async fn run(self) {
        let mut tick = interval(self.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let outcome = self.pass().await;
            if let Err(error) = &outcome
                && !failing
            {
                let cause = error.internal.as_ref().unwrap_or(&error.message);
                tracing::warn!(cause, "retention cannot be enforced: {cause}");
            }
            failing = outcome.is_err();
        }
    }

    /// Does what is due, if the turn is this node's.
    async fn pass(&self) -> Result<(), Error> {
        if !self.store.storage.take_turn(self.node, LEASE).await? {
            self.had_turn.store(false, Ordering::Relaxed);
            return Ok(());
        }
        if !self.had_turn.load(Ordering::Relaxed) {
            self.tell_again().await?;
            self.had_turn.store(true, Ordering::Relaxed);
        }
        for _ in 0..ROUNDS {
            let due = self.store.storage.due(self.clock.now(), TENANTS).await?;
            if due.is_empty() {
                break;
            }
            for tenant in due {
                if let Err(error) = self.review(tenant).await {
                    let cause = error.internal.unwrap_or(error.message);
                    tracing::warn!(%tenant, cause, "retention of a tenant cannot be enforced just now: {cause}");
                    self.look_later(tenant, AGAIN).await?;
                }
            }
            if !self.store.storage.take_turn(self.node, LEASE).await? {
                return Ok(());
            }
        }
        self.erase_deleted().await
    }

    /// Tells the log every floor again. Whoever had the turn may have died between writing a floor down and telling the
    /// log, or before the log gave the room back.
    async fn tell_again(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let floors = self.store.storage.floors(after, 1000).await?;
            let Some(last) = floors.last() else { return Ok(()) };
            after = Some((last.project_id, last.epoch));
            let telling = floors.iter().map(|floor| async move {
                let told = self.log.trim(&place(floor), floor.floor_sequence).await;
                told.inspect_err(|error| {
                    tracing::warn!(project = %floor.project_id, %error, "a floor could not be told: {error}");
                })
            });
            let telling: Vec<_> = telling.collect();
            futures::stream::iter(telling).buffer_unordered(TELLING).collect::<Vec<_>>().await;
        }
    }
}

/// Where the events are that something is stored of.
fn place(stored: &Stored) -> Place {
    let Stored { tenant_id, project_id, stream, .. } = stored;
    Place { tenant: *tenant_id, project: *project_id, stream: stream.as_str().into() }
}
