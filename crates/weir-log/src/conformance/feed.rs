//! The live feed: no hole, no repetition, no order but the log's.

use super::{Backend, append, append_one, read_all, record, records};
use crate::{Feed, FeedItem, LogError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Event, ProjectId};

/// Long enough for any backend; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(feed: &mut Feed) -> (ProjectId, Vec<Arc<Event>>) {
    match tokio::time::timeout(PATIENCE, feed.recv()).await.expect("the feed went silent") {
        Some(FeedItem::Events { project, events }) => {
            assert!(!events.is_empty());
            (project, events)
        }
        Some(FeedItem::Broken { reason, .. }) => panic!("the feed broke: {reason}"),
        None => panic!("the feed ended"),
    }
}

/// Takes events until `count` have come; all must be of `project`.
async fn take(feed: &mut Feed, project: ProjectId, count: usize) -> Vec<Arc<Event>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let (whose, events) = next(feed).await;
        assert_eq!(whose, project);
        taken.extend(events);
    }
    taken
}

/// Many writers, two projects, a consumer that stalls again and again: what comes is the log.
pub async fn feeds_in_order_without_holes<B: Backend>() {
    const WRITERS: usize = 8;
    const APPENDS: usize = 40;
    const BATCH: usize = 10;
    let backend = B::open().await;
    let log = backend.log();
    let mut feed = log.feed().expect("the feed");
    let places = [backend.place(), backend.place()];
    for place in &places {
        assert_eq!(log.watch(place).await.expect("watch").sequence, 0);
    }
    let at = backend.now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (log, place) = (log.clone(), places[writer % 2].clone());
            tokio::spawn(async move {
                for _ in 0..APPENDS {
                    append(&*log, &place, records(BATCH, at)).await;
                }
            })
        })
        .collect();
    let mut seen: HashMap<ProjectId, Vec<Arc<Event>>> = HashMap::new();
    let mut total = 0;
    while total < WRITERS * APPENDS * BATCH {
        let (project, events) = next(&mut feed).await;
        total += events.len();
        seen.entry(project).or_default().extend(events);
        if total % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for writer in writers {
        writer.await.expect("writer");
    }
    for place in &places {
        assert_eq!(seen[&place.project], read_all(&*log, place, 0).await);
    }
    assert!(feed.try_recv().is_none(), "more than was appended");
}

/// A watch in the midst of appends: what the position covers plus what the feed brings is the log.
pub async fn feeds_exactly_what_follows_the_watch<B: Backend>() {
    let backend = B::open().await;
    let log = backend.log();
    let mut feed = log.feed().expect("the feed");
    for round in 0..20_u64 {
        let place = backend.place();
        let appends: Vec<_> = (0..10)
            .map(|_| {
                let (log, place, at) = (log.clone(), place.clone(), backend.now());
                tokio::spawn(async move { append(&*log, &place, records(3, at)).await })
            })
            .collect();
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        let from = log.watch(&place).await.expect("watch");
        for append in appends {
            append.await.expect("append");
        }
        let expected = read_all(&*log, &place, from.sequence).await;
        assert_eq!(take(&mut feed, place.project, expected.len()).await, expected);
        let known = log.inspect(&place, from.sequence).await.expect("inspect");
        assert_eq!(known.check.unwrap_or(0), from.check);
        let reached = log.watch(&place).await.expect("watch again");
        assert_eq!(reached, known.bounds.head, "the position that the feed has reached");
        log.unwatch(place.project);
    }
}

/// Nothing of unwatched projects; a project watched anew goes on at the position of the new watch.
pub async fn feeds_only_what_is_watched<B: Backend>() {
    let backend = B::open().await;
    let log = backend.log();
    let mut feed = log.feed().expect("the feed");
    let (watched, other) = (backend.place(), backend.place());
    log.watch(&watched).await.expect("watch");
    append(&*log, &other, records(5, backend.now())).await;
    let first = append_one(&*log, &watched, record("t", "1", backend.now())).await;
    let (project, events) = next(&mut feed).await;
    assert_eq!((project, events[0].sequence), (watched.project, first.position.sequence));
    log.unwatch(watched.project);
    append(&*log, &watched, records(5, backend.now())).await;
    let from = log.watch(&watched).await.expect("watch");
    let last = append_one(&*log, &watched, record("t", "2", backend.now())).await;
    let after = take(&mut feed, watched.project, 1).await;
    assert!(from.sequence > first.position.sequence && from.sequence < last.position.sequence);
    assert_eq!(after[0].sequence, last.position.sequence);
    assert!(feed.try_recv().is_none());
}

/// The feed is given out once.
pub async fn has_one_feed<B: Backend>() {
    let backend = B::open().await;
    let log = backend.log();
    let feed = log.feed();
    assert!(feed.is_some());
    assert!(log.feed().is_none());
}

/// Closing writes what is queued; then appends are refused and the feed ends.
pub async fn refuses_after_close<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    assert!(log.health().await.problem.is_none());
    let mut feed = log.feed().expect("the feed");
    let queued = log.append(&place, records(10, backend.now()));
    log.close().await;
    assert_eq!(queued.await.expect("queued before the close").len(), 10);
    let late = log.append(&place, records(1, backend.now())).await;
    assert!(matches!(late, Err(LogError::Unavailable(_))), "{late:?}");
    let end = tokio::time::timeout(PATIENCE, feed.recv()).await.expect("the feed stays open");
    assert!(end.is_none());
}
