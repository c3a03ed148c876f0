use super::place::Place;
use super::{at_once, by, set_up};
use crate::alerts::{Alert, AlertFilter, AlertState, AlertStates, Sighting, Telling, Told};
use crate::audit::Filter;
use crate::{After, Brake, Heartbeat, Standing, Store, StoreError};
use std::time::Duration;
use weir_core::{AlertId, NodeId, Severity, TenantId, Timestamp};

const LONG: Duration = Duration::from_secs(3600);

fn sighting(condition: &str, subject: &str, tenant: Option<TenantId>, severity: Severity) -> Sighting {
    Sighting {
        condition: condition.to_owned(),
        subject: subject.to_owned(),
        tenant,
        severity,
        message: format!("{condition} of {subject} is {severity}"),
        value: "9".to_owned(),
        limit: "5".to_owned(),
        times: 1,
        hold: LONG,
    }
}

async fn sight(store: &Store, one: Sighting) -> Vec<Alert> {
    store.alerts.sight(vec![one]).await.expect("is noted")
}

async fn all(store: &Store, of: Option<TenantId>, filter: AlertFilter) -> Vec<Alert> {
    store.alerts.alerts(of, filter, After::first(100)).await.expect("lists").items
}

pub async fn one_row_is_open_whoever_sees_it(place: &Place) {
    let store = place.open().await;
    let opened = at_once(8, |node| {
        let store = store.clone();
        async move {
            let other = |subject: &str| sighting("log-lag", subject, None, Severity::Warning);
            // In different orders, which must not deadlock.
            let mut seen = vec![other("a"), other("b"), other("c")];
            seen.rotate_left(node % 3);
            store.alerts.sight(seen).await.expect("is noted").len()
        }
    })
    .await;
    assert_eq!(opened.iter().sum::<usize>(), 3, "each is opened by one");
    let listed = all(&store, None, AlertFilter::default()).await;
    assert_eq!(listed.iter().map(|alert| alert.occurrences).collect::<Vec<_>>(), [8, 8, 8]);

    // It gets worse, and not better while it is open; what only goes on counts nothing.
    let worse = Sighting { times: 0, ..sighting("log-lag", "a", None, Severity::Critical) };
    assert_eq!(sight(&store, worse).await, []);
    sight(&store, Sighting { times: 0, ..sighting("log-lag", "a", None, Severity::Info) }).await;
    let of_a: Vec<_> = all(&store, None, AlertFilter::default()).await;
    let of_a = of_a.iter().find(|alert| alert.subject == "a").expect("is there");
    assert_eq!((of_a.severity, of_a.occurrences), (Severity::Critical, 8));
    assert_eq!(of_a.message, "log-lag of a is critical");
    assert!(of_a.last_seen_at >= of_a.first_seen_at);
}

pub async fn what_nobody_sees_any_more_is_over(place: &Place) {
    let store = place.open().await;
    let short = |times| Sighting {
        hold: Duration::from_millis(300),
        times,
        ..sighting("access-stale", "node", None, Severity::Critical)
    };
    let first = sight(&store, short(3)).await.pop().expect("is new");
    sight(&store, sighting("log-lag", "node", None, Severity::Info)).await;
    let cleared = loop {
        let cleared = store.alerts.clear(10).await.expect("clears");
        if !cleared.is_empty() {
            break cleared;
        }
    };
    assert_eq!(cleared.iter().map(|alert| alert.id).collect::<Vec<_>>(), [first.id], "the other is held");
    let resolved = cleared[0].resolved_at.expect("is over");
    assert!(resolved.since(cleared[0].last_seen_at) >= Duration::from_millis(300));
    assert_eq!(store.alerts.clear(10).await.expect("clears"), [], "once");
    // The same thing again is another alert.
    let second = sight(&store, short(0)).await.pop().expect("is new");
    assert!(second.id > first.id && second.occurrences == 1);

    assert_eq!(store.alerts.forget_alerts(LONG).await.expect("forgets"), 0);
    assert_eq!(store.alerts.forget_alerts(Duration::ZERO).await.expect("forgets"), 1);
    assert_eq!(all(&store, None, AlertFilter::default()).await.len(), 2, "open ones stay");
}

