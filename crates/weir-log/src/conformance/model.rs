//! Random sequences of operations, held step by step against a log that is a `Vec`.

use super::{Backend, Walker, accepted, append, named, query, read_through, record};
use crate::{EventLog, LogError, Outcome, Place, ReadQuery, Record, TopicHead};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use weir_core::event::check;
use weir_core::{EventId, Pattern, Timestamp, Topic};

const TOPICS: [&str; 6] = ["a", "a.b", "a.c", "b", "b.c.d", "c"];
const PATTERNS: [&[&str]; 6] = [&[">"], &["a"], &["a.*"], &["*", "b.>"], &["c", "a.b"], &["none"]];
const IDS: [&str; 5] = ["id-0", "id-1", "id-2", "id-3", "id-4"];

/// One record to be: topic, payload and publisher's id, as indexes.
type Draft = (usize, u8, Option<usize>);

#[derive(Clone, Debug)]
enum Op {
    Append { place: usize, drafts: Vec<Draft> },
    Read { place: usize, after: f64, patterns: usize, max_events: usize, max_bytes: usize },
    Inspect { place: usize, at: f64 },
    Topics { place: usize, after: Option<usize>, limit: usize },
    Trim { place: usize, through: f64 },
    Pass,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let draft = (0..TOPICS.len(), 0..3_u8, proptest::option::weighted(0.4, 0..IDS.len()));
    let bytes = prop_oneof![Just(1_usize), Just(700), Just(1 << 20)];
    prop_oneof![
        8 => (0..2_usize, proptest::collection::vec(draft, 1..8))
            .prop_map(|(place, drafts)| Op::Append { place, drafts }),
        6 => (0..2_usize, 0.0..1.1, 0..PATTERNS.len(), 1..9_usize, bytes)
            .prop_map(|(place, after, patterns, max_events, max_bytes)| Op::Read {
                place, after, patterns, max_events, max_bytes
            }),
        3 => (0..2_usize, 0.0..1.1).prop_map(|(place, at)| Op::Inspect { place, at }),
        2 => (0..2_usize, proptest::option::of(0..TOPICS.len()), 1..5_usize)
            .prop_map(|(place, after, limit)| Op::Topics { place, after, limit }),
        2 => (0..2_usize, 0.0..0.8).prop_map(|(place, through)| Op::Trim { place, through }),
        1 => Just(Op::Pass),
        1 => Just(Op::Reopen),
    ]
}

struct Stored {
    sequence: u64,
    previous: u64,
    record: Record,
}

impl Stored {
    fn check(&self) -> u32 {
        check(&self.record.id, self.record.published_at)
    }
}

/// What one project should be.
#[derive(Default)]
struct Model {
    events: Vec<Stored>,
    floor: u64,
    /// Publisher's ids: index into `events` of the first use.
    ids: HashMap<EventId, usize>,
}

impl Model {
    fn retained(&self) -> impl Iterator<Item = &Stored> {
        self.events.iter().filter(|stored| stored.sequence > self.floor)
    }

    fn head(&self) -> u64 {
        self.events.last().map_or(0, |stored| stored.sequence)
    }

    /// The sequence at a fraction of the log; above 1.0 beyond the head.
    fn pick(&self, fraction: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let picked = (self.head() as f64 * fraction) as u64;
        picked
    }

    /// The first use of the id that still counts.
    fn first<B: Backend>(&self, backend: &B, id: &EventId, now: Timestamp) -> Option<&Stored> {
        let first = &self.events[*self.ids.get(id)?];
        (now.since(first.record.published_at) < backend.dedupe_window()).then_some(first)
    }

    /// Real records for the drafts. What became of an id whose first event was trimmed is left open
    /// by the contract, so such ids are replaced.
    fn records<B: Backend>(&self, backend: &B, drafts: &[Draft]) -> Vec<Record> {
        let now = backend.now();
        let make = |(topic, payload, id): &Draft| {
            let payload = payload.to_string();
            let id = id.map(|id| IDS[id]).filter(|id| {
                let id = id.parse().expect("an id");
                self.first(backend, &id, now).is_none_or(|first| first.sequence > self.floor)
            });
            match id {
                Some(id) => named(id, TOPICS[*topic], &payload, now),
                None => record(TOPICS[*topic], &payload, now),
            }
        };
        drafts.iter().map(make).collect()
    }

