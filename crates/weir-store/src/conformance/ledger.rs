use super::place::Place;
use super::{at, at_once, by, set_up, wanted};
use crate::{
    Access, By, Count, CountedRange, CountedTo, Explain, Metric, Store, StoreError, UsagePlace, UsageRange,
};
use weir_core::{Clock, SystemClock, Timestamp};

const HOUR: i64 = 3_600_000_000;

/// A step that found nothing.
pub fn step(epoch: u64, from: Option<u64>, position: u64, complete_until: Timestamp) -> Count {
    let stream = "EVENTS".to_owned();
    let to =
        CountedTo { epoch, stream, position, reached: at(0).hour(), complete_until, lost: 0, live: true };
    Count { from, to, ranges: Vec::new() }
}

fn range(
    access: &Access,
    hour: i64,
    sequences: std::ops::RangeInclusive<u64>,
    quantity: u64,
) -> CountedRange {
    CountedRange {
        tenant_id: access.tenant.id,
        project_id: access.project.id,
        window_start: at(hour * HOUR),
        first_sequence: *sequences.start(),
        last_sequence: *sequences.end(),
        quantity,
        bytes: quantity.saturating_mul(100),
    }
}

fn found(from: Option<u64>, position: u64, ranges: Vec<CountedRange>) -> Count {
    Count { ranges, ..step(9, from, position, at(0)) }
}

async fn published(store: &Store, access: &Access) -> u64 {
    let total = store.usage.total(access.tenant.id, Metric::EventsPublished, at(0), at(100 * HOUR)).await;
    total.expect("reads")
}

pub async fn events_are_counted_once_whoever_counts(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let access = set_up(&nodes[0], "acme").await.access;
    let begin = |_| found(None, 10, vec![range(&access, 0, 1..=10, 10)]);
    let taken = at_once(6, |n| {
        let (ledger, step) = (nodes[n % 2].ledger.clone(), begin(n));
        async move { ledger.count(step).await.expect("answers") }
    })
    .await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    // Each of them walks on from where it read, again and again; who comes second changes nothing.
    at_once(4, |n| {
        let (ledger, access) = (nodes[n % 2].ledger.clone(), access.clone());
        async move {
            loop {
                let at = ledger.positions().await.expect("reads").counted[0].position;
                if at >= 50 {
                    return;
                }
                let range = range(&access, (at / 10) as i64, at + 1..=at + 4, 4);
                ledger.count(found(Some(at), at + 4, vec![range])).await.expect("answers");
            }
        }
    })
    .await;
    assert_eq!(published(&nodes[0], &access).await, 50);
    let counted = nodes[1].ledger.positions().await.expect("reads").counted;
    assert_eq!((counted.len(), counted[0].position), (1, 50));
    let accepted = nodes[0].usage.accepted(access.tenant.id, at(0), at(HOUR)).await.expect("reads");
    assert_eq!((accepted.events, accepted.complete_until), (10, at(0)));
}

pub async fn a_step_that_fails_moves_nothing(place: &Place) {
    let store = place.open().await;
    let access = set_up(&store, "acme").await.access;
    store.ledger.count(found(None, 5, vec![range(&access, 0, 1..=5, 5)])).await.expect("counts");
    let too_much = found(Some(5), 6, vec![range(&access, 0, 6..=6, u64::MAX)]);
    let error = store.ledger.count(too_much).await.expect_err("does not fit");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    let overflow = found(Some(5), 6, vec![range(&access, 0, 6..=6, i64::MAX as u64)]);
    store.ledger.count(overflow).await.expect_err("the sum does not fit");
    assert_eq!(store.ledger.positions().await.expect("reads").counted[0].position, 5);
    assert_eq!(published(&store, &access).await, 5);
    assert!(!store.ledger.count(found(None, 5, Vec::new())).await.expect("answers"), "it began already");
    assert!(!store.ledger.count(found(Some(4), 9, Vec::new())).await.expect("answers"), "it is further");

    // Nobody knows less than before.
    let later = Count {
        to: CountedTo { complete_until: at(7), ..step(9, None, 5, at(0)).to },
        ..found(Some(5), 5, Vec::new())
    };
    assert!(store.ledger.count(later).await.expect("counts"));
    assert!(!store.ledger.count(found(Some(5), 5, Vec::new())).await.expect("answers"));
    let accepted = store.usage.accepted(access.tenant.id, at(0), at(HOUR)).await.expect("reads");
    assert_eq!((accepted.events, accepted.complete_until), (5, at(7)));
}

