//! Reading history page by page: the REST replay, and the permits that bound all reading of the log.

use crate::engine::Engine;
use crate::resume::{self, Gap, Start};
use crate::{Caller, Error};
use dashmap::DashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_core::{Cursor, Event, Pattern, Position, TenantId};
use weir_log::{LogError, Place, ReadQuery, TopicHead};

/// A page that has found nothing for so long is returned empty, to be read on from: others wait for the
/// permit.
const PATIENCE: Duration = Duration::from_secs(1);

/// A page of history.
#[derive(Clone, Debug)]
pub struct ReplayPage {
    /// The events in order, each with its cursor.
    pub events: Vec<(Arc<Event>, String)>,
    /// Read on after this.
    pub next_cursor: String,
    /// False when the page ends at the newest event.
    pub has_more: bool,
    /// What is missing before the first event of the page.
    pub gap: Option<Gap>,
}

/// Bounds how many replays read the log at once, of one tenant and of all; others wait their turn.
pub(crate) struct Permits {
    by_tenant: DashMap<TenantId, Arc<Semaphore>>,
    node: Arc<Semaphore>,
    total: usize,
}

/// The right to read one page.
pub(crate) type Permit = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Permits {
    pub(crate) fn new(on_this_node: usize) -> Self {
        let total = on_this_node.max(1);
        Self { by_tenant: DashMap::new(), node: Arc::new(Semaphore::new(total)), total }
    }

    /// The tenant's permit comes first: those of one tenant wait for each other before they take a place
    /// that another tenant could use.
    pub(crate) async fn acquire(&self, caller: &Caller) -> Result<Permit, Error> {
        self.take(caller.place.tenant, caller.limits.concurrent_replays).await
    }

    async fn take(&self, tenant: TenantId, at_once: u32) -> Result<Permit, Error> {
        let fresh = || Arc::new(Semaphore::new(at_once.max(1) as usize));
        let tenant = Arc::clone(&self.by_tenant.entry(tenant).or_insert_with(fresh));
        let tenant = tenant.acquire_owned().await.map_err(Error::internal)?;
        let node = Arc::clone(&self.node).acquire_owned().await.map_err(Error::internal)?;
        Ok((tenant, node))
    }

    /// Replays that read now.
    pub(crate) fn in_use(&self) -> u64 {
        self.total.saturating_sub(self.node.available_permits()) as u64
    }

    /// Forgets tenants that are not reading.
    pub(crate) fn sweep(&self) {
        self.by_tenant.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
    }
}

impl Engine {
    /// One page of history of the topics that match.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `INVALID_CURSOR`, `EVENT_LOG_UNAVAILABLE`.
    pub async fn replay(
        &self,
        caller: &Caller,
        patterns: Vec<Pattern>,
        start: Start,
        limit: usize,
    ) -> Result<ReplayPage, Error> {
        self.access.require_fresh()?;
        caller.may_subscribe(&patterns)?;
        let _permit = self.replays.acquire(caller).await?;
        let resolved = resume::resolve(&*self.log, &self.cursors, &caller.place, &start).await?;
        let (mut at, mut gap) = (resolved.after, resolved.gap);
        let patterns: Arc<[Pattern]> = patterns.into();
        let begun = Instant::now();
        loop {
            let query = ReadQuery {
                after: at.sequence,
                patterns: Arc::clone(&patterns),
                max_events: limit.clamp(1, self.settings.replay_page_events),
                max_bytes: self.settings.replay_page_bytes,
            };
            match self.log.read(&caller.place, query).await {
                Ok(page) => {
                    at.sequence = page.through;
                    if page.events.is_empty() && !page.at_head && begun.elapsed() < PATIENCE {
                        continue; // A stretch without a match: progress, but nothing to show yet.
                    }
                    let next = self.position_after(&caller.place, at, page.events.last()).await?;
                    let cursor =
                        |position| self.cursors.encode(&Cursor { project: caller.place.project, position });
                    let events = page.events.into_iter().map(|event| {
                        let text = cursor(event.position(at.epoch));
                        (event, text)
                    });
                    return Ok(ReplayPage {
                        events: events.collect(),
                        next_cursor: cursor(next),
                        has_more: !page.at_head,
                        gap,
                    });
                }
                Err(LogError::OutOfRange { floor }) if floor > at.sequence => {
                    gap = Some(trimmed(gap, at.sequence, floor));
                    at.sequence = floor;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The position `at`, with the check that belongs to it.
    async fn position_after(
        &self,
        place: &Place,
        at: Position,
        last: Option<&Arc<Event>>,
    ) -> Result<Position, Error> {
        if let Some(event) = last.filter(|event| event.sequence == at.sequence) {
            return Ok(event.position(at.epoch));
        }
        let check = self.log.inspect(place, at.sequence).await?.check.unwrap_or(0);
        Ok(Position { check, ..at })
    }

    /// Topics that were published to, in the order of their names, with their newest events.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `EVENT_LOG_UNAVAILABLE`.
    pub async fn topics(
        &self,
        caller: &Caller,
        after: Option<&weir_core::Topic>,
        limit: usize,
    ) -> Result<Vec<(TopicHead, String)>, Error> {
        self.access.require_fresh()?;
        caller.may_subscribe(&[Pattern::all()])?;
        let (mut heads, mut after) = (Vec::new(), after.cloned());
        // The server's own are named in the documentation, and not among those that were published to.
        while heads.len() < limit {
            let wanted = limit - heads.len();
            let found = self.log.topics(&caller.place, after.as_ref(), wanted).await?;
            let is_last = found.len() < wanted;
            after = found.last().map(|head| head.topic.clone());
            heads.extend(found.into_iter().filter(|head| !head.topic.is_system()));
            if is_last {
                break;
            }
        }
        let project = caller.place.project;
        Ok(heads
            .into_iter()
            .map(|head| {
                let cursor = self.cursors.encode(&Cursor { project, position: head.head });
                (head, cursor)
            })
            .collect())
    }
}

/// A trim overtook the reader: the gap it already had grows to the new floor.
pub(crate) fn trimmed(gap: Option<Gap>, at: u64, floor: u64) -> Gap {
    let from = gap.map_or(at + 1, |gap| gap.from.min(at + 1));
    let reason = gap.map_or(resume::GapReason::Expired, |gap| gap.reason);
    Gap { reason, from, to: floor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn so_many_read_at_once_and_the_others_wait_their_turn() {
        let permits = Permits::new(5);
        let (tenant, other) = (TenantId::new(), TenantId::new());
        let mut reading = Vec::new();
        for _ in 0..3 {
            reading.push(permits.take(tenant, 3).now_or_never().expect("there is room").expect("open"));
        }
        // The tenant waits for itself, and takes no place of the node meanwhile.
        let mut fourth = Box::pin(permits.take(tenant, 3));
        assert!(futures::poll!(&mut fourth).is_pending());
        for _ in 0..2 {
            reading.push(permits.take(other, 3).now_or_never().expect("there is room").expect("open"));
        }
        // Now the node is full, whoever asks.
        assert!(permits.take(TenantId::new(), 3).now_or_never().is_none());
        drop(reading.pop());
        assert!(futures::poll!(&mut fourth).is_pending(), "another tenant's turn is not this one's");
        drop(reading.remove(0));
        assert!(fourth.now_or_never().is_some());
        drop(reading);
        permits.sweep();
        assert_eq!(permits.by_tenant.len(), 0);
    }
}
