//! Counting what the log took. Any node may; all may at once: a step moves the position from where it was read or
//! changes nothing.

use super::Metering;
use crate::Error;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_log::{Milestone, Poison, Run, Walked};
use weir_store::dead_letters::PoisonEvent;
use weir_store::{Count, CountedRange, CountedTo, Positions};

/// Another node came to the end of the log this recently: nothing is to be done here.
const RECENT: Duration = Duration::from_millis(700);
/// Steps in one log before the others have their turn.
const STEPS: usize = 200;

/// What this node knows of where counting stands.
#[derive(Default)]
pub(super) struct Counting {
    complete_until: Timestamp,
    /// Which incarnation was found under a stream's name.
    epochs: HashMap<String, u64>,
    /// Incarnations that end before what was counted; said once.
    short: HashSet<u64>,
}

impl Counting {
    pub fn begin(positions: &Positions) -> Self {
        let epochs = positions.counted.iter().filter(|counted| counted.live);
        Self {
            complete_until: complete_until(positions),
            epochs: epochs.map(|counted| (counted.stream.clone(), counted.epoch)).collect(),
            short: HashSet::new(),
        }
    }

    /// Everything acknowledged before this is counted, as far as this node knows.
    pub const fn complete_until(&self) -> Timestamp {
        self.complete_until
    }
}

/// Up to when the logs that are there have been counted. Before the first step nothing is missing.
fn complete_until(positions: &Positions) -> Timestamp {
    let live = positions.counted.iter().filter(|counted| counted.live);
    live.map(|counted| counted.complete_until).min().unwrap_or(positions.now)
}

/// How the walk over one log ended.
enum End {
    /// At its head, or as far as it could be seen.
    Done,
    /// Another node is counting it.
    Others,
}

