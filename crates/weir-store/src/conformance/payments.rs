use super::place::Place;
use super::{at, at_once, by, set_up};
use crate::{Brake, Handled, Standing, Stood, Store, TenantStatus, UNPAID};
use std::sync::Arc;
use std::time::Duration;
use weir_core::{ManualClock, TenantId};

const LOOSE: Brake = Brake { most: 1_000, within: Duration::from_secs(600) };

async fn turned(place: &Place) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at(0)));
    (place.open_by(clock.clone()).await, clock)
}

async fn tenant(store: &Store, name: &str) -> TenantId {
    set_up(store, name).await.access.tenant.id
}

async fn stands(store: &Store, tenant: TenantId) -> (TenantStatus, Option<String>, Standing) {
    let read = store.tenants.get(tenant).await.expect("the tenant");
    (read.status, read.status_reason, store.billing.account(tenant).await.expect("an account").standing)
}

async fn set(store: &Store, tenant: TenantId, standing: Standing, brake: Brake) -> &'static str {
    let look = store.payments.begin_look(tenant).await.expect("looks");
    match store.payments.set_standing(tenant, look, standing, brake, by(5)).await.expect("sets") {
        Stood::Outdated => "outdated",
        Stood::Already => "already",
        Stood::Changed(changed) => {
            assert_eq!(changed.change.tenant_id, tenant);
            "changed"
        }
        Stood::Braked => "braked",
    }
}

pub async fn a_tenant_has_one_customer(place: &Place) {
    let (store, _clock) = turned(place).await;
    let (acme, other) = (tenant(&store, "acme").await, tenant(&store, "other").await);
    let linked = at_once(6, |n| {
        let store = store.clone();
        async move { store.payments.link_customer(acme, format!("cus_{n}"), by(1)).await.expect("links") }
    })
    .await;
    assert!(linked.iter().all(|customer| customer == &linked[0]), "{linked:?}");
    let whose =
        async |customer: &str| store.payments.tenant_of_customer(customer.into()).await.expect("reads");
    assert_eq!(whose(&linked[0]).await, Some(acme));
    assert_eq!(whose("cus_nobody").await, None);
    store.payments.link_customer(other, linked[0].clone(), by(1)).await.expect_err("it is another's");
    assert_eq!(store.billing.account(other).await.expect("an account").stripe_customer_id, None);
}

pub async fn unpaid_bills_suspend_and_payment_mends_it(place: &Place) {
    let (store, clock) = turned(place).await;
    let acme = tenant(&store, "acme").await;
    assert_eq!(set(&store, acme, Standing::Active, LOOSE).await, "already");
    assert_eq!(set(&store, acme, Standing::PastDue, LOOSE).await, "changed");
    clock.advance(Duration::from_secs(60));
    assert_eq!(set(&store, acme, Standing::PastDue, LOOSE).await, "already");
    assert_eq!(stands(&store, acme).await, (TenantStatus::PastDue, Some(UNPAID.into()), Standing::PastDue));
    let account = store.billing.account(acme).await.expect("an account");
    assert_eq!(account.past_due_since, Some(at(0)), "since the first time");
    assert!(store.payments.past_due(at(-1), 9).await.expect("reads").is_empty());
    assert_eq!(store.payments.past_due(at(0), 9).await.expect("reads"), [acme]);

    assert_eq!(set(&store, acme, Standing::Suspended, LOOSE).await, "changed");
    assert_eq!(set(&store, acme, Standing::Suspended, LOOSE).await, "already");
    let suspended = (TenantStatus::Suspended, Some(UNPAID.into()), Standing::Suspended);
    assert_eq!(stands(&store, acme).await, suspended);
    assert_eq!(set(&store, acme, Standing::PastDue, LOOSE).await, "already");
    assert_eq!(stands(&store, acme).await, suspended, "only a payment mends it");
    assert!(store.payments.past_due(at(0), 9).await.expect("reads").is_empty());
    assert_eq!(set(&store, acme, Standing::Active, LOOSE).await, "changed");
    assert_eq!(stands(&store, acme).await, (TenantStatus::Active, None, Standing::Active));
    assert_eq!(store.billing.account(acme).await.expect("an account").past_due_since, None);

    // Staff let it go on although it has not paid: it has another time of grace.
    set(&store, acme, Standing::Suspended, LOOSE).await;
    store.tenants.set_status(acme, TenantStatus::Active, None, by(6)).await.expect("resumes");
    clock.advance(Duration::from_secs(60));
    assert_eq!(set(&store, acme, Standing::PastDue, LOOSE).await, "changed");
    let account = store.billing.account(acme).await.expect("an account");
    assert_eq!((account.standing, account.past_due_since), (Standing::PastDue, Some(at(120_000_000))));
}