pub async fn positions_are_by_incarnation(place: &Place) {
    let store = place.open().await;
    let empty = store.ledger.positions().await.expect("reads");
    assert_eq!((empty.streams.len(), empty.counted.len()), (0, 0));
    let acme = set_up(&store, "acme").await.access;
    set_up(&store, "globex").await;
    let place = |stream: &str| store.tenants.set_placement(acme.tenant.id, stream.to_owned(), by(2));
    place("BIG_1").await.expect("places");
    let huge = u64::MAX - 3;
    store.ledger.count(step(huge, None, 4, at(1))).await.expect("counts");
    store
        .ledger
        .count(Count {
            to: CountedTo { stream: "BIG_1".into(), ..step(7, None, 1, at(5)).to },
            ..step(7, None, 1, at(5))
        })
        .await
        .expect("counts");
    let before = SystemClock.now();
    let positions = store.ledger.positions().await.expect("reads");
    assert!(positions.now.since(before).as_secs() < 60 && before.since(positions.now).as_secs() < 60);
    assert_eq!(positions.streams, ["BIG_1", "EVENTS"]);
    let told: Vec<_> =
        positions.counted.iter().map(|c| (c.epoch, c.stream.as_str(), c.position, c.live)).collect();
    assert_eq!(told, [(huge, "EVENTS", 4, true), (7, "BIG_1", 1, true)]);

    // One that is gone keeps its position, and is waited for no longer.
    let accepted = store.usage.accepted(acme.tenant.id, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(accepted.complete_until, at(1));
    let gone = Count {
        from: Some(4),
        to: CountedTo { live: false, lost: 3, ..positions.counted[0].clone() },
        ranges: Vec::new(),
    };
    assert!(store.ledger.count(gone).await.expect("counts"));
    let counted = store.ledger.positions().await.expect("reads").counted;
    assert_eq!((counted[0].live, counted[0].position, counted[0].lost), (false, 4, 3));
    let accepted = store.usage.accepted(acme.tenant.id, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(accepted.complete_until, at(5));
}

pub async fn ranges_grow_and_are_counted_again(place: &Place) {
    let store = place.open().await;
    let main = set_up(&store, "acme").await.access;
    let by = By { at: at(1), ..by(1) };
    let side = store.directory.bootstrap(wanted("acme", "side"), by).await.expect("bootstraps").access;
    let ranges = vec![range(&main, 0, 1..=4, 3), range(&side, 0, 2..=2, 1), range(&main, 1, 7..=7, 1)];
    store.ledger.count(found(None, 7, ranges)).await.expect("counts");
    store.ledger.count(found(Some(7), 9, vec![range(&main, 1, 8..=9, 2)])).await.expect("counts");
    let explain = Explain {
        tenant: main.tenant.id,
        project: Some(main.project.id),
        from: at(0),
        to: at(2 * HOUR),
        after: None,
        limit: 10,
    };
    let told = |range: &UsageRange| (range.first_sequence, range.last_sequence, range.quantity);
    let ranges = store.usage.ranges(explain).await.expect("reads");
    assert_eq!(ranges.iter().map(told).collect::<Vec<_>>(), [(1, 4, 3), (7, 9, 3)]);
    let all = Explain { project: None, limit: 2, ..explain };
    let page = store.usage.ranges(all).await.expect("reads");
    let last = page[1];
    let after = UsagePlace { window_start: last.window_start, project_id: last.project_id, last: last.epoch };
    let rest = store.usage.ranges(Explain { after: Some(after), ..all }).await.expect("reads");
    assert_eq!((page.len(), rest.iter().map(told).collect::<Vec<_>>()), (2, vec![(7, 9, 3)]));

    assert_eq!(store.ledger.counted_before(ranges[0]).await.expect("reads"), None);
    assert_eq!(store.ledger.counted_before(ranges[1]).await.expect("reads"), Some(4));
    let open = store.ledger.to_recount(at(HOUR), 10).await.expect("reads");
    assert_eq!(open.len(), 2, "the second hour is not over");
    let [first, second] = ranges[..] else { panic!("{ranges:?}") };
    assert!(store.ledger.recounted(first, Some(2)).await.expect("keeps"));
    assert!(!store.ledger.recounted(first, Some(3)).await.expect("answers"), "it was done");
    assert!(!store.ledger.recounted(UsageRange { quantity: 2, ..second }, Some(2)).await.expect("answers"));
    assert!(store.ledger.recounted(second, None).await.expect("keeps"));
    assert_eq!(store.ledger.to_recount(at(9 * HOUR), 10).await.expect("reads").len(), 1);
    let ranges = store.usage.ranges(explain).await.expect("reads");
    let recounted: Vec<_> = ranges.iter().map(|r| (r.recounted, r.recounted_at.is_some())).collect();
    assert_eq!(recounted, [(Some(2), true), (None, true)]);
    // Counted on, it is to be counted again.
    store.ledger.count(found(Some(9), 10, vec![range(&main, 1, 10..=10, 1)])).await.expect("counts");
    assert_eq!(store.ledger.to_recount(at(9 * HOUR), 10).await.expect("reads").len(), 2);
}