    /// Judges one outcome and, if the record was new, keeps it.
    fn apply<B: Backend>(&mut self, backend: &B, record: Record, outcome: Outcome) {
        let known = self.first(backend, &record.id, record.published_at).filter(|_| record.dedupe);
        if let Some(first) = known {
            let body = |r: &Record| (r.topic.clone(), r.payload.clone());
            if body(&first.record) == body(&record) {
                let appended = accepted(outcome);
                assert!(appended.duplicate, "a repetition was stored");
                assert_eq!(appended.position.sequence, first.sequence);
                assert_eq!(appended.published_at, first.record.published_at);
            } else {
                assert_eq!(outcome, Outcome::Conflict);
            }
            return;
        }
        let appended = accepted(outcome);
        assert!(!appended.duplicate, "a new record was taken for a repetition");
        let sequence = appended.position.sequence;
        assert!(sequence > self.head(), "{sequence} after {}", self.head());
        let before = self.retained().filter(|stored| stored.record.topic == record.topic).last();
        let previous = before.map_or(0, |stored| stored.sequence);
        if record.dedupe {
            self.ids.insert(record.id.clone(), self.events.len());
        }
        self.events.push(Stored { sequence, previous, record });
        assert_eq!(appended.position.check, self.events[self.events.len() - 1].check());
    }

    fn topics(&self, after: Option<&Topic>, limit: usize, epoch: u64) -> Vec<TopicHead> {
        let newest: BTreeMap<&Topic, &Stored> = self.retained().map(|s| (&s.record.topic, s)).collect();
        let heads = newest.into_iter().filter(|(topic, _)| after.is_none_or(|after| *topic > after));
        let head = |(topic, stored): (&Topic, &Stored)| TopicHead {
            topic: topic.clone(),
            head: weir_core::Position { epoch, sequence: stored.sequence, check: stored.check() },
            published_at: stored.record.published_at,
        };
        heads.take(limit).map(head).collect()
    }

    /// The sequence of the event before on the same topic, trimmed or not; 0 for the first.
    fn before(&self, event: &Stored) -> u64 {
        let is_before =
            |other: &&Stored| other.sequence < event.sequence && other.record.topic == event.record.topic;
        self.events.iter().rev().find(is_before).map_or(0, |other| other.sequence)
    }

    async fn check_read(&self, log: &dyn EventLog, place: &Place, query: ReadQuery) {
        let after = query.after;
        let patterns: Vec<Pattern> = query.patterns.to_vec();
        let read = read_through(log, place, query).await;
        if after < self.floor {
            let refused = matches!(read, Err(LogError::OutOfRange { floor }) if floor == self.floor);
            assert!(refused, "a read after {after} under the floor {}: {read:?}", self.floor);
            return;
        }
        let wanted =
            |s: &&Stored| s.sequence > after && patterns.iter().any(|p| p.matches(s.record.topic.as_str()));
        let expected: Vec<_> = self.retained().filter(wanted).collect();
        let read = read.expect("read");
        let found: Vec<_> = read.iter().map(|event| (event.sequence, &event.id)).collect();
        let stored: Vec<_> = expected.iter().map(|s| (s.sequence, &s.record.id)).collect();
        assert_eq!(found, stored);
        for (event, stored) in read.iter().zip(expected) {
            assert_eq!((&event.topic, &event.payload), (&stored.record.topic, &stored.record.payload));
            assert_eq!(event.published_at, stored.record.published_at);
            // The event before may be gone by now, and may have been gone, though still there to be found, when this one
            // was appended: then naming it and naming none are both right.
            let before = self.before(stored);
            let is_right = event.previous == stored.previous
                || (before <= self.floor && [0, before].contains(&event.previous));
            assert!(is_right, "{} follows on {before}, floor {}: {event:?}", stored.sequence, self.floor);
        }
    }
}

