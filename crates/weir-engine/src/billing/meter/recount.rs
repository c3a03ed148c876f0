//! Counting closed hours again, in the log itself: what is billed must be what is there.

use super::{EVERY, Metering, is_due};
use crate::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use weir_core::{Pattern, Timestamp};
use weir_log::{LogError, Place, ReadQuery};
use weir_store::UsageRange;

/// Between two looks for hours that have closed.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two times of forgetting what is too old to be explained.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Ranges taken at a time.
const RANGES: usize = 64;
/// After each page that was read: nobody waits for this, and others read the same log.
const PAUSE: Duration = Duration::from_millis(20);

/// A range for which counting again gave another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drift {
    /// Billed and not in the log, or (negative) in the log and not billed.
    pub events: i64,
}

impl Drift {
    /// What counting a range again showed; `None` while it was not done, or the events were gone.
    pub(super) fn of(range: &UsageRange) -> Option<Self> {
        let events = i128::from(range.quantity) - i128::from(range.recounted?);
        Some(Self { events: i64::try_from(events).unwrap_or(i64::MAX) })
    }
}

impl Metering {
    /// Counts closed hours again and forgets old explanations, for ever; one node at a time does.
    pub(crate) async fn keep_recounting(self: Arc<Self>) {
        let (mut looked, mut forgot, mut failing) = (None, None, false);
        loop {
            sleep(EVERY).await;
            if !is_due(looked, LOOK_EVERY) {
                continue;
            }
            looked = Some(Instant::now());
            let done = self.recount_round(&mut forgot).await;
            super::report_change(&mut failing, "closed hours cannot be counted again", done.err());
        }
    }

    async fn recount_round(&self, forgot: &mut Option<Instant>) -> Result<(), Error> {
        let first = self.store.nodes.live().await?.first().map(|node| node.id);
        if first != Some(self.node) {
            return Ok(());
        }
        if is_due(*forgot, FORGET_EVERY) {
            let before = self.clock.now().minus(self.settings.explain_for);
            self.store.ledger.forget_explanations(before).await?;
            *forgot = Some(Instant::now());
        }
        while self.settings.recount && self.recount().await? == RANGES {}
        Ok(())
    }

    /// Counts some ranges again; returns how many there were.
    pub(super) async fn recount(&self) -> Result<usize, Error> {
        let closed = self.store.usage.closed_until().await?.hour();
        let ranges = self.store.ledger.to_recount(closed, RANGES).await?;
        let positions =
            if ranges.is_empty() { Vec::new() } else { self.store.ledger.positions().await?.counted };
        for range in &ranges {
            let live = positions.iter().find(|counted| counted.epoch == range.epoch && counted.live);
            let found = match live {
                Some(counted) => self.count_again(range, &counted.stream).await?,
                None => None,
            };
            let kept = self.store.ledger.recounted(*range, found).await?;
            let checked = UsageRange { recounted: found, ..*range };
            if let Some(Drift { events }) = Drift::of(&checked).filter(|drift| kept && drift.events != 0) {
                self.drift.fetch_add(events.unsigned_abs(), Ordering::Relaxed);
                let (project, hour) = (range.project_id, range.window_start);
                tracing::error!(
                    %project, %hour, billed = range.quantity, found, events,
                    "usage drifted: {} events of {project} were counted in the hour of {hour}, {} are in the log",
                    range.quantity, range.quantity.saturating_add_signed(-events)
                );
            }
        }
        Ok(ranges.len())
    }

    /// The events of the project in the log from the end of the range before up to the end of this one: what nobody
    /// counted shows too. `None` when some of them were trimmed.
    async fn count_again(&self, range: &UsageRange, stream: &str) -> Result<Option<u64>, Error> {
        let before = self.store.ledger.counted_before(*range).await?;
        let place = Place { tenant: range.tenant_id, project: range.project_id, stream: stream.into() };
        let patterns: Arc<[Pattern]> = Arc::new([every_topic()?]);
        let mut after = before.unwrap_or(range.first_sequence.saturating_sub(1));
        let mut found = 0;
        while after < range.last_sequence {
            let query =
                ReadQuery { after, patterns: Arc::clone(&patterns), max_events: 1_000, max_bytes: 4 << 20 };
            let page = match self.log.read(&place, query).await {
                Ok(page) => page,
                Err(LogError::OutOfRange { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            found += page.events.iter().filter(|event| event.sequence <= range.last_sequence).count() as u64;
            if page.at_head || page.through <= after {
                break;
            }
            after = page.through;
            sleep(PAUSE).await;
        }
        Ok(Some(found))
    }
}

fn every_topic() -> Result<Pattern, Error> {
    ">".parse().map_err(Error::internal)
}

/// The hours that a report may call complete.
pub(super) fn is_closed(window_end: Timestamp, closed_until: Timestamp) -> bool {
    window_end <= closed_until
}
