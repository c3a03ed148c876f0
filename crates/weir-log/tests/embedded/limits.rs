//! Bounds: a full queue, a full disk, a consumer that does not consume, room given back, damaged data.

use super::place;
use futures::future::join_all;
use weir_core::event::Headers;
use weir_core::{Clock, EventId, Payload, SystemClock};
use weir_log::embedded::{Embedded, Options};
use weir_log::{EventLog, FeedItem, LogError, Place, ReadQuery, Record};

fn sized(bytes: usize) -> Record {
    Record {
        id: EventId::generate(),
        dedupe: false,
        topic: "t".parse().expect("a topic"),
        payload: Payload::parse(format!("\"{}\"", "x".repeat(bytes)).as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: SystemClock.now(),
    }
}

async fn head(log: &Embedded, place: &Place) -> u64 {
    log.inspect(place, 0).await.expect("inspect").bounds.head.sequence
}

/// More than the bound is refused at once, what was accepted is stored, and it goes on afterwards.
#[tokio::test]
async fn a_full_queue_refuses() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { queue_bytes: 100_000, ..Options::new(directory.path()) };
    let (log, place) = (Embedded::open(&options).expect("open"), place());
    let calls: Vec<_> = (0..2000).map(|_| log.append(&place, vec![sized(20_000)])).collect();
    let answers = join_all(calls).await;
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    for answer in answers {
        if let Err(error) = answer {
            assert!(matches!(error, LogError::Overloaded { queued, limit: 100_000 } if queued <= 100_000));
            assert!(error.is_transient());
        }
    }
    assert!((1..2000).contains(&stored), "{stored} of 2000 were stored");
    assert_eq!(head(&log, &place).await, stored as u64);
    log.append(&place, vec![sized(500_000)]).await.expect("larger than the bound, but alone");
    log.close().await;
}

/// With too little room appends are refused whole, trims are not, and with room it works again.
#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let roomy = Options::new(directory.path());
    let cramped = Options { min_free_bytes: u64::MAX, ..roomy.clone() };
    let place = place();
    for (options, full) in [(&roomy, false), (&cramped, true), (&roomy, false)] {
        let log = Embedded::open(options).expect("open");
        let before = head(&log, &place).await;
        let answer = log.append(&place, vec![sized(10), sized(10)]).await;
        if full {
            assert!(matches!(answer, Err(LogError::Full(_))), "{answer:?}");
            log.trim(&place, 1).await.expect("trim");
            assert!(log.health().await.problem.is_none(), "it is full, not broken");
        } else {
            answer.expect("append");
        }
        assert_eq!(head(&log, &place).await - before, if full { 0 } else { 2 });
        log.close().await;
    }
}

/// A consumer that sleeps through more than the feed holds still gets everything, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_far_behind_misses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { feed_bytes: 64 << 10, ..Options::new(directory.path()) };
    let (log, place, idle) = (Embedded::open(&options).expect("open"), place(), place());
    let mut feed = log.feed().expect("the feed");
    log.watch(&place).await.expect("watch");
    log.watch(&idle).await.expect("watch");
    for _ in 0..50 {
        let records = (0..100).map(|_| sized(200)).collect();
        log.append(&place, records).await.expect("append");
    }
    let reached = log.watch(&place).await.expect("watch again").sequence;
    assert!((1..5000).contains(&reached), "{reached}: the feed holds a part");
    let mut expected = 1;
    while expected <= 5100 {
        let Some(FeedItem::Events { project, events }) = feed.recv().await else { panic!("it ended") };
        assert_eq!(project, place.project);
        for event in events {
            assert_eq!(event.sequence, expected);
            expected += 1;
        }
        if expected == 5001 {
            // Caught up, it is live again.
            log.append(&place, (0..100).map(|_| sized(10)).collect()).await.expect("append");
        }
    }
    assert!(feed.try_recv().is_none());
    log.close().await;
}

/// What the consumer has not got is trimmed away: the feed of that project says so and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_that_cannot_be_filled_breaks_the_feed() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { feed_bytes: 16 << 10, ..Options::new(directory.path()) };
    let (log, place) = (Embedded::open(&options).expect("open"), place());
    let mut feed = log.feed().expect("the feed");
    log.watch(&place).await.expect("watch");
    for _ in 0..300 {
        log.append(&place, vec![sized(1000)]).await.expect("append");
    }
    log.trim(&place, 290).await.expect("trim");
    let mut last = 0;
    let reason = loop {
        match feed.recv().await.expect("an item") {
            FeedItem::Events { events, .. } => {
                assert_eq!(events[0].sequence, last + 1);
                last = events[events.len() - 1].sequence;
            }
            FeedItem::Broken { project, reason } => {
                assert_eq!(project, place.project);
                break reason;
            }
        }
    };
    assert!(last < 290 && reason.contains("290"), "after {last}: {reason}");
    let from = log.watch(&place).await.expect("watch anew").sequence;
    assert_eq!(from, 300);
    log.append(&place, vec![sized(1)]).await.expect("append");
    let Some(FeedItem::Events { events, .. }) = feed.recv().await else { panic!("it ended") };
    assert_eq!(events[0].sequence, 301);
    log.close().await;
}

/// A value that this program did not write is reported, for what needs it only.
#[tokio::test]
async fn damage_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options::new(directory.path());
    let place = place();
    let log = Embedded::open(&options).expect("open");
    log.append(&place, (0..3).map(|_| sized(10)).collect()).await.expect("append");
    log.close().await;
    drop(log);
    {
        let store = fjall::Database::builder(directory.path().join("log")).open().expect("the store");
        let events = store.keyspace("events", fjall::KeyspaceCreateOptions::default).expect("events");
        // The first project of a log has the number 1.
        let mut key = 1_u32.to_be_bytes().to_vec();
        key.extend_from_slice(&2_u64.to_be_bytes());
        events.insert(key, b"\x01garbage").expect("insert");
    }
    let log = Embedded::open(&options).expect("open");
    let read = |after| {
        let query = ReadQuery {
            after,
            patterns: [">".parse().expect("a pattern")].into(),
            max_events: 10,
            max_bytes: 1 << 20,
        };
        log.read(&place, query)
    };
    let at = format!("event 2 of {}", place.project);
    let named = |error: &LogError| matches!(error, LogError::Corrupt(why) if why.contains(&at));
    assert_eq!(read(0).await.expect("what stands before").through, 1);
    assert!(read(1).await.is_err_and(|error| named(&error)));
    assert!(log.inspect(&place, 2).await.is_err_and(|error| named(&error)));
    assert_eq!(read(2).await.expect("the rest").events.len(), 1);
    log.append(&place, vec![sized(10)]).await.expect("append");
    // Let go, it is in nobody's way: readers from before are told, and get the rest.
    log.trim(&place, 2).await.expect("trim");
    assert!(matches!(read(0).await, Err(LogError::OutOfRange { floor: 2 })));
    assert_eq!(log.inspect(&place, 2).await.expect("bounds").bounds.floor, 2);
    assert_eq!(read(2).await.expect("the rest").events.len(), 2);
    log.close().await;
}
