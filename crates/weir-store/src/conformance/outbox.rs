use super::place::Place;
use super::{at, at_once, set_up};
use crate::{Batch, Counted, Heartbeat, Metric, ReportKey, ReportState, Settled, Store, SubscriptionState};
use std::sync::Arc;
use std::time::Duration;
use weir_core::{ManualClock, NodeId, TenantId};

const HOUR: i64 = 3_600_000_000;
const METRIC: Metric = Metric::ApiRequests;

/// A tenant that subscribed in the middle of an hour, and its project.
async fn subscribed(store: &Store, name: &str, since: i64) -> (TenantId, Counted) {
    let access = set_up(store, name).await.access;
    let tenant = access.tenant.id;
    let one = SubscriptionState {
        id: format!("sub_{name}"),
        customer_id: format!("cus_{name}"),
        since: at(since),
        ended: None,
    };
    noted(store, tenant, vec![one]).await;
    let counted =
        Counted { tenant_id: tenant, project_id: access.project.id, metric: METRIC, at: at(0), quantity: 1 };
    (tenant, counted)
}

async fn used(store: &Store, counted: Counted, hour: i64, quantity: u64) {
    let counted = Counted { at: at(hour * HOUR + 1), quantity, ..counted };
    let batch = Batch { node: NodeId::new(), number: 1, until: at(0), counted: vec![counted] };
    assert!(store.usage.record(batch).await.expect("records"));
}

async fn write(store: &Store, until: i64) -> u64 {
    store.outbox.write_reports(METRIC, at(-100 * HOUR), at(until * HOUR)).await.expect("writes")
}

async fn due(store: &Store) -> Vec<(ReportKey, i64)> {
    let (_, found) = store.outbox.due_reports(100).await.expect("reads");
    found.into_iter().map(|report| (report.key, report.quantity)).collect()
}

fn key(tenant_id: TenantId, hour: i64, revision: u32) -> ReportKey {
    ReportKey { tenant_id, metric: METRIC, window_start: at(hour * HOUR), revision }
}

fn settled(key: ReportKey, state: ReportState) -> Settled {
    Settled { key, state, due_at: at(0), note: None }
}

async fn sent(store: &Store, key: ReportKey) {
    store.outbox.begin_reports(vec![(key, false)], at(0)).await.expect("begins");
    store.outbox.settle_reports(vec![settled(key, ReportState::Sent)]).await.expect("settles");
}

async fn turned(place: &Place) -> Store {
    place.open_by(Arc::new(ManualClock::new(at(0)))).await
}

async fn noted(store: &Store, tenant: TenantId, all: Vec<SubscriptionState>) {
    let look = store.payments.begin_look(tenant).await.expect("looks");
    assert!(store.payments.note_subscriptions(tenant, look, all).await.expect("notes"));
}

pub async fn reports_add_up_to_the_usage(place: &Place) {
    let store = turned(place).await;
    let (tenant, counted) = subscribed(&store, "acme", HOUR / 2).await;
    let stranger = set_up(&store, "stranger").await.access;
    for (hour, quantity) in [(0, 5), (1, 7), (2, 11), (3, 13)] {
        used(&store, counted, hour, quantity).await;
    }
    let foreign = Counted { tenant_id: stranger.tenant.id, project_id: stranger.project.id, ..counted };
    used(&store, foreign, 1, 100).await;
    // The hour in which it subscribed is not reported, nor is one that is open, nor is who pays nothing.
    assert_eq!(write(&store, 3).await, 2);
    assert_eq!(write(&store, 3).await, 0, "what is written is not written again");
    assert_eq!(due(&store).await, [(key(tenant, 1, 1), 7)], "one of a tenant at a time, the oldest");
    sent(&store, key(tenant, 1, 1)).await;
    assert_eq!(due(&store).await, [(key(tenant, 2, 1), 11)]);

    // What comes late is a report of the difference, after the one before it.
    used(&store, counted, 2, 4).await;
    assert_eq!(write(&store, 4).await, 2);
    assert_eq!(due(&store).await, [(key(tenant, 2, 1), 11)]);
    sent(&store, key(tenant, 2, 1)).await;
    assert_eq!(due(&store).await, [(key(tenant, 2, 2), 4)]);
    sent(&store, key(tenant, 2, 2)).await;
    assert_eq!(store.outbox.arrived(tenant, METRIC, at(2 * HOUR)).await.expect("a sum"), 15);
    sent(&store, key(tenant, 3, 1)).await;
    assert!(due(&store).await.is_empty());
    assert_eq!(write(&store, 4).await, 0);
    assert!(store.outbox.open_reports().await.expect("none").is_empty());
}