impl Metering {
    /// Counts what came since the last time, in all logs.
    pub(super) async fn count(&self) -> Result<(), Error> {
        let positions = self.store.ledger.positions().await?;
        self.clock.set(positions.now);
        self.counting().complete_until = complete_until(&positions);
        let live = positions.counted.iter().filter(|counted| counted.live);
        let names: BTreeSet<&String> =
            positions.streams.iter().chain(live.map(|counted| &counted.stream)).collect();
        let mut failed = None;
        for name in names {
            // One log that does not answer does not hold up the others.
            if let Err(error) = self.count_stream(name, &positions).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn count_stream(&self, name: &str, positions: &Positions) -> Result<(), Error> {
        let stream: Arc<str> = name.into();
        let epoch = self.counting().epochs.get(name).copied();
        let known = |epoch: u64| positions.counted.iter().find(|counted| counted.epoch == epoch);
        let mut at = epoch.and_then(known).cloned();
        if at.as_ref().is_some_and(|at| at.live && positions.now.since(at.complete_until) < RECENT) {
            return Ok(());
        }
        for _ in 0..STEPS {
            // Before the walk: what is acknowledged until now, it will find.
            let now = self.clock.now();
            let after = at.as_ref().map(|at| Milestone { epoch: at.epoch, number: at.position });
            let Some(walked) = self.log.walk(&stream, after).await? else {
                return self.ended(at).await;
            };
            let epoch = walked.through.epoch;
            if at.as_ref().is_none_or(|at| at.epoch != epoch) {
                self.counting().epochs.insert(name.to_owned(), epoch);
                let found = known(epoch).cloned();
                self.ended(at.filter(|at| at.stream == name)).await?;
                at = Some(match found {
                    Some(found) => found,
                    None => match self.begin(name, epoch, positions).await? {
                        Some(begun) => begun,
                        None => return Ok(()),
                    },
                });
                continue;
            }
            let Some(from) = at else { return Ok(()) };
            match self.step(from, walked, now).await? {
                (next, None) => at = Some(next),
                (_, Some(End::Done | End::Others)) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Adds one page.
    async fn step(
        &self,
        from: CountedTo,
        walked: Walked,
        now: Timestamp,
    ) -> Result<(CountedTo, Option<End>), Error> {
        let (at_head, before) = (walked.at_head(), from.position);
        if walked.head < before && self.counting().short.insert(from.epoch) {
            tracing::error!(
                stream = from.stream,
                "the log {} ends at {} and was counted up to {before}: it lost its end or is an old copy; \
                 what it takes up to there is not counted",
                from.stream,
                walked.head
            );
        }
        if walked.lost > 0 {
            self.lost.fetch_add(walked.lost, Ordering::Relaxed);
            tracing::error!(
                lost = walked.lost,
                "{} events of {} were gone from the log before they were counted",
                walked.lost,
                from.stream
            );
        }
        // The copy first: once the position has passed it, nobody looks there again.
        if !walked.poison.is_empty() {
            let poison = walked.poison.iter().map(|one| poisoned(&from, one)).collect();
            self.store.dead_letters.bury(poison, now).await?;
        }
        let (to, ranges) = fold(&from, &walked, now);
        let (next, events) = (to.clone(), ranges.iter().map(|range| range.quantity).sum());
        if !self.store.ledger.count(Count { from: Some(before), to, ranges }).await? {
            return Ok((next, Some(End::Others)));
        }
        self.counted.fetch_add(events, Ordering::Relaxed);
        // A replica that lags shows less than there is; the next look is soon enough.
        let end = at_head || next.position == before;
        Ok((next, end.then_some(End::Done)))
    }

    /// Notes an incarnation that was not known; `None` when another node did.
    async fn begin(
        &self,
        stream: &str,
        epoch: u64,
        positions: &Positions,
    ) -> Result<Option<CountedTo>, Error> {
        // Hours that are closed stay closed, even if the log was filled before anybody looked.
        let live = positions.counted.iter().filter(|counted| counted.live);
        let reached = live.map(|counted| counted.complete_until.hour()).min().unwrap_or_default();
        let (stream, complete_until) = (stream.to_owned(), Timestamp::default());
        let to = CountedTo { epoch, stream, position: 0, reached, complete_until, lost: 0, live: true };
        let begun = self.store.ledger.count(Count { from: None, to: to.clone(), ranges: Vec::new() }).await?;
        if begun {
            tracing::info!(epoch, "counting the log {} from its beginning", to.stream);
        }
        Ok(begun.then_some(to))
    }

    /// Notes that an incarnation is not there any more.
    async fn ended(&self, at: Option<CountedTo>) -> Result<(), Error> {
        let Some(at) = at.filter(|at| at.live) else { return Ok(()) };
        tracing::warn!(
            stream = at.stream,
            "the log {} that was counted up to {} is gone or was made anew",
            at.stream,
            at.position
        );
        let from = Some(at.position);
        let to = CountedTo { live: false, ..at };
        self.store.ledger.count(Count { from, to, ranges: Vec::new() }).await?;
        Ok(())
    }
}

fn poisoned(from: &CountedTo, one: &Poison) -> PoisonEvent {
    PoisonEvent {
        tenant: one.tenant,
        project: one.project,
        topic: one.topic.clone(),
        stream: from.stream.clone(),
        epoch: from.epoch,
        sequence: one.sequence,
        failure: "it stands in the event log and is no event: something else than Weir wrote it".to_owned(),
        body: one.body.to_vec(),
    }
}

/// What a walk adds. An event counts in the hour in which it was accepted, as its node's clock said, but never
/// - later than now by the database's clock, or
/// - earlier than what was already known to be counted, or than the events before it in the log.
///
/// So an hour that is closed stays as it is, a project's hours are rows of events that follow on each other, and a clock
/// that is an hour or ninety days wrong moves nothing beyond the time in which the event was really appended.
fn fold(from: &CountedTo, walked: &Walked, now: Timestamp) -> (CountedTo, Vec<CountedRange>) {
    let now = now.max(from.complete_until);
    let mut reached = from.reached.max(from.complete_until.hour());
    let latest = now.hour().max(reached);
    let mut ranges: BTreeMap<(TenantId, ProjectId, Timestamp), CountedRange> = BTreeMap::new();
    for run in &walked.runs {
        reached = run.hour.clamp(reached, latest);
        let Run { tenant, project, first, last, events, bytes, .. } = *run;
        let range = ranges.entry((tenant, project, reached)).or_insert(CountedRange {
            tenant_id: tenant,
            project_id: project,
            window_start: reached,
            first_sequence: first,
            last_sequence: last,
            quantity: 0,
            bytes: 0,
        });
        range.last_sequence = last;
        range.quantity += events;
        range.bytes = range.bytes.saturating_add(bytes);
    }
    let to = CountedTo {
        position: walked.through.number,
        reached,
        complete_until: if walked.at_head() { now } else { from.complete_until },
        lost: from.lost.saturating_add(walked.lost),
        live: true,
        ..from.clone()
    };
    (to, ranges.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64, seconds: i64) -> Timestamp {
        Timestamp::from_seconds((490_000 + hours) * HOUR + seconds)
    }

    fn counted_to(reached: Timestamp, complete_until: Timestamp) -> CountedTo {
        CountedTo { epoch: 1, stream: "E".into(), position: 0, reached, complete_until, lost: 0, live: true }
    }

    /// Single events of one project, accepted at these hours.
    fn walked(hours: &[i64], head: u64) -> Walked {
        let (tenant, project) = (TenantId::new(), ProjectId::new());
        let run = |(sequence, hour): (u64, &i64)| {
            let hour = at(*hour, 0).hour();
            Run { tenant, project, hour, first: sequence, last: sequence, events: 1, bytes: 7 }
        };
        let runs = (1..).zip(hours).map(run).collect();
        let through = Milestone { epoch: 1, number: hours.len() as u64 };
        Walked { runs, through, head, lost: 0, poison: Vec::new() }
    }

    fn told(ranges: &[CountedRange]) -> Vec<(i64, u64)> {
        let hour = |range: &CountedRange| range.window_start.seconds() / HOUR - 490_000;
        ranges.iter().map(|range| (hour(range), range.quantity)).collect()
    }

    #[test]
    fn events_count_in_their_hour() {
        let from = counted_to(at(-5, 0), at(-3, 10));
        let (to, ranges) = fold(&from, &walked(&[-3, -2, -2, 0], 4), at(0, 30));
        assert_eq!(told(&ranges), [(-3, 1), (-2, 2), (0, 1)]);
        assert_eq!((to.position, to.reached, to.complete_until), (4, at(0, 0), at(0, 30)));
        let (to, _) = fold(&from, &walked(&[-3], 2), at(0, 30));
        assert_eq!(to.complete_until, from.complete_until, "there is more");
    }

    /// Nodes whose clocks are an hour ahead, an hour behind, ninety days behind and ten years ahead.
    #[test]
    fn wrong_clocks_move_nothing_out_of_the_time_between_two_looks() {
        let from = counted_to(at(0, 0), at(0, 100));
        let wrong = walked(&[1, -1, -2160, 87_600, 0], 5);
        let (to, ranges) = fold(&from, &wrong, at(0, 101));
        assert_eq!(told(&ranges), [(0, 5)]);
        assert_eq!(to.reached, at(0, 0));
        // Over the end of an hour only what the database's clock allows.
        let (_, ranges) = fold(&from, &wrong, at(1, 1));
        assert_eq!(told(&ranges), [(1, 5)]);
        let (_, ranges) = fold(&from, &walked(&[0, 0, 1, 0, 1], 5), at(1, 1));
        assert_eq!(told(&ranges), [(0, 2), (1, 3)], "what follows is not earlier");
    }

    /// The database's own clock goes back: nothing is put into closed hours, and no time is taken back.
    #[test]
    fn the_databases_clock_may_jump_too() {
        let from = counted_to(at(0, 0), at(0, 100));
        for now in [at(-1, 0), at(-2160, 0)] {
            let (to, ranges) = fold(&from, &walked(&[0, 1, -1], 3), now);
            assert_eq!(told(&ranges), [(0, 3)]);
            assert_eq!(to.complete_until, from.complete_until);
        }
    }

    proptest! {
        /// Whatever the clocks say: every event counts once, hours never go back, nothing falls before what is complete,
        /// and each range holds exactly the events between its ends.
        #[test]
        fn ranges_are_disjoint_and_complete(
            pages in proptest::collection::vec(
                (proptest::collection::vec(-5_i64..6, 0..12), -4000_i64..20_000, any::<bool>()), 1..8),
        ) {
            let mut counted = counted_to(Timestamp::default(), at(-2, 0));
            let (mut last, mut total) = (0, 0);
            for (hours, now, at_head) in pages {
                let mut page = walked(&hours, 0);
                for run in &mut page.runs {
                    (run.first, run.last) = (run.first + total, run.last + total);
                }
                page.through.number += total;
                page.head = page.through.number + u64::from(!at_head);
                total += hours.len() as u64;
                let (to, ranges) = fold(&counted, &page, at(0, now));
                prop_assert_eq!(ranges.iter().map(|r| r.quantity).sum::<u64>(), hours.len() as u64);
                for range in ranges {
                    prop_assert_eq!(range.first_sequence, last + 1);
                    prop_assert_eq!(range.last_sequence - range.first_sequence + 1, range.quantity);
                    prop_assert_eq!(range.bytes, 7 * range.quantity);
                    prop_assert!(range.window_start >= counted.complete_until.hour());
                    prop_assert!(range.window_start >= counted.reached);
                    last = range.last_sequence;
                }
                prop_assert!(to.reached >= counted.reached && to.complete_until >= counted.complete_until);
                prop_assert_eq!(to.position, total);
                counted = to;
            }
        }
    }
}
