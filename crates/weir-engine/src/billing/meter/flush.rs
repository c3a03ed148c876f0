//! Batches: what the tallies counted, in numbered pieces that the database takes once each.

use super::tally::Taken;
use super::{Metering, is_due};
use crate::Error;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_store::{Batch, Counted, Metric, StoreError};

/// Counters in one batch: a transaction of some hundred milliseconds at most.
const BATCH: usize = 5_000;
/// Counters that wait for the database, at most. Beyond that they stay in the tallies, which do not grow: nothing is
/// lost, but the hour that it belongs to is told later than it was.
const WAITING: usize = 200_000;
/// A node that has nothing to tell says so this often, so that hours close.
const STILL_HERE: Duration = Duration::from_secs(10);
/// Tallies kept for projects that are idle here.
const IDLE_TALLIES: usize = 50_000;

/// What is on its way to the database.
#[derive(Default)]
pub(super) struct Flushing {
    /// Batches that were taken.
    taken: u64,
    /// Sent, perhaps taken, not known to be: sent again as it is until an answer comes.
    in_flight: Option<Batch>,
    /// For the next one.
    waiting: BTreeMap<(TenantId, ProjectId, Metric, Timestamp), u64>,
    /// What was counted before this is in `waiting`, in flight or taken.
    gathered: Timestamp,
    /// What was counted before this is in flight or taken.
    told: Timestamp,
    sent_at: Option<tokio::time::Instant>,
}

impl Flushing {
    fn add(&mut self, of: (TenantId, ProjectId), hour: Timestamp, taken: Taken) {
        let counters = [
            (Metric::EventsDelivered, taken.delivered),
            (Metric::ApiRequests, taken.requests),
            (Metric::WebsocketMinutes, taken.minutes),
        ];
        for (metric, quantity) in counters.into_iter().filter(|(_, quantity)| *quantity > 0) {
            let counter = self.waiting.entry((of.0, of.1, metric, hour)).or_default();
            *counter = counter.saturating_add(quantity);
        }
    }

    /// Whether the tallies are to be emptied now: when the next batch can go, and before an hour's use would be told as
    /// the next one's.
    fn wants_more(&self, now: Timestamp) -> bool {
        let new_hour = self.gathered.hour() != now.hour();
        self.in_flight.is_none() || (new_hour && self.waiting.len() < WAITING)
    }

    /// Makes the next batch, if there is something to say.
    fn next(&mut self, metering: &Metering) -> Option<&Batch> {
        if self.in_flight.is_none() && (!self.waiting.is_empty() || is_due(self.sent_at, STILL_HERE)) {
            let mut counted = Vec::with_capacity(self.waiting.len().min(BATCH));
            while counted.len() < BATCH
                && let Some(((tenant_id, project_id, metric, at), quantity)) = self.waiting.pop_first()
            {
                counted.push(Counted { tenant_id, project_id, metric, at, quantity });
            }
            if self.waiting.is_empty() {
                self.told = self.gathered;
            }
            self.in_flight =
                Some(Batch { node: metering.node, number: self.taken + 1, until: self.told, counted });
        }
        self.in_flight.as_ref()
    }

    fn unsent(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |batch| batch.counted.len())
    }
}

impl Metering {
    /// Sends what has come together.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let mut flushing = self.flushing.lock().await;
        self.gather(&mut flushing, false);
        self.send(&mut flushing).await
    }

    /// Sends everything, with what is left of minutes rounded.
    pub(super) async fn flush_last(&self) -> Result<(), Error> {
        let mut flushing = self.flushing.lock().await;
        self.send(&mut flushing).await?;
        self.gather(&mut flushing, true);
        self.send(&mut flushing).await
    }

    /// Empties the tallies into the next batch.
    fn gather(&self, flushing: &mut Flushing, last: bool) {
        let (now, instant) = (self.clock.now(), Instant::now());
        if !flushing.wants_more(now) {
            return;
        }
        // In the hour in which counting it began. That one is not closed before this is told.
        let hour = if flushing.gathered == Timestamp::default() { now } else { flushing.gathered }.hour();
        for entry in &self.tallies {
            flushing.add(*entry.key(), hour, entry.take(instant, last));
        }
        flushing.gathered = flushing.gathered.max(now);
        if self.tallies.len() > IDLE_TALLIES {
            self.tallies.retain(|_, tally| Arc::strong_count(tally) > 1 || !tally.is_empty());
        }
    }

    async fn send(&self, flushing: &mut Flushing) -> Result<(), Error> {
        loop {
            let batch = flushing.next(self).cloned();
            self.unsent.store(flushing.unsent() as u64, Ordering::Relaxed);
            let Some(batch) = batch else { return Ok(()) };
            let until = batch.until;
            match self.store.usage.record(batch).await {
                // False says that it was taken the first time, and the answer was lost.
                Ok(_) => {}
                // It can never be taken: holding on to it would hold up everything behind it.
                Err(error @ StoreError::Invalid(_)) => {
                    tracing::error!(%error, "a batch of usage was refused and is lost: {error}");
                }
                Err(error) => return Err(error.into()),
            }
            self.told.fetch_max(until.micros(), Ordering::Relaxed);
            flushing.taken += 1;
            flushing.in_flight = None;
            flushing.sent_at = Some(tokio::time::Instant::now());
        }
    }
}
