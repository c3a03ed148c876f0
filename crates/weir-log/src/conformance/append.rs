//! Appending: order, ids, batches.

use super::{Backend, accepted, append, append_one, named, read_all, record, records};
use crate::Outcome;
use futures::future::join_all;
use std::time::Duration;
use weir_core::event::Headers;

/// Positions strictly increase, share one epoch that is not 0, and the last one is the head.
pub async fn positions_increase<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let empty = log.inspect(&place, 0).await.expect("inspect").bounds;
    assert_eq!((empty.floor, empty.head.sequence, empty.head.check), (0, 0, 0));
    assert_ne!(empty.head.epoch, 0);
    let mut last = empty.head;
    for _ in 0..3 {
        for outcome in append(&*log, &place, records(10, backend.now())).await {
            let appended = accepted(outcome);
            assert!(!appended.duplicate);
            assert!(appended.position.sequence > last.sequence);
            assert_eq!(appended.position.epoch, last.epoch);
            last = appended.position;
        }
        assert_eq!(log.inspect(&place, 0).await.expect("inspect").bounds.head, last);
    }
}

/// What is read is what was appended, in every field, and `previous` chains each topic.
pub async fn stores_events_whole<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let mut rich = named("order-1", "orders.created", r#"{"a":[1,"é\n"],"b":null}"#, backend.now());
    rich.kind = Some("order.created".parse().expect("a type"));
    let pairs = vec![("trace".into(), "00-ü-1".into()), ("trace".into(), String::new())];
    rich.headers = Headers::new(pairs).expect("headers");
    let plain = record("a", "0", backend.now());
    let again = record("orders.created", &format!("\"{}\"", "x".repeat(60_000)), backend.now());
    let sent = vec![rich, plain, again];
    let outcomes = append(&*log, &place, sent.clone()).await;
    let events = read_all(&*log, &place, 0).await;
    assert_eq!(events.len(), sent.len());
    for ((event, sent), outcome) in events.iter().zip(&sent).zip(outcomes) {
        let appended = accepted(outcome);
        assert_eq!((event.tenant, event.project), (place.tenant, place.project));
        assert_eq!(event.position(appended.position.epoch), appended.position);
        assert_eq!((&event.id, &event.topic, &event.payload), (&sent.id, &sent.topic, &sent.payload));
        assert_eq!((&event.kind, &event.headers), (&sent.kind, &sent.headers));
        assert_eq!(event.published_at, appended.published_at);
        assert_eq!(event.published_at, sent.published_at);
    }
    let previous: Vec<u64> = events.iter().map(|event| event.previous).collect();
    assert_eq!(previous, [0, 0, events[0].sequence]);
}

/// Appends are stored in the order of the calls, however their futures are polled.
pub async fn keeps_the_order_of_calls<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let mut calls: Vec<_> =
        (0..300).map(|i| log.append(&place, vec![record("t", &i.to_string(), backend.now())])).collect();
    calls.reverse();
    let mut outcomes = join_all(calls).await;
    outcomes.reverse();
    let places: Vec<u64> =
        outcomes.into_iter().map(|outcome| accepted(outcome.expect("append")[0]).position.sequence).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "not in the order of the calls: {places:?}");
    let payloads: Vec<String> = read_all(&*log, &place, 0)
        .await
        .iter()
        .map(|event| String::from_utf8_lossy(event.payload.as_bytes()).into_owned())
        .collect();
    assert_eq!(payloads, (0..300).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// No records, no outcomes, nothing stored.
pub async fn empty_batch<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    assert_eq!(append(&*log, &place, vec![]).await, []);
    assert_eq!(log.inspect(&place, 0).await.expect("inspect").bounds.head.sequence, 0);
}

/// A caller that goes away does not take its records with it.
pub async fn a_dropped_future_still_appends<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    drop(log.append(&place, vec![record("t", "1", backend.now())]));
    let second = append_one(&*log, &place, record("t", "2", backend.now())).await;
    let events = read_all(&*log, &place, 0).await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].sequence, second.position.sequence);
}

/// The same record again is answered with the first one's place; another body is a conflict.
pub async fn repeats_answer_with_the_first<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let first = append_one(&*log, &place, named("a", "t", "1", backend.now())).await;
    append(&*log, &place, records(5, backend.now())).await;
    backend.pass(Duration::from_millis(5)).await;
    let repeat = append_one(&*log, &place, named("a", "t", "1", backend.now())).await;
    assert!(repeat.duplicate && !first.duplicate);
    assert_eq!((repeat.position, repeat.published_at), (first.position, first.published_at));
    for other in [named("a", "t", "2", backend.now()), named("a", "u", "1", backend.now())] {
        assert_eq!(append(&*log, &place, vec![other]).await, [Outcome::Conflict]);
    }
    assert_eq!(read_all(&*log, &place, 0).await.len(), 6);
}

/// After the window an id is new again.
pub async fn ids_are_forgotten_after_the_window<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let first = append_one(&*log, &place, named("a", "t", "1", backend.now())).await;
    backend.pass(backend.dedupe_window() + Duration::from_millis(1)).await;
    let second = append_one(&*log, &place, named("a", "t", "2", backend.now())).await;
    assert!(!second.duplicate && second.position.sequence > first.position.sequence);
    let third = append_one(&*log, &place, named("a", "t", "2", backend.now())).await;
    assert!(third.duplicate);
    assert_eq!(third.position, second.position);
}

/// One id in two projects is two events.
pub async fn ids_belong_to_a_project<B: Backend>() {
    let backend = B::open().await;
    let (log, one, two) = (backend.log(), backend.place(), backend.place());
    for place in [&one, &two] {
        let appended = append_one(&*log, place, named("a", "t", "1", backend.now())).await;
        assert!(!appended.duplicate);
        assert_eq!(read_all(&*log, place, 0).await.len(), 1);
    }
}

/// New, repeated and conflicting records in one batch, ids repeated within it too.
pub async fn batches_are_judged_record_by_record<B: Backend>() {
    let backend = B::open().await;
    let (log, place, now) = (backend.log(), backend.place(), backend.now());
    let first = append_one(&*log, &place, named("a", "t", "1", now)).await;
    let batch = vec![
        named("b", "t", "1", now),
        named("a", "t", "1", now),
        named("a", "t", "2", now),
        named("b", "t", "1", now),
        record("t", "3", now),
        named("b", "t", "2", now),
    ];
    let outcomes = append(&*log, &place, batch).await;
    assert_eq!((outcomes[2], outcomes[5]), (Outcome::Conflict, Outcome::Conflict));
    let [b, a, b_again, plain] = [0, 1, 3, 4].map(|i| accepted(outcomes[i]));
    assert!(!b.duplicate && a.duplicate && b_again.duplicate && !plain.duplicate);
    assert_eq!((a.position, b_again.position), (first.position, b.position));
    let stored: Vec<u64> = read_all(&*log, &place, 0).await.iter().map(|e| e.sequence).collect();
    assert_eq!(stored, [first, b, plain].map(|appended| appended.position.sequence));
}

/// Many callers publish the same record at once: one stores it, all learn the same place.
pub async fn concurrent_repeats_store_one<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let record = named("a", "t", "1", backend.now());
    let calls = (0..32).map(|_| {
        let (log, place, record) = (log.clone(), place.clone(), record.clone());
        tokio::spawn(async move { append_one(&*log, &place, record).await })
    });
    let answers: Vec<_> = join_all(calls).await.into_iter().map(|a| a.expect("task")).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(answers.iter().all(|answer| answer.position == answers[0].position));
    assert_eq!(read_all(&*log, &place, 0).await.len(), 1);
}
