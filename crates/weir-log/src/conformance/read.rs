//! Reading: pages, patterns, positions, topics.

use super::{Backend, accepted, append, append_one, query, read_all, read_through, record, records};
use crate::{Place, ReadQuery, TopicHead};
use std::time::Duration;
use weir_core::{TenantId, Topic};

/// Whatever the page size in events or bytes, reading on sees every event once.
pub async fn pages_cover_everything_once<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let mut sent = records(50, backend.now());
    sent.push(record("t.0", &format!("\"{}\"", "x".repeat(30_000)), backend.now()));
    sent.extend(records(9, backend.now()));
    append(&*log, &place, sent.clone()).await;
    for (max_events, max_bytes) in [(1, 1 << 20), (7, 1 << 20), (1000, 1), (1000, 900), (1000, 1 << 20)] {
        let limits = ReadQuery { max_events, max_bytes, ..query(0, &[">"]) };
        let first = log.read(&place, limits.clone()).await.expect("read");
        let weight: usize = first.events.iter().map(|event| event.weight()).sum();
        assert!(weight <= max_bytes || first.events.len() <= 1, "{weight} bytes in a page of {max_bytes}");
        let read = read_through(&*log, &place, limits).await.expect("read");
        let ids: Vec<_> = read.iter().map(|event| &event.id).collect();
        assert_eq!(ids, sent.iter().map(|record| &record.id).collect::<Vec<_>>());
    }
}

/// Only what a pattern selects is returned, each event once, and `through` passes over the rest.
pub async fn reads_select_by_pattern<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let topics = ["a.b", "a.c", "b", "a.b.c", "a.b", "c"];
    let sent: Vec<_> = topics.iter().map(|topic| record(topic, "1", backend.now())).collect();
    append(&*log, &place, sent).await;
    for (patterns, expected) in [
        (&["a.b"][..], &["a.b", "a.b"][..]),
        (&["a.*"], &["a.b", "a.c", "a.b"]),
        (&["a.>", "a.b"], &["a.b", "a.c", "a.b.c", "a.b"]),
        (&["c", "b"], &["b", "c"]),
        (&["none"], &[]),
        (&[], &[]),
    ] {
        for max_events in [1, 1000] {
            let wanted = ReadQuery { max_events, ..query(0, patterns) };
            let read = read_through(&*log, &place, wanted).await.expect("read");
            let found: Vec<_> = read.iter().map(|event| event.topic.as_str()).collect();
            assert_eq!(found, expected, "{patterns:?}");
        }
    }
}

/// At the head there is nothing, and that is said.
pub async fn reads_end_at_the_head<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let page = log.read(&place, query(0, &[">"])).await.expect("read");
    assert!(page.events.is_empty() && page.at_head);
    let last = append_one(&*log, &place, record("t", "1", backend.now())).await.position.sequence;
    let page = log.read(&place, query(last, &[">"])).await.expect("read");
    assert!(page.events.is_empty() && page.at_head);
    assert_eq!(page.through, last);
}

/// The check of what stands at a sequence, and none where nothing of this project stands.
pub async fn inspects_any_sequence<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let outcomes = append(&*log, &place, records(5, backend.now())).await;
    for outcome in &outcomes {
        let position = accepted(*outcome).position;
        let found = log.inspect(&place, position.sequence).await.expect("inspect");
        assert_eq!(found.check, Some(position.check));
        assert_eq!(found.bounds.head, accepted(outcomes[4]).position);
    }
    let beyond = accepted(outcomes[4]).position.sequence + 1_000_000;
    for nowhere in [0, beyond, u64::MAX] {
        assert_eq!(log.inspect(&place, nowhere).await.expect("inspect").check, None);
    }
}

/// A time leads to the first event accepted then or later.
pub async fn locates_by_time<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let gap = Duration::from_millis(30);
    assert_eq!(log.locate(&place, backend.now()).await.expect("locate"), 0);
    let start = backend.now();
    let mut marks = Vec::new();
    for _ in 0..4 {
        backend.pass(gap).await;
        marks.push(backend.now());
        backend.pass(gap).await;
        append(&*log, &place, records(7, backend.now())).await;
    }
    backend.pass(gap).await;
    let events = read_all(&*log, &place, 0).await;
    for (i, mark) in marks.iter().enumerate() {
        let after = log.locate(&place, *mark).await.expect("locate");
        assert_eq!(read_all(&*log, &place, after).await, events[7 * i..], "group {i}");
    }
    let before_all = log.locate(&place, start).await.expect("locate");
    assert_eq!(read_all(&*log, &place, before_all).await.len(), 28);
    let after_all = log.locate(&place, backend.now()).await.expect("locate");
    assert_eq!(read_all(&*log, &place, after_all).await.len(), 0);
}

/// Topics come sorted, in pages, with their newest event.
pub async fn lists_topics<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    assert_eq!(log.topics(&place, None, 10).await.expect("topics"), []);
    let mut expected = Vec::new();
    for round in 0..2 {
        expected.clear();
        for topic in ["b", "a.b", "a", "a-b", "a.b.c", "B"] {
            let appended = append_one(&*log, &place, record(topic, &round.to_string(), backend.now())).await;
            let topic: Topic = topic.parse().expect("a topic");
            expected.push(TopicHead { topic, head: appended.position, published_at: appended.published_at });
        }
    }
    expected.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(log.topics(&place, None, 100).await.expect("topics"), expected);
    for limit in [1, 4] {
        let mut paged: Vec<TopicHead> = Vec::new();
        loop {
            let after = paged.last().map(|head| head.topic.clone());
            let more = log.topics(&place, after.as_ref(), limit).await.expect("topics");
            assert!(more.len() <= limit);
            if more.is_empty() {
                break;
            }
            paged.extend(more);
        }
        assert_eq!(paged, expected);
    }
    let between: Topic = "a.a".parse().expect("a topic");
    assert_eq!(log.topics(&place, Some(&between), 1).await.expect("topics"), expected[3..4]);
}

/// Projects see their own events only, and another tenant sees nothing under the same project id.
pub async fn projects_do_not_mix<B: Backend>() {
    let backend = B::open().await;
    let (log, one) = (backend.log(), backend.place());
    let two = Place { project: backend.place().project, ..one.clone() };
    for i in 0..20 {
        append(&*log, &one, vec![record("t", &i.to_string(), backend.now())]).await;
        append(&*log, &two, vec![record("t", &i.to_string(), backend.now()); 2]).await;
    }
    for (place, count) in [(&one, 20), (&two, 40)] {
        let events = read_all(&*log, place, 0).await;
        assert_eq!(events.len(), count);
        assert!(events.iter().all(|event| event.project == place.project && event.tenant == place.tenant));
        let previous: Vec<u64> = events.iter().map(|event| event.previous).collect();
        let expected: Vec<u64> = std::iter::once(0).chain(events.iter().map(|e| e.sequence)).collect();
        assert_eq!(previous, expected[..count], "each project chains its own topics");
    }
    let stranger = Place { tenant: TenantId::new(), ..one };
    assert_eq!(read_all(&*log, &stranger, 0).await.len(), 0);
    assert_eq!(log.topics(&stranger, None, 10).await.expect("topics"), []);
    assert_eq!(log.inspect(&stranger, 0).await.expect("inspect").bounds.head.sequence, 0);
}
