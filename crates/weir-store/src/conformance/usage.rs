use super::place::Place;
use super::{at, at_once, by, set_up, wanted};
use crate::{
    Access, Batch, Counted, Explain, Heartbeat, MAX_QUANTITY, Metric, StoreError, UsagePlace, UsageWindow,
    hour_of,
};
use std::time::Duration;
use weir_core::{NodeId, Timestamp};

const HOUR: i64 = 3_600_000_000;

fn counted(access: &Access, metric: Metric, time: i64, quantity: u64) -> Counted {
    Counted { tenant_id: access.tenant.id, project_id: access.project.id, metric, at: at(time), quantity }
}

fn window(metric: Metric, time: i64, quantity: u64) -> UsageWindow {
    UsageWindow { window_start: at(time), metric, quantity }
}

fn batch(node: NodeId, number: u64, counted: Vec<Counted>) -> Batch {
    Batch { node, number, until: at(0), counted }
}

pub async fn batches_count_once(place: &Place) {
    let store = place.open().await;
    let access = set_up(&store, "acme").await.access;
    let (node, other) = (NodeId::new(), NodeId::new());
    let ten = |node, number| batch(node, number, vec![counted(&access, Metric::ApiRequests, 5, 10)]);
    assert!(store.usage.record(ten(node, 1)).await.expect("records"));
    assert!(!store.usage.record(ten(node, 1)).await.expect("a repetition"));
    assert!(store.usage.record(ten(node, 2)).await.expect("records"));
    assert!(!store.usage.record(ten(node, 1)).await.expect("a late repetition"));
    assert!(store.usage.record(ten(other, 1)).await.expect("numbers are a node's own"));
    let total = store.usage.total(access.tenant.id, Metric::ApiRequests, at(0), at(HOUR)).await;
    assert_eq!(total.expect("reads"), 30);

    for (metric, quantity) in [
        (Metric::ApiRequests, u64::MAX),
        (Metric::ApiRequests, MAX_QUANTITY + 1),
        (Metric::EventsPublished, 1),
    ] {
        let refused = batch(node, 3, vec![counted(&access, metric, 5, quantity)]);
        let error = store.usage.record(refused).await.expect_err("does not fit");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    let two_halves = vec![counted(&access, Metric::ApiRequests, 5, MAX_QUANTITY / 2 + 1); 2];
    store.usage.record(batch(node, 3, two_halves)).await.expect_err("nor does their sum");
    assert!(store.usage.record(ten(node, 3)).await.expect("a refused batch was not taken"));

    let results = at_once(8, |_| {
        let (usage, batch) = (store.usage.clone(), ten(node, 4));
        async move { usage.record(batch).await.expect("answers") }
    })
    .await;
    assert_eq!(results.iter().filter(|taken| **taken).count(), 1);
}

pub async fn is_summed_by_hour_project_and_tenant(place: &Place) {
    let store = place.open().await;
    let main = set_up(&store, "acme").await.access;
    let side = store.directory.bootstrap(wanted("acme", "side"), by(1)).await.expect("bootstraps").access;
    let other = set_up(&store, "other").await.access;
    use Metric::{ApiRequests, EventsDelivered};
    let counted = vec![
        counted(&main, ApiRequests, 1, 2),
        counted(&main, ApiRequests, HOUR - 1, 3),
        counted(&main, ApiRequests, HOUR, 5),
        counted(&side, ApiRequests, 2, 7),
        counted(&main, EventsDelivered, 3, 11),
        counted(&other, ApiRequests, 4, 13),
    ];
    store.usage.record(batch(NodeId::new(), 1, counted)).await.expect("records");

    let (tenant, project) = (main.tenant.id, main.project.id);
    let of_main = store.usage.usage(tenant, Some(project), at(0), at(2 * HOUR)).await.expect("reads");
    let expected = [window(ApiRequests, 0, 5), window(EventsDelivered, 0, 11), window(ApiRequests, HOUR, 5)];
    assert_eq!(of_main, expected);
    let of_all = store.usage.usage(tenant, None, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(of_all, [window(ApiRequests, 0, 12), window(EventsDelivered, 0, 11)]);
    let total = store.usage.total(tenant, ApiRequests, at(0), at(2 * HOUR)).await.expect("reads");
    assert_eq!(total, 17);
    let foreign = store.usage.usage(other.tenant.id, Some(project), at(0), at(HOUR)).await.expect("reads");
    assert!(foreign.is_empty());
    let nothing = store.usage.total(tenant, Metric::WebsocketMinutes, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(nothing, 0);

    let endless = store.usage.usage(tenant, None, at(0), at(400 * 24 * HOUR)).await.expect_err("too long");
    assert!(matches!(endless, StoreError::Invalid(_)), "{endless}");
    assert_eq!(hour_of(Timestamp::from_micros(-1)), Timestamp::from_micros(-HOUR));
}

/// More counters than fit into one statement, of which each statement size has its part.
pub async fn large_batches_are_added_whole(place: &Place) {
    let store = place.open().await;
    let access = set_up(&store, "acme").await.access;
    let node = NodeId::new();
    let counted: Vec<_> =
        (0..300).map(|hour| counted(&access, Metric::ApiRequests, hour * HOUR, hour as u64)).collect();
    for number in 1..=2 {
        assert!(store.usage.record(batch(node, number, counted.clone())).await.expect("records"));
    }
    let windows = store.usage.usage(access.tenant.id, None, at(0), at(300 * HOUR)).await.expect("reads");
    let expected: Vec<_> =
        (0..300).map(|hour| window(Metric::ApiRequests, hour * HOUR, 2 * hour as u64)).collect();
    assert_eq!(windows, expected);
}

/// Each node's batches are told apart, in pages, and make up the number.
pub async fn shares_explain_a_number(place: &Place) {
    let store = place.open().await;
    let main = set_up(&store, "acme").await.access;
    let side = store.directory.bootstrap(wanted("acme", "side"), by(1)).await.expect("bootstraps").access;
    let mut nodes = [NodeId::new(), NodeId::new()];
    nodes.sort_unstable();
    for (number, quantity) in [(1, 5), (3, 7)] {
        let counted = vec![
            counted(&main, Metric::EventsDelivered, 1, quantity),
            counted(&side, Metric::EventsDelivered, HOUR, 1),
            counted(&main, Metric::ApiRequests, 1, 100),
        ];
        store.usage.record(batch(nodes[0], number, counted)).await.expect("records");
    }
    let one = vec![counted(&main, Metric::EventsDelivered, 2, 11)];
    store.usage.record(batch(nodes[1], 8, one)).await.expect("records");

    let explain = Explain {
        tenant: main.tenant.id,
        project: None,
        from: at(0),
        to: at(2 * HOUR),
        after: None,
        limit: 2,
    };
    let first = store.usage.shares_of(Metric::EventsDelivered, explain).await.expect("reads");
    let told = |share: &crate::UsageShare| {
        (share.node, share.first_batch, share.last_batch, share.batches, share.quantity)
    };
    let expected = [(nodes[0], 1, 3, 2, 12), (nodes[1], 8, 8, 1, 11)];
    assert_eq!(first.iter().map(told).collect::<Vec<_>>(), expected);
    let last = first[1];
    let after = UsagePlace { window_start: last.window_start, project_id: last.project_id, last: last.node };
    let rest = Explain { after: Some(after), ..explain };
    let second = store.usage.shares_of(Metric::EventsDelivered, rest).await.expect("reads");
    assert_eq!(second.iter().map(told).collect::<Vec<_>>(), [(nodes[0], 1, 3, 2, 2)]);
    let of_main = Explain { project: Some(main.project.id), limit: 10, ..explain };
    assert_eq!(store.usage.shares_of(Metric::EventsDelivered, of_main).await.expect("reads").len(), 2);
    let foreign = Explain { tenant: set_up(&store, "other").await.access.tenant.id, ..of_main };
    assert!(store.usage.shares_of(Metric::EventsDelivered, foreign).await.expect("reads").is_empty());

    store.ledger.forget_explanations(at(HOUR)).await.expect("forgets");
    let left = store.usage.shares_of(Metric::EventsDelivered, explain).await.expect("reads");
    assert_eq!(left.iter().map(|share| share.window_start).collect::<Vec<_>>(), [at(HOUR)]);
    let total = store.usage.total(main.tenant.id, Metric::EventsDelivered, at(0), at(HOUR)).await;
    assert_eq!(total.expect("reads"), 23, "the number stays");
}

/// An hour is closed when every node that runs has told all of it, and the log is counted beyond it.
pub async fn hours_close_when_everybody_has_told(place: &Place) {
    let store = place.open().await;
    let node = NodeId::new();
    let closed = || async { store.usage.closed_until().await.expect("reads") };
    assert_eq!(closed().await, Timestamp::default(), "nothing is known");
    let told = |until| Batch { node, number: 1, until, counted: Vec::new() };
    store.usage.record(told(at(5))).await.expect("records");
    assert_eq!(closed().await, Timestamp::default(), "a node that is gone does not count");
    let count = super::ledger::step(1, None, 3, at(9));
    store.ledger.count(count).await.expect("counts");
    assert_eq!(closed().await, at(9));
    let lease = Duration::from_secs(600);
    store.nodes.beat(Heartbeat { node, started_at: at(0), confirmed: 0, lease }).await.expect("beats");
    assert_eq!(closed().await, at(5));
    let fresh = NodeId::new();
    store.nodes.beat(Heartbeat { node: fresh, started_at: at(0), confirmed: 0, lease }).await.expect("beats");
    assert_eq!(closed().await, Timestamp::default(), "one that runs has not told anything yet");
    store.usage.record(Batch { node: fresh, ..told(at(7)) }).await.expect("records");
    assert_eq!(closed().await, at(5));
}

pub async fn concurrent_nodes_add_up(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let mut accesses = Vec::new();
    for n in 0..5 {
        accesses.push(set_up(&nodes[0], &format!("tenant {n}")).await.access);
    }
    at_once(8, |n| {
        let usage = nodes[n % 2].usage.clone();
        let mut counted: Vec<_> =
            accesses.iter().map(|access| counted(access, Metric::EventsDelivered, 7, 1)).collect();
        if n % 2 == 0 {
            counted.reverse();
        }
        async move {
            let node = NodeId::new();
            for number in 1..=6 {
                assert!(usage.record(batch(node, number, counted.clone())).await.expect("records"));
            }
        }
    })
    .await;
    for access in accesses {
        let total = nodes[0].usage.total(access.tenant.id, Metric::EventsDelivered, at(0), at(HOUR)).await;
        assert_eq!(total.expect("reads"), 48);
    }
}
