use super::place::Place;
use super::{at, at_once, by, set_up, wanted};
use crate::{Access, Counted, Metric, StoreError, UsageWindow, hour_of};
use weir_core::{NodeId, Timestamp};

const HOUR: i64 = 3_600_000_000;

fn counted(access: &Access, metric: Metric, time: i64, quantity: u64) -> Counted {
    Counted { tenant_id: access.tenant.id, project_id: access.project.id, metric, at: at(time), quantity }
}

fn window(metric: Metric, time: i64, quantity: u64) -> UsageWindow {
    UsageWindow { window_start: at(time), metric, quantity }
}

pub async fn batches_count_once(place: &Place) {
    let store = place.open().await;
    let access = set_up(&store, "acme").await.access;
    let (node, other) = (NodeId::new(), NodeId::new());
    let batch = || vec![counted(&access, Metric::ApiRequests, 5, 10)];
    assert!(store.usage.record(node, 1, batch()).await.expect("records"));
    assert!(!store.usage.record(node, 1, batch()).await.expect("a repetition"));
    assert!(store.usage.record(node, 2, batch()).await.expect("records"));
    assert!(!store.usage.record(node, 1, batch()).await.expect("a late repetition"));
    assert!(store.usage.record(other, 1, batch()).await.expect("numbers are a node's own"));
    let total = store.usage.total(access.tenant.id, Metric::ApiRequests, at(0), at(HOUR)).await;
    assert_eq!(total.expect("reads"), 30);

    let too_much = vec![counted(&access, Metric::ApiRequests, 5, u64::MAX)];
    let error = store.usage.record(node, 3, too_much).await.expect_err("does not fit");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert!(store.usage.record(node, 3, batch()).await.expect("a failed batch was not taken"));

    let results = at_once(8, |_| {
        let (usage, batch) = (store.usage.clone(), batch());
        async move { usage.record(node, 4, batch).await.expect("answers") }
    })
    .await;
    assert_eq!(results.iter().filter(|taken| **taken).count(), 1);
}

pub async fn is_summed_by_hour_project_and_tenant(place: &Place) {
    let store = place.open().await;
    let main = set_up(&store, "acme").await.access;
    let side = store.directory.bootstrap(wanted("acme", "side"), by(1)).await.expect("bootstraps").access;
    let other = set_up(&store, "other").await.access;
    use Metric::{EventsDelivered, EventsPublished};
    let batch = vec![
        counted(&main, EventsPublished, 1, 2),
        counted(&main, EventsPublished, HOUR - 1, 3),
        counted(&main, EventsPublished, HOUR, 5),
        counted(&side, EventsPublished, 2, 7),
        counted(&main, EventsDelivered, 3, 11),
        counted(&other, EventsPublished, 4, 13),
    ];
    store.usage.record(NodeId::new(), 1, batch).await.expect("records");

    let (tenant, project) = (main.tenant.id, main.project.id);
    let of_main = store.usage.usage(tenant, Some(project), at(0), at(2 * HOUR)).await.expect("reads");
    let expected =
        [window(EventsDelivered, 0, 11), window(EventsPublished, 0, 5), window(EventsPublished, HOUR, 5)];
    assert_eq!(of_main, expected);
    let of_all = store.usage.usage(tenant, None, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(of_all, [window(EventsDelivered, 0, 11), window(EventsPublished, 0, 12)]);
    let total = store.usage.total(tenant, EventsPublished, at(0), at(2 * HOUR)).await.expect("reads");
    assert_eq!(total, 17);
    let foreign = store.usage.usage(other.tenant.id, Some(project), at(0), at(HOUR)).await.expect("reads");
    assert!(foreign.is_empty());
    let nothing = store.usage.total(tenant, Metric::WebsocketMinutes, at(0), at(HOUR)).await.expect("reads");
    assert_eq!(nothing, 0);

    let endless = store.usage.usage(tenant, None, at(0), at(400 * 24 * HOUR)).await.expect_err("too long");
    assert!(matches!(endless, StoreError::Invalid(_)), "{endless}");
    assert_eq!(hour_of(Timestamp::from_micros(-1)), Timestamp::from_micros(-HOUR));
}

pub async fn concurrent_nodes_add_up(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let mut accesses = Vec::new();
    for n in 0..5 {
        accesses.push(set_up(&nodes[0], &format!("tenant {n}")).await.access);
    }
    at_once(8, |n| {
        let usage = nodes[n % 2].usage.clone();
        let mut batch: Vec<_> =
            accesses.iter().map(|access| counted(access, Metric::EventsDelivered, 7, 1)).collect();
        if n % 2 == 0 {
            batch.reverse();
        }
        async move {
            let node = NodeId::new();
            for number in 1..=6 {
                assert!(usage.record(node, number, batch.clone()).await.expect("records"));
            }
        }
    })
    .await;
    for access in accesses {
        let total = nodes[0].usage.total(access.tenant.id, Metric::EventsDelivered, at(0), at(HOUR)).await;
        assert_eq!(total.expect("reads"), 48);
    }
}
