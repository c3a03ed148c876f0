//! What is forgotten, and what is not: trimming, closing and opening again.

use super::{Backend, accepted, append, append_one, named, query, read_all, record, records};
use crate::{EventLog, LogError, Place};
use weir_core::Topic;

async fn floor_of(log: &dyn EventLog, place: &Place, after: u64) -> Option<u64> {
    match log.read(place, query(after, &[">"])).await {
        Ok(_) => None,
        Err(LogError::OutOfRange { floor }) => Some(floor),
        Err(other) => panic!("{other}"),
    }
}

/// The floor holds at once, for reads, inspections, topics and the chain of each topic.
pub async fn trims<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    append(&*log, &place, vec![record("gone", "1", backend.now())]).await;
    append(&*log, &place, records(20, backend.now())).await;
    let events = read_all(&*log, &place, 0).await;
    let floor = events[9].sequence;
    log.trim(&place, floor).await.expect("trim");
    assert_eq!(floor_of(&*log, &place, 0).await, Some(floor));
    assert_eq!(floor_of(&*log, &place, floor - 1).await, Some(floor));
    assert_eq!(read_all(&*log, &place, floor).await, events[10..]);
    let inspection = log.inspect(&place, floor).await.expect("inspect");
    assert_eq!((inspection.bounds.floor, inspection.check), (floor, None));
    assert_eq!(inspection.bounds.head.sequence, events[20].sequence);
    let first = log.inspect(&place, events[10].sequence).await.expect("inspect");
    assert_eq!(first.check, Some(events[10].check()));
    let names =
        |heads: Vec<crate::TopicHead>| heads.into_iter().map(|head| head.topic).collect::<Vec<Topic>>();
    let left = names(log.topics(&place, None, 10).await.expect("topics"));
    assert_eq!(left.iter().map(Topic::as_str).collect::<Vec<_>>(), ["t.0", "t.1", "t.2"]);

    append(&*log, &place, vec![record("gone", "2", backend.now()), record("t.0", "3", backend.now())]).await;
    let added = read_all(&*log, &place, events[20].sequence).await;
    let last_of = |topic| events.iter().rev().find(|e| e.topic.as_str() == topic).map(|e| e.sequence);
    assert_eq!(added[0].previous, 0, "the one before was trimmed");
    assert_eq!(Some(added[1].previous), last_of("t.0"));

    log.trim(&place, floor - 1).await.expect("trim");
    assert_eq!(floor_of(&*log, &place, 0).await, Some(floor), "a floor never sinks");
}

/// Even an empty log goes on counting, and remembers what stood at its head.
pub async fn trims_everything<B: Backend>() {
    let backend = B::open().await;
    let (log, place, other) = (backend.log(), backend.place(), backend.place());
    log.trim(&place, 5).await.expect("trim of an empty log");
    append(&*log, &other, records(5, backend.now())).await;
    append(&*log, &place, records(5, backend.now())).await;
    let head = log.inspect(&place, 0).await.expect("inspect").bounds.head;
    log.trim(&place, u64::MAX).await.expect("trim");
    let bounds = log.inspect(&place, 0).await.expect("inspect").bounds;
    assert_eq!((bounds.floor, bounds.head), (head.sequence, head));
    assert_eq!(floor_of(&*log, &place, 0).await, Some(head.sequence));
    assert_eq!(read_all(&*log, &place, head.sequence).await.len(), 0);
    assert_eq!(log.topics(&place, None, 10).await.expect("topics"), []);
    let next = append_one(&*log, &place, record("t.0", "1", backend.now())).await;
    assert!(next.position.sequence > head.sequence);
    assert_eq!(read_all(&*log, &place, head.sequence).await[0].previous, 0);
    assert_eq!(read_all(&*log, &other, 0).await.len(), 5, "other projects keep theirs");
}

/// Erased, a project has nothing left to read, at once and after opening again; its neighbours have everything.
pub async fn erases<B: Backend>() {
    let backend = B::open().await;
    let (place, other, never) = (backend.place(), backend.place(), backend.place());
    let before = {
        let log = backend.log();
        for n in 0..12 {
            let mut mixed = records(100, backend.now());
            mixed.extend((0..10).map(|i| named(&format!("{n}-{i}"), "named", "1", backend.now())));
            append(&*log, &place, mixed).await;
            append(&*log, &other, records(5, backend.now())).await;
        }
        let floor = read_all(&*log, &place, 0).await[400].sequence;
        log.trim(&place, floor).await.expect("trim");
        erase(&*log, &never).await;
        erase(&*log, &place).await;
        assert_eq!(left(&*log, &place).await, []);
        erase(&*log, &place).await;
        log.shred().await.expect("shred");
        append(&*log, &other, records(5, backend.now())).await;
        read_all(&*log, &other, 0).await
    };
    assert_eq!(before.len(), 65);
    let backend = backend.reopen().await;
    let log = backend.log();
    assert_eq!(left(&*log, &place).await, []);
    assert_eq!(read_all(&*log, &other, 0).await, before);
}

async fn erase(log: &dyn EventLog, place: &Place) {
    while !log.erase(place).await.expect("erase") {}
}

/// What a reader finds of an erased project.
async fn left(log: &dyn EventLog, place: &Place) -> Vec<Topic> {
    let after = floor_of(log, place, 0).await.unwrap_or(0);
    let events = read_all(log, place, after).await;
    let topics = log.topics(place, None, 100).await.expect("topics").into_iter().map(|head| head.topic);
    topics.chain(events.iter().map(|event| event.topic.clone())).collect()
}

/// Closed and opened again, the log is the same: events, ends, topics, ids, epoch.
pub async fn reopens_as_it_was<B: Backend>() {
    let backend = B::open().await;
    let (one, two) = (backend.place(), backend.place());
    let (first, named_at, before) = {
        let log = backend.log();
        let at = backend.now();
        let first = append_one(&*log, &one, named("a", "t", "1", at)).await;
        append(&*log, &one, records(30, at)).await;
        let seconds = append(&*log, &two, records(10, at)).await;
        log.trim(&two, accepted(seconds[4]).position.sequence).await.expect("trim");
        (first, at, snapshot(&*log, [&one, &two]).await)
    };
    let backend = backend.reopen().await;
    let log = backend.log();
    assert_eq!(snapshot(&*log, [&one, &two]).await, before);
    let again = append_one(&*log, &one, named("a", "t", "1", named_at)).await;
    assert_eq!((again.position, again.duplicate), (first.position, true));
    let next = append_one(&*log, &one, record("t", "2", backend.now())).await;
    let events = read_all(&*log, &one, 0).await;
    assert_eq!(events.len(), 32);
    assert_eq!(events[31].sequence, next.position.sequence);
    assert_eq!(events[31].previous, first.position.sequence);
}

/// Everything that can be seen of some projects, to compare.
async fn snapshot(log: &dyn EventLog, places: [&Place; 2]) -> Vec<String> {
    let mut seen = Vec::new();
    for place in places {
        let bounds = log.inspect(place, 0).await.expect("inspect").bounds;
        let events = read_all(log, place, bounds.floor).await;
        let topics = log.topics(place, None, 100).await.expect("topics");
        seen.push(format!("{bounds:?} {events:?} {topics:?}"));
    }
    seen
}