pub async fn other_suspensions_are_not_ended_by_payments(place: &Place) {
    let (store, _clock) = turned(place).await;
    let acme = tenant(&store, "acme").await;
    let fraud = Some("fraud".to_owned());
    store.tenants.set_status(acme, TenantStatus::Suspended, fraud.clone(), by(1)).await.expect("suspends");
    for standing in [Standing::PastDue, Standing::Suspended, Standing::Active] {
        assert_eq!(set(&store, acme, standing, LOOSE).await, "already");
        assert_eq!(stands(&store, acme).await, (TenantStatus::Suspended, fraud.clone(), standing));
    }
}

pub async fn the_brake_stops_a_wave_of_suspensions(place: &Place) {
    const MOST: u32 = 5;
    let (store, clock) = turned(place).await;
    let brake = Brake { most: MOST, within: Duration::from_secs(600) };
    let mut tenants = Vec::new();
    for n in 0..12 {
        let tenant = tenant(&store, &format!("tenant {n}")).await;
        set(&store, tenant, Standing::PastDue, brake).await;
        tenants.push(tenant);
    }
    let outcomes = at_once(12, |n| {
        let (store, tenant) = (store.clone(), tenants[n]);
        async move { set(&store, tenant, Standing::Suspended, brake).await }
    })
    .await;
    let changed = outcomes.iter().filter(|outcome| **outcome == "changed").count();
    assert_eq!((changed, outcomes.iter().filter(|outcome| **outcome == "braked").count()), (5, 7));
    let left = store.payments.past_due(at(0), 99).await.expect("reads");
    assert_eq!(left.len(), 7, "who is not suspended stays past due");
    clock.advance(Duration::from_secs(599));
    assert_eq!(set(&store, left[0], Standing::Suspended, brake).await, "braked");
    assert_eq!(set(&store, left[0], Standing::Active, brake).await, "changed", "mending is never braked");
    clock.advance(Duration::from_secs(2));
    assert_eq!(set(&store, left[1], Standing::Suspended, brake).await, "changed");
}

pub async fn webhooks_are_taken_once_and_kept_until_done(place: &Place) {
    let (store, clock) = turned(place).await;
    let taken = at_once(8, |_| {
        let store = store.clone();
        async move {
            let kind = "invoice.paid".to_owned();
            store.payment_events.take_event("evt_1".into(), kind, Some("cus_1".into())).await.expect("takes")
        }
    })
    .await;
    assert_eq!(taken.iter().filter(|new| **new).count(), 1);
    let due = async || store.payment_events.due_events(9).await.expect("reads");
    let event = due().await.remove(0);
    assert_eq!(
        (event.id.as_str(), event.customer_id.as_deref(), event.attempts),
        ("evt_1", Some("cus_1"), 0)
    );
    store.payment_events.settle_event("evt_1".into(), Handled::Again(at(5))).await.expect("settles");
    assert!(due().await.is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(due().await[0].attempts, 1);
    store
        .payment_events
        .settle_event("evt_1".into(), Handled::Done("looked at".into()))
        .await
        .expect("settles");
    assert!(due().await.is_empty());
    assert!(
        !store
            .payment_events
            .take_event("evt_1".into(), "invoice.paid".into(), None)
            .await
            .expect("is known")
    );
    assert_eq!(store.payment_events.forget_events(Duration::from_secs(1)).await.expect("forgets"), 0);
    clock.advance(Duration::from_secs(2));
    assert_eq!(store.payment_events.forget_events(Duration::from_secs(1)).await.expect("forgets"), 1);
}

pub async fn what_an_older_look_found_is_dropped(place: &Place) {
    let (store, _clock) = turned(place).await;
    let acme = tenant(&store, "acme").await;
    let looks = at_once(4, |_| {
        let store = store.clone();
        async move { store.payments.begin_look(acme).await.expect("looks") }
    })
    .await;
    let newest = looks.iter().copied().max().expect("four");
    for look in looks {
        let stood = store.payments.set_standing(acme, look, Standing::PastDue, LOOSE, by(1)).await;
        let stood = stood.expect("answers");
        match look == newest {
            true => assert!(matches!(stood, Stood::Changed(_) | Stood::Already), "{stood:?}"),
            false => assert!(matches!(stood, Stood::Outdated), "{stood:?}"),
        }
        let noted = store.payments.note_subscriptions(acme, look, Vec::new()).await.expect("answers");
        assert_eq!(noted, look == newest);
    }
    assert_eq!(stands(&store, acme).await.2, Standing::PastDue);
}