pub async fn lists_are_the_tenants_own_and_filtered(place: &Place) {
    let store = place.open().await;
    let [acme, rival] =
        [set_up(&store, "acme").await, set_up(&store, "rival").await].map(|made| made.access.tenant.id);
    for (tenant, severity) in
        [(Some(acme), Severity::Warning), (Some(rival), Severity::Critical), (None, Severity::Critical)]
    {
        let subject = tenant.map_or("installation".to_owned(), |tenant| tenant.to_string());
        sight(&store, sighting("auth-failures", &subject, tenant, severity)).await;
    }
    let whose = |list: Vec<Alert>| list.into_iter().map(|alert| alert.tenant_id).collect::<Vec<_>>();
    assert_eq!(whose(all(&store, Some(acme), AlertFilter::default()).await), [Some(acme)]);
    // Asking for another's finds nothing, with a filter as without.
    let theirs = AlertFilter { tenant: Some(rival), ..AlertFilter::default() };
    assert_eq!(whose(all(&store, Some(acme), theirs).await), [Some(acme)]);
    assert_eq!(whose(all(&store, None, theirs).await), [Some(rival)]);
    assert_eq!(whose(all(&store, None, AlertFilter::default()).await), [None, Some(rival), Some(acme)]);
    let critical = AlertFilter { severity: Some(Severity::Critical), ..AlertFilter::default() };
    assert_eq!(whose(all(&store, None, critical).await), [None, Some(rival)]);
    // Pages go on after an id.
    let page = store.alerts.alerts(None, AlertFilter::default(), After::first(2)).await.expect("lists");
    assert!(page.has_more);
    let next = After { after: page.items.last().map(|alert| alert.id), limit: 2 };
    let next = store.alerts.alerts(None, AlertFilter::default(), next).await.expect("lists");
    assert_eq!((whose(next.items), next.has_more), (vec![Some(acme)], false));
    assert_eq!(store.alerts.standing(LONG, 10).await.expect("lists").len(), 3);
}

pub async fn acknowledging_is_noted_once(place: &Place) {
    let store = place.open().await;
    let [acme, rival] =
        [set_up(&store, "acme").await, set_up(&store, "rival").await].map(|made| made.access.tenant.id);
    let raised = sight(&store, sighting("quota-threshold", "x", Some(acme), Severity::Info)).await;
    let id = raised[0].id;
    for (of, wanted) in [(Some(rival), id), (Some(acme), AlertId::new())] {
        let refused = store.alerts.acknowledge(of, wanted, by(1)).await.expect_err("is not theirs");
        assert!(matches!(refused, StoreError::NotFound("alert")), "{refused:?}");
    }
    let taken = store.alerts.acknowledge(Some(acme), id, by(1)).await.expect("is open");
    assert_eq!((taken.state(), taken.acknowledged_by.as_deref()), (AlertState::Acknowledged, Some("test")));
    let again = store.alerts.acknowledge(None, id, by(2)).await.expect("is open");
    assert_eq!(again.acknowledged_at, taken.acknowledged_at, "who was first stays");
    let entries = Filter { action: Some("alert.acknowledge".to_owned()), ..Filter::default() };
    let entries = store.audit.list(Some(acme), entries, After::first(10)).await.expect("reads").items;
    assert_eq!(entries.len(), 1);

    let states = |state| AlertFilter { states: Some(state), ..AlertFilter::default() };
    assert_eq!(all(&store, None, states(AlertStates::Open)).await.len(), 1);
    assert_eq!(all(&store, None, states(AlertStates::Only(AlertState::Raised))).await.len(), 0);
    assert_eq!(all(&store, None, states(AlertStates::Only(AlertState::Acknowledged))).await.len(), 1);
    assert_eq!(all(&store, None, states(AlertStates::Only(AlertState::Resolved))).await.len(), 0);

    let brief = Sighting {
        hold: Duration::ZERO,
        ..sighting("payment-failed", &acme.to_string(), Some(acme), Severity::Info)
    };
    let brief = sight(&store, brief).await.remove(0);
    while store.alerts.clear(10).await.expect("clears").is_empty() {}
    let refused = store.alerts.acknowledge(Some(acme), brief.id, by(3)).await.expect_err("is over");
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
}