async fn step<B: Backend>(backend: &B, places: &[Place; 2], models: &mut [Model; 2], op: &Op) {
    let log = backend.log();
    match op {
        Op::Append { place, drafts } => {
            let records = models[*place].records(backend, drafts);
            let outcomes = append(&*log, &places[*place], records.clone()).await;
            assert_eq!(outcomes.len(), records.len());
            for (record, outcome) in records.into_iter().zip(outcomes) {
                models[*place].apply(backend, record, outcome);
            }
        }
        Op::Read { place, after, patterns, max_events, max_bytes } => {
            let after = models[*place].pick(*after).min(models[*place].head());
            let query = ReadQuery {
                max_events: *max_events,
                max_bytes: *max_bytes,
                ..query(after, PATTERNS[*patterns])
            };
            models[*place].check_read(&*log, &places[*place], query).await;
        }
        Op::Inspect { place, at } => {
            let (model, at) = (&models[*place], models[*place].pick(*at));
            let found = log.inspect(&places[*place], at).await.expect("inspect");
            let expected = model.retained().find(|stored| stored.sequence == at).map(Stored::check);
            assert_eq!(found.check, expected);
            let head = (model.head(), model.events.last().map_or(0, Stored::check));
            assert_eq!((found.bounds.head.sequence, found.bounds.head.check), head);
            assert_eq!(found.bounds.floor, model.floor);
        }
        Op::Topics { place, after, limit } => {
            let epoch = log.inspect(&places[*place], 0).await.expect("inspect").bounds.head.epoch;
            let after: Option<Topic> = after.map(|i| TOPICS[i].parse().expect("a topic"));
            let found = log.topics(&places[*place], after.as_ref(), *limit).await.expect("topics");
            assert_eq!(found, models[*place].topics(after.as_ref(), *limit, epoch));
        }
        Op::Trim { place, through } => {
            let through = models[*place].pick(*through);
            log.trim(&places[*place], through).await.expect("trim");
            models[*place].floor = models[*place].floor.max(through);
        }
        Op::Pass if B::MODEL_PASSES => backend.pass(backend.dedupe_window() * 2 / 3).await,
        Op::Pass | Op::Reopen => {}
    }
}

/// Runs [`Backend::MODEL_CASES`] random sequences of operations, each in two projects of its own.
///
/// # Panics
/// When the log and the model disagree, with the shortest sequence of operations that shows it.
pub fn model<B: Backend>() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let backend = RefCell::new(Some(runtime.block_on(B::open())));
    let walker = RefCell::new(Walker::default());
    let config = Config { cases: B::MODEL_CASES, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&proptest::collection::vec(op(), 1..40), |ops| {
        let mut slot = backend.borrow_mut();
        let mut walker = walker.borrow_mut();
        runtime.block_on(async {
            let place = || slot.as_ref().map(Backend::place).expect("the log is open");
            let places = [place(), place()];
            let mut models = [Model::default(), Model::default()];
            for op in &ops {
                if matches!(op, Op::Reopen) && B::MODEL_REOPENS {
                    let closed = slot.take().expect("the log is open");
                    *slot = Some(closed.reopen().await);
                }
                let backend = slot.as_ref().expect("the log is open");
                step(backend, &places, &mut models, op).await;
            }
            let lost = walker.lost;
            let log = slot.as_ref().map(Backend::log).expect("the log is open");
            walker.walk(&*log, &places[0].stream).await;
            let met: u64 = places.iter().map(|place| walker.count(place)).sum();
            let appended: usize = models.iter().map(|model| model.events.len()).sum();
            assert_eq!(met + walker.lost - lost, appended as u64, "a walk skipped or repeated events");
        });
        Ok(())
    });
    drop(runtime);
    if let Err(failed) = run {
        panic!("{failed}");
    }
}
