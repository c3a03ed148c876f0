use super::place::Place;
use super::{at, at_once, by, new_tenant};
use crate::{Account, NewTenant, Overrides, Standing, Store, StoreError};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{ManualClock, Period, Plan, PlanName, TenantId, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn period(start: &str, end: &str) -> Period {
    Period { start: time(start), end: time(end) }
}

/// A store with a clock that shows when its tenants were made.
async fn turned(place: &Place) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at(0)));
    (place.open_by(clock.clone()).await, clock)
}

async fn tenant(store: &Store, name: &str, plan: PlanName) -> TenantId {
    let new = NewTenant { plan, ..new_tenant(name) };
    store.tenants.create(new, by(0)).await.expect("creates").id
}

async fn account(store: &Store, tenant: TenantId) -> Account {
    store.billing.account(tenant).await.expect("an account")
}

fn overrides(fields: &serde_json::Value) -> Overrides {
    Overrides::new(fields.as_object().expect("an object").clone()).expect("limits")
}

pub async fn accounts_are_made_when_they_are_looked_at(place: &Place) {
    let (store, _clock) = turned(place).await;
    let tenant = tenant(&store, "acme", PlanName::Pro).await;
    let accounts = at_once(8, |_| {
        let store = store.clone();
        async move { store.billing.account(tenant).await.expect("an account") }
    })
    .await;
    for account in &accounts {
        assert_eq!(account, &accounts[0]);
    }
    let account = &accounts[0];
    assert_eq!((account.tenant_id, &account.plan), (tenant, &Plan::of(PlanName::Pro)));
    assert_eq!(account.period, period("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"));
    assert_eq!((account.standing, account.past_due_since), (Standing::Active, None));
    assert_eq!((account.spend_cap_micros, account.event_limit()), (None, None));
    assert_eq!((&account.stripe_customer_id, &account.stripe_subscription_id), (&None, &None));
    let missing = store.billing.account(TenantId::new()).await.expect_err("nobody");
    assert!(matches!(missing, StoreError::NotFound("tenant")), "{missing}");
    // By the database's own clock too.
    let by_database = self::account(&place.open().await, tenant).await;
    assert!(by_database.period.end >= account.period.end);
}

pub async fn periods_follow_each_other_and_never_go_back(place: &Place) {
    let (store, clock) = turned(place).await;
    let tenant = tenant(&store, "acme", PlanName::Free).await;
    let first = account(&store, tenant).await.period;
    clock.set(first.end.minus(Duration::from_micros(1)));
    assert_eq!(account(&store, tenant).await.period, first);
    clock.set(first.end);
    let second = account(&store, tenant).await.period;
    assert_eq!(second, period("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"));
    for back in [HOUR, 90 * DAY] {
        clock.set(first.end.minus(back));
        assert_eq!(account(&store, tenant).await.period, second, "a period that ended is not opened again");
    }
    // Nobody looked for months.
    clock.set(time("2028-02-29T12:00:00Z"));
    let leap = account(&store, tenant).await.period;
    assert_eq!(leap, period("2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"));
}

pub async fn a_subscription_sets_the_period(place: &Place) {
    let (store, clock) = turned(place).await;
    let tenant = tenant(&store, "acme", PlanName::Pro).await;
    clock.set(time("2026-01-20T00:00:00Z"));
    let original = account(&store, tenant).await;
    let wanted = period("2026-01-12T15:10:00Z", "2026-02-12T15:10:00Z");
    let set = store.billing.set_period(tenant, wanted.start, wanted, by(1)).await.expect("sets");
    assert_eq!(set.period, period("2026-01-12T15:00:00Z", "2026-02-12T15:00:00Z"));
    assert_eq!(account(&store, tenant).await, set);
    let again = store.billing.set_period(tenant, wanted.start, wanted, by(2)).await.expect("again");
    assert_eq!(again, set);
    let old = store.billing.set_period(tenant, original.anchor, original.period, by(3)).await.expect("late");
    assert_eq!(old, set, "an old message changes nothing");
    for wrong in [
        period("2026-01-20T01:00:00Z", "2026-02-20T01:00:00Z"),
        period("2026-01-19T01:10:00Z", "2026-01-19T01:50:00Z"),
        period("2026-01-19T01:10:00Z", "2025-01-19T01:50:00Z"),
    ] {
        let error = store.billing.set_period(tenant, wrong.start, wrong, by(4)).await.expect_err("wrong");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    // No word of the next one came: it is a month of the subscription's anchor.
    clock.set(time("2026-02-12T15:00:00Z"));
    assert_eq!(account(&store, tenant).await.period, period("2026-02-12T15:00:00Z", "2026-03-12T15:00:00Z"));
    // A period of another length leaves no hole behind it and no overlap.
    let week = period("2026-02-12T16:00:00Z", "2026-02-20T00:00:00Z");
    clock.set(time("2026-02-13T00:00:00Z"));
    store.billing.set_period(tenant, wanted.start, week, by(5)).await.expect("sets");
    clock.set(week.end);
    assert_eq!(account(&store, tenant).await.period, period("2026-02-20T00:00:00Z", "2026-03-12T15:00:00Z"));
    let nobody =
        store.billing.set_period(TenantId::new(), week.start, week, by(6)).await.expect_err("nobody");
    assert!(matches!(nobody, StoreError::NotFound("tenant")), "{nobody}");
}

pub async fn who_bought_a_plan_keeps_its_terms(place: &Place) {
    let (store, _clock) = turned(place).await;
    let terms = [PlanName::Free, PlanName::Pro, PlanName::Enterprise].map(Plan::of);
    assert_eq!(
        store.billing.plans().await.expect("plans"),
        terms,
        "the database begins with what the program says"
    );
    let early = tenant(&store, "early", PlanName::Pro).await;
    account(&store, early).await;
    let dearer = Plan { monthly_events: Some(9), price_per_event_micros: 5, ..Plan::of(PlanName::Pro) };
    let second = store.billing.add_plan(dearer.clone(), by(1)).await.expect("adds");
    assert_eq!(second, Plan { version: 2, ..dearer });
    assert_eq!(store.billing.plans().await.expect("plans")[1], second);
    assert_eq!(store.billing.plan(PlanName::Pro, 1).await.expect("a plan"), terms[1]);
    let missing = store.billing.plan(PlanName::Pro, 3).await.expect_err("none yet");
    assert!(matches!(missing, StoreError::NotFound(_)), "{missing}");
    let too_much = Plan { price_per_event_micros: u64::MAX, ..second.clone() };
    let refused = store.billing.add_plan(too_much, by(2)).await.expect_err("too much");
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused}");

    let late = tenant(&store, "late", PlanName::Pro).await;
    assert_eq!(account(&store, late).await.plan, second);
    assert_eq!(account(&store, early).await.plan, terms[1]);
    let own = overrides(&json!({ "monthly_events": 7 }));
    store.tenants.set_plan(early, PlanName::Pro, own, by(3)).await.expect("sets");
    let kept = account(&store, early).await;
    assert_eq!((kept.plan.version, kept.event_limit()), (1, Some(7)));
    for plan in [PlanName::Enterprise, PlanName::Pro] {
        store.tenants.set_plan(early, plan, Overrides::default(), by(4)).await.expect("sets");
    }
    assert_eq!(account(&store, early).await.plan, second, "it was sold anew");
}