pub async fn each_is_told_raised_then_resolved(place: &Place) {
    let store = place.open().await;
    let brief = Sighting { hold: Duration::ZERO, ..sighting("log-lag", "a", None, Severity::Info) };
    let id = sight(&store, brief).await[0].id;
    while store.alerts.clear(10).await.expect("clears").is_empty() {}
    let untold = async || store.alerts.untold(10).await.expect("reads");
    let what = |list: Vec<crate::alerts::Untold>| {
        list.into_iter().map(|one| (one.alert.id, one.telling, one.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(what(untold().await), [(id, Telling::Raised, 0)]);
    let settle =
        async |telling, outcome| store.alerts.settle_telling(id, telling, outcome).await.expect("ok");
    settle(Telling::Raised, Told::Again(Duration::ZERO)).await;
    assert_eq!(what(untold().await), [(id, Telling::Raised, 1)]);
    settle(Telling::Raised, Told::Again(LONG)).await;
    assert_eq!(what(untold().await), [], "not before it is due");
    settle(Telling::Raised, Told::Done).await;
    // Another node's late word about the same changes nothing.
    settle(Telling::Raised, Told::Again(LONG)).await;
    assert_eq!(what(untold().await), [(id, Telling::Resolved, 0)]);
    settle(Telling::Resolved, Told::Done).await;
    assert_eq!(what(untold().await), []);
}

pub async fn nodes_take_turns_and_say_what_they_run(place: &Place) {
    let store = place.open().await;
    let [one, two] = [NodeId::new(), NodeId::new()];
    for node in [one, two] {
        let beat = Heartbeat { node, started_at: Timestamp::default(), confirmed: 0, lease: LONG };
        store.nodes.beat(beat).await.expect("beats");
    }
    assert!(store.alerts.take_alert_turn(one, LONG).await.expect("asks"));
    assert!(!store.alerts.take_alert_turn(two, LONG).await.expect("asks"));
    assert!(store.alerts.take_alert_turn(one, LONG).await.expect("asks"), "who has it keeps it");
    store.nodes.leave(one).await.expect("leaves");
    assert!(store.alerts.take_alert_turn(two, LONG).await.expect("asks"));

    store.alerts.note_version(two, "9.9.9".to_owned()).await.expect("notes");
    assert_eq!(store.alerts.node_versions().await.expect("reads"), [(two, "9.9.9".to_owned())]);
    assert!(store.alerts.database_time().await.expect("tells") > Timestamp::default());
}

pub async fn tenants_in_arrears_and_near_their_limit_are_found(place: &Place) {
    let store = place.open().await;
    let [acme, rival] =
        [set_up(&store, "acme").await, set_up(&store, "rival").await].map(|made| made.access.tenant.id);
    assert_eq!(store.alerts.unpaid(None, 10).await.expect("reads"), []);
    store.payments.link_customer(rival, "cus_1".to_owned(), by(0)).await.expect("links");
    let look = store.payments.begin_look(rival).await.expect("looks");
    let brake = Brake { most: 10, within: LONG };
    store.payments.set_standing(rival, look, Standing::PastDue, brake, by(1)).await.expect("stands");
    let unpaid = store.alerts.unpaid(None, 10).await.expect("reads");
    assert_eq!(unpaid.iter().map(|one| (one.tenant, one.suspended)).collect::<Vec<_>>(), [(rival, false)]);
    assert!(unpaid[0].since.is_some());
    assert_eq!(store.alerts.unpaid(Some(rival), 10).await.expect("reads"), []);
    assert_eq!(store.alerts.quotas_reached(None, 10).await.expect("reads"), [], "nobody has a limit");
    assert_ne!(acme, rival);
}
