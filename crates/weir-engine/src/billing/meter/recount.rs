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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::MeterSettings;
    use weir_core::event::Headers;
    use weir_core::{Clock, EventId, NodeId, Payload, PlanName, ProjectId, SystemClock, TenantId};
    use weir_log::embedded::{Embedded, Options};
    use weir_log::{EventLog, Record};
    use weir_store::{
        By, Count, CountedRange, CountedTo, Explain, Metric, NewTenant, Overrides, Store, TenantStatus,
    };

    struct World {
        metering: Metering,
        store: Store,
        log: Arc<Embedded>,
        place: Place,
        now: Timestamp,
        _files: tempfile::TempDir,
    }

    impl World {
        async fn start() -> Self {
            let files = tempfile::tempdir().expect("a directory");
            let url = format!("sqlite://{}", files.path().join("weir.db").display());
            let store = weir_store::open(&url, weir_store::Options::default()).await.expect("a store");
            let tenant = NewTenant {
                id: TenantId::new(),
                name: "t".into(),
                plan: PlanName::Pro,
                overrides: Overrides::default(),
                status: TenantStatus::Active,
            };
            let place = Place { tenant: tenant.id, project: ProjectId::new(), stream: "EVENTS".into() };
            let now = SystemClock.now();
            store.tenants.create(tenant, By::new("test", now)).await.expect("a tenant");
            let log = Embedded::open(&Options::new(files.path().join("log"))).expect("a log");
            let (node, settings) = (NodeId::new(), MeterSettings::default());
            let metering =
                Metering::new(store.clone(), log.clone(), node, settings).await.expect("reads the positions");
            Self { metering, store, log, place, now, _files: files }
        }

        /// Appends events that were accepted so many hours ago.
        async fn append(&self, hours: u64, count: usize) {
            let record = |_| Record {
                id: EventId::generate(),
                dedupe: false,
                topic: "t".parse().expect("a topic"),
                payload: Payload::parse(b"1").expect("a payload"),
                kind: None,
                headers: Headers::default(),
                published_at: self.now.minus(Duration::from_secs(3600 * hours)),
            };
            self.log.append(&self.place, (0..count).map(record).collect()).await.expect("appends");
        }

        /// The ranges of the project: how many were counted, and how many when that was done again.
        async fn ranges(&self) -> Vec<(u64, Option<u64>)> {
            let to = self.now.plus(Duration::from_secs(7200));
            let from = self.now.minus(Duration::from_secs(36_000));
            let explain =
                Explain { tenant: self.place.tenant, project: None, from, to, after: None, limit: 99 };
            let ranges = self.store.usage.ranges(explain).await.expect("reads");
            ranges.iter().map(|range| (range.quantity, range.recounted)).collect()
        }

        /// Writes a step that nobody walked.
        async fn invent(&self, moved: u64, ranges: Vec<CountedRange>) {
            let counted = self.store.ledger.positions().await.expect("reads").counted;
            let at = counted.into_iter().next().expect("counting has begun");
            let to = CountedTo { position: at.position + moved, ..at.clone() };
            let step = Count { from: Some(at.position), to, ranges };
            assert!(self.store.ledger.count(step).await.expect("counts"));
        }
    }

    #[tokio::test]
    async fn what_was_billed_wrongly_is_found() {
        let world = World::start().await;
        world.append(4, 10).await;
        world.append(3, 5).await;
        world.append(0, 2).await;
        world.metering.count().await.expect("counts");
        world.metering.recount().await.expect("counts again");
        // The hour of now is not over; should it end during this test, it is right too.
        assert_eq!(world.ranges().await[..2], [(10, Some(10)), (5, Some(5))]);
        assert_eq!(world.metering.state().drift, 0);
        assert_eq!(world.metering.recount().await.expect("has nothing to do"), 0);

        // Counted twice: one too many in a closed hour.
        let hour = world.now.minus(Duration::from_secs(3600 * 3)).hour();
        let again = CountedRange {
            tenant_id: world.place.tenant,
            project_id: world.place.project,
            window_start: hour,
            first_sequence: 11,
            last_sequence: 15,
            quantity: 1,
            bytes: 1,
        };
        world.invent(0, vec![again]).await;
        world.metering.recount().await.expect("counts again");
        assert_eq!(world.ranges().await[1], (6, Some(5)));
        assert_eq!(world.metering.state().drift, 1);
    }

    #[tokio::test]
    async fn what_was_passed_over_is_found() {
        let world = World::start().await;
        world.append(5, 4).await;
        world.metering.count().await.expect("counts");
        // Three events that nobody counts, and then one of which the range is right by itself.
        world.append(4, 3).await;
        world.invent(3, Vec::new()).await;
        let from = world.now.minus(Duration::from_secs(3600 * 3)).hour();
        let last = CountedRange {
            tenant_id: world.place.tenant,
            project_id: world.place.project,
            window_start: from,
            first_sequence: 8,
            last_sequence: 8,
            quantity: 1,
            bytes: 1,
        };
        world.append(3, 1).await;
        world.invent(1, vec![last]).await;
        world.metering.recount().await.expect("counts again");
        assert_eq!(world.ranges().await, [(4, Some(4)), (1, Some(4))]);
        assert_eq!(world.metering.state().drift, 3);
        let total = world.store.usage.total(
            world.place.tenant,
            Metric::EventsPublished,
            Timestamp::default(),
            world.now.plus(Duration::from_secs(7200)),
        );
        assert_eq!(total.await.expect("reads"), 5, "finding changes no number");
    }

    #[tokio::test]
    async fn what_was_trimmed_cannot_be_counted_again_and_is_no_drift() {
        let world = World::start().await;
        world.append(5, 4).await;
        world.append(4, 3).await;
        world.log.trim(&world.place, 2).await.expect("trims");
        // Trimmed before they were counted: they are billed all the same.
        world.metering.count().await.expect("counts");
        world.metering.recount().await.expect("counts again");
        assert_eq!(world.ranges().await, [(4, None), (3, Some(3))]);
        assert_eq!((world.metering.state().drift, world.metering.state().lost), (0, 0));
        assert_eq!(world.metering.recount().await.expect("has nothing to do"), 0);
    }
}
