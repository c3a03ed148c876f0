//! The event log with a watch beside it: how long it takes, what came of it, and a span where it is traced.

use super::log_spans::{span, within};
use crate::billing::meter::Metering;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use weir_core::trace::number;
use weir_core::{Distribution, Histogram, Position, ProjectId, Timestamp, Topic};
use weir_log::{
    EventLog, Feed, Health, Inspection, Load, LogError, Milestone, Outcome, Page, Place, ReadQuery, Record,
    System, TopicHead, Walked,
};

/// What is asked of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To store events durably.
    Append,
    /// To read a page of history.
    Read,
}

/// How the log answered.
#[derive(Debug)]
pub struct LogFigures {
    appends: Timing,
    reads: Timing,
    stored: AtomicU64,
    repeated: AtomicU64,
    conflicts: AtomicU64,
    replayed: AtomicU64,
}

#[derive(Debug)]
struct Timing {
    took: Histogram,
    /// The places of [`OUTCOMES`].
    outcomes: [AtomicU64; OUTCOMES.len()],
}

/// What can become of a call.
const OUTCOMES: [&str; 6] = ["ok", "unavailable", "full", "overloaded", "out_of_range", "corrupt"];

const fn outcome_of(error: &LogError) -> usize {
    match error {
        LogError::Unavailable(_) => 1,
        LogError::Full(_) => 2,
        LogError::Overloaded { .. } => 3,
        LogError::OutOfRange { .. } => 4,
        LogError::Corrupt(_) => 5,
    }
}

impl Timing {
    fn new() -> Self {
        Self { took: Histogram::of_seconds(), outcomes: Default::default() }
    }

    fn note<T>(&self, begun: Instant, outcome: &Result<T, LogError>) {
        self.took.observe(begun.elapsed());
        let at = outcome.as_ref().err().map_or(0, outcome_of);
        self.outcomes[at].fetch_add(1, Relaxed);
    }
}

impl LogFigures {
    fn new() -> Self {
        let zero = AtomicU64::default;
        let (appends, reads) = (Timing::new(), Timing::new());
        Self { appends, reads, stored: zero(), repeated: zero(), conflicts: zero(), replayed: zero() }
    }

    const fn of(&self, operation: Operation) -> &Timing {
        match operation {
            Operation::Append => &self.appends,
            Operation::Read => &self.reads,
        }
    }

    /// Seconds that calls took.
    #[must_use]
    pub fn took(&self, operation: Operation) -> Distribution {
        self.of(operation).took.read()
    }

    /// What became of calls.
    pub fn outcomes(&self, operation: Operation) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.of(operation).outcomes.iter().map(|counter| counter.load(Relaxed)))
    }

    /// Events that were stored, those that had been before, and those whose id was another's.
    #[must_use]
    pub fn published(&self) -> (u64, u64, u64) {
        (self.stored.load(Relaxed), self.repeated.load(Relaxed), self.conflicts.load(Relaxed))
    }

    /// Events that were read from history.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed.load(Relaxed)
    }

    /// Counts what was stored; how many were new.
    fn count(&self, outcomes: &[Outcome]) -> u64 {
        let (mut stored, mut repeated, mut conflicts) = (0, 0, 0);
        for outcome in outcomes {
            match outcome {
                Outcome::Appended(appended) if appended.duplicate => repeated += 1,
                Outcome::Appended(_) => stored += 1,
                Outcome::Conflict => conflicts += 1,
            }
        }
        self.stored.fetch_add(stored, Relaxed);
        self.repeated.fetch_add(repeated, Relaxed);
        self.conflicts.fetch_add(conflicts, Relaxed);
        stored
    }
}

/// A log that is watched.
pub(crate) struct ObservedLog {
    log: Arc<dyn EventLog>,
    figures: Arc<LogFigures>,
    metering: Arc<Metering>,
}

impl ObservedLog {
    /// The log, and what is counted of it.
    pub(crate) fn beside(
        log: Arc<dyn EventLog>,
        metering: Arc<Metering>,
    ) -> (Arc<dyn EventLog>, Arc<LogFigures>) {
        let figures = Arc::new(LogFigures::new());
        (Arc::new(Self { log, figures: Arc::clone(&figures), metering }), figures)
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        stream: &str,
        work: impl FnOnce(&'a dyn EventLog) -> BoxFuture<'a, Result<T, LogError>>,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        within(span(self.system(), call, stream), || work(&*self.log))
    }
}

// All of it, what has a default too.
impl EventLog for ObservedLog {
    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>> {
        let begun = Instant::now();
        let span = span(self.system(), "append", &place.stream);
        span.record("messaging.batch.message_count", number(records.len()));
        let append = within(span, || self.log.append(place, records));
        let figures = Arc::clone(&self.figures);
        let published = self.metering.published(place.tenant, place.project);
        async move {
            let outcome = append.await;
            figures.appends.note(begun, &outcome);
            if let Ok(outcomes) = &outcome {
                published.add(figures.count(outcomes));
            }
            outcome
        }
        .boxed()
    }

    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>> {
        async move {
            let begun = Instant::now();
            let outcome = self.call("read", &place.stream, |log| log.read(place, query)).await;
            self.figures.reads.note(begun, &outcome);
            if let Ok(page) = &outcome {
                self.figures.replayed.fetch_add(page.events.len() as u64, Relaxed);
            }
            outcome
        }
        .boxed()
    }

    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>> {
        self.call("inspect", &place.stream, |log| log.inspect(place, sequence))
    }

    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>> {
        self.call("locate", &place.stream, |log| log.locate(place, time))
    }

    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>> {
        self.call("topics", &place.stream, |log| log.topics(place, after, limit))
    }

    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.call("trim", &place.stream, |log| log.trim(place, through))
    }

    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>> {
        self.call("erase", &place.stream, |log| log.erase(place))
    }

    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.shred()
    }

    fn walk<'a>(
        &'a self,
        stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>> {
        self.call("walk", stream, |log| log.walk(stream, after))
    }

    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>> {
        self.call("watch", &place.stream, |log| log.watch(place))
    }

    fn unwatch(&self, project: ProjectId) {
        self.log.unwatch(project);
    }

    fn feed(&self) -> Option<Feed> {
        self.log.feed()
    }

    fn is_reachable(&self) -> bool {
        self.log.is_reachable()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.log.health()
    }

    fn system(&self) -> System {
        self.log.system()
    }

    fn load(&self) -> Load {
        self.log.load()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.log.close()
    }
}
