//! What every backend must do, as tests. One line runs them all:
//!
//! ```ignore
//! weir_log::conformance!(MyBackend);
//! ```
//!
//! where `MyBackend` implements [`Backend`]. The suite never assumes that sequences follow on each
//! other without a gap, and never that two projects share an order.

// This is test code, although other crates must be able to build it.
#![allow(clippy::expect_used, clippy::panic)]

mod append;
mod feed;
mod model;
mod read;
mod retention;
mod walk;

pub use append::*;
pub use feed::*;
pub use model::model;
pub use read::*;
pub use retention::*;
pub use walk::*;

use crate::{Appended, EventLog, LogError, Outcome, Page, Place, ReadQuery, Record};
use std::sync::Arc;
use std::time::Duration;
use weir_core::event::Headers;
use weir_core::{Event, EventId, Pattern, Payload, Timestamp};

/// A log under test and the little that the suite must be able to do to it from outside.
pub trait Backend: Send + Sync + Sized + 'static {
    /// How many random operation sequences [`model`] runs.
    const MODEL_CASES: u32 = 100;
    /// Whether [`model`] may close and open the log between operations.
    const MODEL_REOPENS: bool = true;
    /// Whether [`model`] may let time pass; right where [`Backend::pass`] does not wait.
    const MODEL_PASSES: bool = false;

    /// A fresh, empty log.
    fn open() -> impl Future<Output = Self> + Send;

    /// The log. The suite drops every clone before it calls [`Backend::reopen`].
    fn log(&self) -> Arc<dyn EventLog>;

    /// Closes the log and opens it again on the same data.
    fn reopen(self) -> impl Future<Output = Self> + Send;

    /// A place for a new project of a new tenant.
    fn place(&self) -> Place;

    /// The time, on the clock that the log's dedupe window runs on.
    fn now(&self) -> Timestamp;

    /// Returns when that clock has moved on by at least `time`: by turning it, or by waiting.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// For how long an id chosen by a publisher is remembered.
    fn dedupe_window(&self) -> Duration;
}

/// Makes a `#[test]` of every part of the suite, in a module `conformance`.
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance!(@each $backend:
                positions_increase, stores_events_whole, keeps_the_order_of_calls, empty_batch,
                a_dropped_future_still_appends, repeats_answer_with_the_first,
                ids_are_forgotten_after_the_window, ids_belong_to_a_project,
                batches_are_judged_record_by_record, concurrent_repeats_store_one,
                pages_cover_everything_once, reads_select_by_pattern, reads_end_at_the_head,
                inspects_any_sequence, locates_by_time, lists_topics, projects_do_not_mix,
                trims, trims_everything, erases, reopens_as_it_was,
                feeds_in_order_without_holes, feeds_exactly_what_follows_the_watch,
                feeds_only_what_is_watched, has_one_feed, refuses_after_close,
                walks_over_everything_once, walks_in_pages, walks_by_the_hour,
                walks_past_the_servers_own_events,
                walks_over_what_was_trimmed, walks_begin_anew_in_another_epoch,
            );

            #[test]
            fn model() {
                $crate::conformance::model::<$backend>();
            }
        }
    };
    (@each $backend:ty: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::conformance::$name::<$backend>().await;
            }
        )*
    };
}

/// A record as the server makes them: with an id of its own.
pub(crate) fn record(topic: &str, payload: &str, at: Timestamp) -> Record {
    Record {
        id: EventId::generate(),
        dedupe: false,
        topic: topic.parse().expect("a topic"),
        payload: Payload::parse(payload.as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: at,
    }
}

/// A record with the publisher's id.
pub(crate) fn named(id: &str, topic: &str, payload: &str, at: Timestamp) -> Record {
    Record { id: id.parse().expect("an id"), dedupe: true, ..record(topic, payload, at) }
}

/// `count` records on a few topics, told apart by payload.
pub(crate) fn records(count: usize, at: Timestamp) -> Vec<Record> {
    (0..count).map(|i| record(&format!("t.{}", i % 3), &i.to_string(), at)).collect()
}

pub(crate) async fn append(log: &dyn EventLog, place: &Place, records: Vec<Record>) -> Vec<Outcome> {
    log.append(place, records).await.expect("append")
}

/// Appends one record that must be accepted.
pub(crate) async fn append_one(log: &dyn EventLog, place: &Place, record: Record) -> Appended {
    accepted(append(log, place, vec![record]).await[0])
}

pub(crate) fn accepted(outcome: Outcome) -> Appended {
    match outcome {
        Outcome::Appended(appended) => appended,
        Outcome::Conflict => panic!("the record was refused as a conflict"),
    }
}

pub(crate) fn query(after: u64, patterns: &[&str]) -> ReadQuery {
    let patterns: Vec<Pattern> = patterns.iter().map(|p| p.parse().expect("a pattern")).collect();
    ReadQuery { after, patterns: patterns.into(), max_events: 1000, max_bytes: 1 << 20 }
}

/// Reads page after page up to the head; every page must make progress.
pub(crate) async fn read_through(
    log: &dyn EventLog,
    place: &Place,
    mut query: ReadQuery,
) -> Result<Vec<Arc<Event>>, LogError> {
    let mut events: Vec<Arc<Event>> = Vec::new();
    loop {
        let Page { events: more, through, at_head } = log.read(place, query.clone()).await?;
        assert!(more.len() <= query.max_events, "{} events in a page of {}", more.len(), query.max_events);
        for event in more {
            assert!(event.sequence > query.after && event.sequence <= through, "outside of the page");
            assert!(events.last().is_none_or(|last| last.sequence < event.sequence), "out of order");
            events.push(event);
        }
        if at_head {
            return Ok(events);
        }
        assert!(through > query.after, "a page before the head without progress");
        query.after = through;
    }
}

/// Every event after `after`.
pub(crate) async fn read_all(log: &dyn EventLog, place: &Place, after: u64) -> Vec<Arc<Event>> {
    read_through(log, place, query(after, &[">"])).await.expect("read")
}