pub async fn terms_are_remembered(place: &Place) {
    let (store, clock) = turned(place).await;
    let tenant = tenant(&store, "acme", PlanName::Free).await;
    assert_eq!(store.billing.terms(tenant).await.expect("terms"), [], "nobody looked yet");
    let begun = store.tenants.get(tenant).await.expect("reads").created_at;
    account(&store, tenant).await;
    let told = |terms: Vec<crate::Terms>| {
        terms.iter().map(|one| (one.since, one.plan.name, one.plan.version)).collect::<Vec<_>>()
    };
    let mut expected = vec![(begun, PlanName::Free, 1)];
    assert_eq!(told(store.billing.terms(tenant).await.expect("terms")), expected);
    // Other limits on the same plan are no other terms; two changes at once leave the last.
    let plans = [PlanName::Free, PlanName::Enterprise, PlanName::Pro, PlanName::Free];
    for (days, plan) in [10, 20, 20, 40].into_iter().zip(plans) {
        clock.set(at(0).plus(DAY * days));
        store.tenants.set_plan(tenant, plan, Overrides::default(), by(days.into())).await.expect("sets");
    }
    expected.push((at(0).plus(DAY * 20), PlanName::Pro, 1));
    expected.push((at(0).plus(DAY * 40), PlanName::Free, 1));
    assert_eq!(told(store.billing.terms(tenant).await.expect("terms")), expected);
    let other = store.billing.terms(TenantId::new()).await.expect("nobody's");
    assert_eq!(other, []);
}

pub async fn a_cap_is_for_plans_with_a_price(place: &Place) {
    let (store, _clock) = turned(place).await;
    let [pro, free] =
        [tenant(&store, "pro", PlanName::Pro).await, tenant(&store, "free", PlanName::Free).await];
    let head = store.directory.access_head().await.expect("a head");
    let capped = store.billing.set_spend_cap(pro, Some(3_000_000), by(1)).await.expect("sets");
    assert_eq!(capped.value.event_limit(), Some(6_000_000));
    assert!(capped.change.seq > head, "nodes are told");
    assert_eq!(account(&store, pro).await, capped.value);
    for (cap, reason) in [(Some(1), "no price"), (Some(0), "no price")] {
        let refused = store.billing.set_spend_cap(free, cap, by(2)).await.expect_err("no price");
        assert!(matches!(&refused, StoreError::Invalid(text) if text.contains(reason)), "{refused}");
    }
    let too_much = store.billing.set_spend_cap(pro, Some(u64::MAX), by(3)).await.expect_err("too much");
    assert!(matches!(too_much, StoreError::Invalid(_)), "{too_much}");
    assert_eq!(account(&store, pro).await, capped.value);

    let own = overrides(&json!({ "monthly_events": 7_000_000 }));
    store.tenants.set_plan(pro, PlanName::Pro, own, by(4)).await.expect("sets");
    assert_eq!(account(&store, pro).await.event_limit(), Some(6_000_000), "the cap holds beneath it");
    let open = store.billing.set_spend_cap(pro, None, by(5)).await.expect("takes it away");
    assert_eq!(open.value.event_limit(), Some(7_000_000));
    assert_eq!(account(&store, free).await.event_limit(), Some(100_000));
    let nobody = store.billing.set_spend_cap(TenantId::new(), None, by(6)).await.expect_err("nobody");
    assert!(matches!(nobody, StoreError::NotFound("tenant")), "{nobody}");
}