pub async fn reports_are_written_once_by_however_many(place: &Place) {
    let store = turned(place).await;
    let other = turned(place).await;
    let mut tenants = Vec::new();
    for n in 0..10 {
        let (tenant, counted) = subscribed(&store, &format!("tenant {n}"), 0).await;
        used(&store, counted, 1, 10 + n).await;
        tenants.push(tenant);
    }
    let written = at_once(6, |n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        async move { write(&store, 5).await }
    })
    .await;
    assert_eq!(written.iter().sum::<u64>(), 10, "{written:?}");
    let found = due(&store).await;
    assert_eq!(found.len(), 10);
    assert_eq!(found.iter().map(|(_, quantity)| quantity).sum::<i64>(), 145);
}

pub async fn a_report_says_how_often_it_was_sent_and_what_became_of_it(place: &Place) {
    let clock = Arc::new(ManualClock::new(at(0)));
    let store = place.open_by(clock.clone()).await;
    let (tenant, counted) = subscribed(&store, "acme", 0).await;
    used(&store, counted, 1, 5).await;
    used(&store, counted, 2, 6).await;
    write(&store, 3).await;
    let (first, second) = (key(tenant, 1, 1), key(tenant, 2, 1));
    let read = async |now| {
        clock.set(at(now));
        let (time, mut due) = store.outbox.due_reports(9).await.expect("reads");
        assert_eq!(time, at(now));
        due.remove(0)
    };
    for n in 1..=3 {
        store.outbox.begin_reports(vec![(first, false)], at(n)).await.expect("begins");
        let report = read(0).await;
        assert_eq!((report.attempts, report.first_sent_at), (n as u32, Some(at(1))));
        assert_eq!((report.last_sent_at, report.state), (Some(at(n)), ReportState::Pending));
    }
    let unsure =
        Settled { due_at: at(50), note: Some("no answer".into()), ..settled(first, ReportState::Unsure) };
    store.outbox.settle_reports(vec![unsure]).await.expect("settles");
    assert_eq!(read(49).await.key, second, "others do not wait for it");
    let report = read(50).await;
    assert_eq!((report.state, report.note.as_deref()), (ReportState::Unsure, Some("no answer")));
    store.outbox.begin_reports(vec![(first, true)], at(60)).await.expect("begins afresh");
    let report = read(60).await;
    assert_eq!((report.state, report.first_sent_at), (ReportState::Pending, Some(at(60))));

    let adjusted = Settled { note: Some("too old".into()), ..settled(second, ReportState::Adjustment) };
    store.outbox.settle_reports(vec![settled(first, ReportState::Sent), adjusted]).await.expect("settles");
    // A late copy of the same work changes nothing that is done.
    store.outbox.settle_reports(vec![settled(first, ReportState::Unsure)]).await.expect("settles");
    store.outbox.begin_reports(vec![(second, false)], at(70)).await.expect("begins nothing");
    assert!(due(&store).await.is_empty());
    assert!(store.outbox.reject_report(first, "no such customer".into()).await.expect("rejects"));
    assert!(!store.outbox.reject_report(first, "again".into()).await.expect("is rejected"));
    assert!(!store.outbox.reject_report(key(tenant, 9, 1), "unknown".into()).await.expect("is not known"));
    let open = store.outbox.adjustments(tenant, at(0), at(5 * HOUR)).await.expect("reads");
    let notes: Vec<_> = open.iter().map(|report| (report.state, report.note.as_deref())).collect();
    let expected =
        [(ReportState::Rejected, Some("no such customer")), (ReportState::Adjustment, Some("too old"))];
    assert_eq!(notes, expected);
    assert_eq!(store.outbox.arrived(tenant, METRIC, at(HOUR)).await.expect("a sum"), 0);
    assert_eq!(write(&store, 3).await, 0, "what people settle is not reported again");
    let counts = store.outbox.open_reports().await.expect("counts");
    assert_eq!(counts.iter().map(|count| count.reports).sum::<u64>(), 2);
}

pub async fn hours_belong_to_the_subscription_that_covers_them(place: &Place) {
    let store = turned(place).await;
    let (tenant, counted) = subscribed(&store, "acme", 0).await;
    for hour in 0..8 {
        used(&store, counted, hour, 1 << hour).await;
    }
    let one = |id: &str, since, ended: Option<i64>| SubscriptionState {
        id: id.into(),
        customer_id: "cus_acme".into(),
        since: at(since),
        ended: ended.map(at),
    };
    // The first ends within hour 3; the second, begun in hour 5, is replaced by a third in hour 6.
    let all = vec![
        one("sub_three", 6 * HOUR + 1, None),
        one("sub_two", 5 * HOUR - 1, None),
        one("sub_acme", 0, Some(3 * HOUR + 5)),
    ];
    for _ in 0..2 {
        noted(&store, tenant, all.clone()).await;
    }
    write(&store, 8).await;
    let mut hours = Vec::new();
    while let [(key, quantity)] = due(&store).await[..] {
        hours.push(quantity);
        sent(&store, key).await;
    }
    assert_eq!(hours, [1, 2, 4, 32, 64, 128], "3 and 4 are nobody's");
    let account = store.billing.account(tenant).await.expect("an account");
    assert_eq!(account.stripe_subscription_id.as_deref(), Some("sub_three"));
}

pub async fn one_node_reports_at_a_time(place: &Place) {
    let (store, other) = (place.open().await, place.open().await);
    let [a, b] = [NodeId::new(), NodeId::new()];
    let (long, short) = (Duration::from_secs(600), Duration::ZERO);
    for node in [a, b] {
        let beat = Heartbeat { node, started_at: at(0), confirmed: 0, lease: long };
        store.nodes.beat(beat).await.expect("beats");
    }
    assert!(store.outbox.take_turn(a, long).await.expect("takes"));
    assert!(store.outbox.take_turn(a, short).await.expect("keeps"));
    // What has run out is another's, once the clock has moved.
    while !other.outbox.take_turn(b, long).await.expect("asks") {}
    assert!(!store.outbox.take_turn(a, long).await.expect("asks"));
    store.nodes.leave(b).await.expect("leaves");
    assert!(store.outbox.take_turn(a, long).await.expect("takes"), "whose node is gone has no turn");
}

pub async fn absurd_usage_stops_nobody_elses_reports(place: &Place) {
    let store = turned(place).await;
    let (tenant, counted) = subscribed(&store, "acme", 0).await;
    let (absurd, theirs) = subscribed(&store, "absurd", 0).await;
    used(&store, counted, 1, 5).await;
    for _ in 0..3 {
        used(&store, theirs, 1, 1 << 52).await;
    }
    assert_eq!(write(&store, 2).await, 2);
    let mut found = due(&store).await;
    found.sort_by_key(|(_, quantity)| *quantity);
    assert_eq!(found, [(key(tenant, 1, 1), 5), (key(absurd, 1, 1), 1_000_000_000_000_000)]);
}
