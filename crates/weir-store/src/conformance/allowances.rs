use super::ledger::step;
use super::place::Place;
use super::{at, at_once, by, new_tenant};
use crate::allowances::{Doubt, Held, IN_DOUBT, Lease, LeaseWish};
use crate::{Accepted, Count, CountedRange, Heartbeat, NewTenant, Notice, Overrides, Store, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Clock, ManualClock, NodeId, PlanName, ProjectId, SystemClock, TenantId, Timestamp};

const LONG: Duration = Duration::from_secs(600);

async fn node(store: &Store) -> NodeId {
    let node = NodeId::new();
    store.nodes.beat(Heartbeat { node, started_at: at(0), confirmed: 0, lease: LONG }).await.expect("beats");
    node
}

/// A tenant with this limit of events, in its first period by `clock`.
async fn limited(store: &Store, limit: u64) -> TenantId {
    let new = NewTenant { plan: PlanName::Free, overrides: own(limit), ..new_tenant("acme") };
    store.tenants.create(new, by(0)).await.expect("creates").id
}

fn own(limit: u64) -> Overrides {
    Overrides::new(json!({ "monthly_events": limit }).as_object().expect("an object").clone())
        .expect("a limit")
}

/// A store in the first days of 2026 as far as billing is concerned.
async fn early(place: &Place) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at(1_000_000)));
    (place.open_by(clock.clone()).await, clock)
}

async fn lease(store: &Store, wish: LeaseWish) -> Lease {
    store.allowances.lease(wish).await.expect("a lease")
}

/// The log counted so much, after everything.
fn counted(events: u64) -> Accepted {
    Accepted { events, complete_until: Timestamp::from_micros(i64::MAX) }
}

async fn the_doubt(store: &Store) -> Doubt {
    store.allowances.doubts(10).await.expect("doubts").pop().expect("a doubt")
}

/// Recounts until it is exact.
async fn settle(store: &Store, events: u64) {
    for doubt in store.allowances.doubts(10).await.expect("doubts") {
        let first = store.allowances.recount(doubt, counted(events)).await.expect("recounts");
        assert!(first || store.allowances.recount(doubt, counted(events)).await.expect("recounts"));
    }
    assert_eq!(store.allowances.doubts(10).await.expect("doubts"), []);
}

/// The log's count of the tenant's first hour.
async fn record(store: &Store, tenant: TenantId, quantity: u64) {
    let range = CountedRange {
        tenant_id: tenant,
        project_id: ProjectId::new(),
        window_start: at(0),
        first_sequence: 1,
        last_sequence: quantity,
        quantity,
        bytes: quantity,
    };
    let count = Count { ranges: vec![range], ..step(9, None, quantity, at(0)) };
    assert!(store.ledger.count(count).await.expect("counts"));
}

pub async fn blocks_shrink_near_the_limit(place: &Place) {
    let (store, _clock) = early(place).await;
    let tenant = limited(&store, 1_000).await;
    let [own, other] = [node(&store).await, node(&store).await];
    let wish = |node, held, waiting| LeaseWish { node, tenant, held, waiting, more: 500 };
    let first = lease(&store, wish(own, None, 0)).await;
    assert_eq!((first.limit, first.granted, first.used, first.others_unused), (Some(1_000), 250, 0, 0));
    let held =
        |granted, used| Some(Held { period_start: first.period.start, granted, used, ..Held::default() });
    let second = lease(&store, wish(own, held(250, 200), 0)).await;
    assert_eq!((second.granted, second.used), (250 + 187, 200));
    let theirs = lease(&store, wish(other, None, 0)).await;
    assert_eq!((theirs.granted, theirs.others_unused), (140, 237));
    let mut granted = theirs.granted;
    let mut blocks = Vec::new();
    loop {
        let next = lease(&store, wish(other, held(granted, granted), 1)).await;
        if next.granted == granted {
            break;
        }
        blocks.push(next.granted - granted);
        granted = next.granted;
    }
    assert!(blocks.is_sorted_by(|a, b| a >= b) && blocks.ends_with(&[1, 1, 1]), "{blocks:?}");
    assert_eq!(granted, 1_000 - 437);

    // What waits comes before what would be nice to have, and what is given back is free.
    let back = lease(&store, LeaseWish { more: 0, ..wish(own, held(210, 205), 0) }).await;
    assert_eq!(back.granted, 210);
    let waiting = lease(&store, wish(other, held(granted, granted), 200)).await;
    assert_eq!(waiting.granted, granted + 200);
    let partly = lease(&store, wish(other, held(granted + 200, granted + 200), 200)).await;
    assert_eq!(partly.granted, granted + 227);
    assert_eq!(partly.granted + back.granted, 1_000);

    let nobody = store.allowances.lease(wish(NodeId::new(), None, 1)).await.expect_err("no such node");
    assert!(matches!(nobody, StoreError::Conflict(_)), "{nobody}");
    let strange = LeaseWish { tenant: TenantId::new(), ..wish(own, None, 1) };
    let strange = store.allowances.lease(strange).await.expect_err("no such tenant");
    assert!(matches!(strange, StoreError::NotFound("tenant")), "{strange}");
}

/// A node as it would be, with a database that it loses touch with and a log that does not always answer.
struct Model {
    id: NodeId,
    held: Option<Held>,
    /// On leases that it has forgotten: nothing new may be accepted on them, but this is still on its way.
    late: u64,
}

impl Model {
    fn free(&self) -> u64 {
        self.held.map_or(0, |held| held.granted - held.used - held.flying)
    }
}

/// Four nodes take, use, lose answers, die, come back and are recounted, in every order that 400 dice throws give:
/// what the log holds is never more than the limit, and in the end all of it can be used.
pub async fn accepted_never_exceeds_the_limit_whatever_happens(place: &Place) {
    const LIMIT: u64 = 400;
    for seed in 0..3 {
        let (store, _clock) = early(place).await;
        let new =
            NewTenant { plan: PlanName::Free, overrides: own(LIMIT), ..new_tenant(&format!("t{seed}")) };
        let tenant = store.tenants.create(new, by(0)).await.expect("creates").id;
        let mut dice = StdRng::seed_from_u64(seed);
        let mut nodes = Vec::new();
        for _ in 0..4 {
            nodes.push(Model { id: node(&store).await, held: None, late: 0 });
        }
        let mut logged = 0;
        for step in 0..400 {
            let n = dice.random_range(0..4);
            match dice.random_range(0..100) {
                0..35 => {
                    let of = &mut nodes[n];
                    let (waiting, more) = (dice.random_range(0..4), dice.random_range(0..40));
                    let given = dice.random_range(0..=of.free() / 2);
                    if let Some(held) = &mut of.held {
                        held.granted -= given;
                    }
                    let wish = LeaseWish { node: of.id, tenant, held: of.held, waiting, more };
                    let answer = lease(&store, wish).await;
                    // One answer in five is lost.
                    if dice.random_range(0..5) > 0 {
                        let before = of.held.unwrap_or_default();
                        of.held = Some(Held {
                            period_start: answer.period.start,
                            granted: answer.granted,
                            ..before
                        });
                    }
                }
                35..80 => {
                    // Some are on their way from now on, some of those before arrive or are never heard of again.
                    let of = &mut nodes[n];
                    let start = dice.random_range(0..=of.free());
                    if let Some(held) = &mut of.held {
                        held.flying += start;
                        let arrive = dice.random_range(0..=held.flying);
                        held.flying -= arrive;
                        held.used += arrive;
                        logged += arrive;
                        let unknown = dice.random_range(0..=held.flying.min(2));
                        held.flying -= unknown;
                        held.granted -= unknown;
                        held.doubtful += unknown;
                        logged += dice.random_range(0..=unknown);
                    }
                }
                80..86 => {
                    // Killed; what was on its way arrives a little later, or not.
                    let of = &mut nodes[n];
                    store.nodes.leave(of.id).await.expect("its lease ends");
                    let flying = of.held.take().map_or(0, |held| held.flying);
                    of.late += dice.random_range(0..=flying);
                    if dice.random_range(0..3) > 0 {
                        store.allowances.end_dead_leases(LONG).await.expect("ends");
                    }
                    of.id = node(&store).await;
                }
                86..90 => {
                    let of = &mut nodes[n];
                    if let Some(held) = of.held.take() {
                        of.late += dice.random_range(0..=held.flying);
                        store.allowances.end_lease(of.id, tenant, held).await.expect("ends");
                    }
                }
                90..93 => {
                    let of = &mut nodes[n];
                    let flying = of.held.take().map_or(0, |held| held.flying);
                    of.late += dice.random_range(0..=flying);
                }
                _ => {
                    // Time goes by: everything that was on its way on leases of the past has arrived.
                    for of in &mut nodes {
                        logged += std::mem::take(&mut of.late);
                    }
                    for doubt in store.allowances.doubts(10).await.expect("doubts") {
                        store.allowances.recount(doubt, counted(logged)).await.expect("recounts");
                    }
                }
            }
            let late: u64 = nodes.iter().map(|of| of.late).sum();
            assert!(logged + late <= LIMIT, "{} accepted after step {step} of seed {seed}", logged + late);
        }
        // Everything ends well: who is left ends in order, the count settles the rest.
        for of in &mut nodes {
            logged += std::mem::take(&mut of.late);
            if let Some(mut held) = of.held.take() {
                held.used += held.flying;
                logged += std::mem::take(&mut held.flying);
                store.allowances.end_lease(of.id, tenant, held).await.expect("ends");
            }
            store.nodes.leave(of.id).await.expect("leaves");
        }
        store.allowances.end_dead_leases(LONG).await.expect("ends");
        settle(&store, logged).await;
        let last = node(&store).await;
        let all = lease(&store, LeaseWish { node: last, tenant, held: None, waiting: LIMIT, more: 0 }).await;
        assert_eq!(all.granted, LIMIT - logged, "seed {seed}: all that was not accepted can still be");
        assert_eq!(all.used, logged);
        let rest = Held { period_start: all.period.start, ..Held::default() };
        store.allowances.end_lease(last, tenant, rest).await.expect("ends");
    }
}

pub async fn nodes_that_ask_at_once_share_the_limit(place: &Place) {
    const LIMIT: u64 = 300;
    let store = place.open().await;
    let tenant = limited(&store, LIMIT).await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push((place.open().await, node(&store).await));
    }
    let granted = at_once(4, |n| {
        let (store, node) = nodes[n].clone();
        async move {
            let mut held: Option<Held> = None;
            loop {
                let wish = LeaseWish { node, tenant, held, waiting: 1, more: 64 };
                let answer = store.allowances.lease(wish).await.expect("a lease");
                if answer.granted == held.map_or(0, |held| held.granted) {
                    return answer.granted;
                }
                let (granted, period_start) = (answer.granted, answer.period.start);
                held = Some(Held { period_start, granted, used: granted, ..Held::default() });
            }
        }
    })
    .await;
    assert_eq!(granted.iter().sum::<u64>(), LIMIT, "{granted:?}");
}

pub async fn what_a_dead_node_had_comes_back_from_the_count(place: &Place) {
    let (store, _clock) = early(place).await;
    let tenant = limited(&store, 100).await;
    let [dead, alive] = [node(&store).await, node(&store).await];
    let wish = |node, held, waiting| LeaseWish { node, tenant, held, waiting, more: 0 };
    let theirs = lease(&store, wish(dead, None, 80)).await;
    let held =
        |granted, used| Some(Held { period_start: theirs.period.start, granted, used, ..Held::default() });
    assert_eq!(lease(&store, wish(dead, held(80, 10), 0)).await.granted, 80);
    let little = lease(&store, wish(alive, None, 50)).await;
    assert_eq!((little.granted, little.others_unused), (20, 70));
    settle(&store, 10).await;
    store.nodes.leave(dead).await.expect("dies");
    assert_eq!(
        lease(&store, wish(alive, held(20, 20), 50)).await.granted,
        20,
        "nobody knows yet what it used"
    );
    assert_eq!(store.allowances.end_dead_leases(LONG).await.expect("ends"), 1);
    assert_eq!(store.allowances.end_dead_leases(LONG).await.expect("ends"), 0);
    let in_doubt = lease(&store, wish(alive, held(20, 20), 50)).await;
    assert_eq!((in_doubt.granted, in_doubt.used, in_doubt.in_doubt), (20, 100, true));

    // A count from before the end of the doubt says nothing; nor does one from before the standing leases were noted.
    let doubt = the_doubt(&store).await;
    let now = SystemClock.now();
    let soon = Accepted { events: 65, complete_until: now.plus(IN_DOUBT / 2) };
    for _ in 0..2 {
        assert!(!store.allowances.recount(doubt, soon).await.expect("recounts"));
        assert_eq!(lease(&store, wish(alive, held(20, 20), 50)).await.granted, 20);
    }
    let mut notices = store.notices();
    if !place.is_sqlite() {
        assert_eq!(notices.next().await, Notice::Missed, "it listens from here on");
    }
    // It had accepted 45 before it died.
    let later = Accepted { events: 65, complete_until: now.plus(2 * IN_DOUBT) };
    assert!(store.allowances.recount(doubt, later).await.expect("recounts"));
    while notices.next().await != Notice::AllowanceReturned(tenant) {}
    let back = lease(&store, wish(alive, held(20, 20), 50)).await;
    assert_eq!((back.granted, back.used, back.in_doubt), (20 + 35, 65, false));
    assert_eq!(store.allowances.doubts(10).await.expect("doubts"), []);

    // A count that is taken while others accept is too high at first, never too low.
    let third = node(&store).await;
    lease(&store, wish(third, None, 0)).await;
    store.nodes.leave(third).await.expect("dies");
    assert_eq!(lease(&store, wish(alive, held(30, 25), 0)).await.granted, 30);
    let fourth = node(&store).await;
    lease(&store, wish(fourth, None, 25)).await;
    store.nodes.leave(fourth).await.expect("dies");
    store.allowances.end_dead_leases(LONG).await.expect("ends");
    let doubt = the_doubt(&store).await;
    assert!(!store.allowances.recount(doubt, counted(70)).await.expect("notes"));
    assert_eq!(lease(&store, wish(alive, held(30, 30), 0)).await.used, 45 + 25 + 30);
    assert!(!store.allowances.recount(doubt, counted(75)).await.expect("recounts"));
    assert_eq!(lease(&store, wish(alive, held(30, 30), 0)).await.used, 50 + 30, "five of these thirty twice");
    assert!(store.allowances.recount(doubt, counted(75)).await.expect("recounts"));
    assert_eq!(lease(&store, wish(alive, held(30, 30), 0)).await.used, 75);
}

pub async fn a_limit_in_the_middle_of_a_period_counts_what_came_before(place: &Place) {
    let (store, _clock) = early(place).await;
    let new = NewTenant { plan: PlanName::Enterprise, ..new_tenant("acme") };
    let tenant = store.tenants.create(new, by(0)).await.expect("creates").id;
    let node = node(&store).await;
    let wish = |held, waiting| LeaseWish { node, tenant, held, waiting, more: 0 };
    let free = lease(&store, wish(None, 5)).await;
    assert_eq!((free.limit, free.granted), (None, 0));
    assert_eq!(store.allowances.doubts(10).await.expect("doubts"), [], "no limit leaves no trace");
    record(&store, tenant, 60).await;
    store.tenants.set_plan(tenant, PlanName::Free, own(100), by(1)).await.expect("sets");
    let little = lease(&store, wish(None, 50)).await;
    assert_eq!((little.limit, little.granted, little.used, little.in_doubt), (Some(100), 40, 60, true));
    // Seven more had been accepted before the limit was known everywhere; eight on the lease.
    let held = Held { period_start: little.period.start, granted: 10, used: 8, ..Held::default() };
    assert_eq!(lease(&store, wish(Some(held), 0)).await.granted, 10);
    settle(&store, 75).await;
    let rest = lease(&store, wish(Some(held), 90)).await;
    assert_eq!((rest.granted, rest.used, rest.in_doubt), (100 - 67, 75, false));

    // Without a limit and back: nobody kept count but the log.
    store.tenants.set_plan(tenant, PlanName::Enterprise, Overrides::default(), by(2)).await.expect("sets");
    assert_eq!(lease(&store, wish(Some(Held { granted: 33, used: 20, ..held }), 1)).await.limit, None);
    store.tenants.set_plan(tenant, PlanName::Free, own(1_000), by(3)).await.expect("sets");
    assert!(lease(&store, wish(None, 1)).await.in_doubt);
    settle(&store, 500).await;
    let most = lease(&store, wish(None, 1_000)).await;
    assert_eq!((most.used, most.granted), (500 + 1, 499), "the one on the forgotten lease too");
    settle(&store, 500).await;
    let held = Held { granted: 499, used: 0, ..held };
    assert_eq!(lease(&store, wish(Some(held), 1_000)).await.granted, 500);
}

pub async fn a_new_period_begins_anew(place: &Place) {
    let (store, clock) = early(place).await;
    let tenant = limited(&store, 10).await;
    let node = node(&store).await;
    let wish = |held, waiting| LeaseWish { node, tenant, held, waiting, more: 0 };
    let first = lease(&store, wish(None, 10)).await;
    assert_eq!(first.remaining, first.period.end.since(at(1_000_000)));
    let held = Held { period_start: first.period.start, granted: 10, used: 10, ..Held::default() };
    assert_eq!(lease(&store, wish(Some(held), 1)).await.granted, 10);
    clock.set(first.period.end);
    let second = lease(&store, wish(Some(held), 4)).await;
    assert_eq!((second.period.start, second.granted, second.used), (first.period.end, 4, 0));
    for back in [Duration::from_secs(3600), Duration::from_secs(90 * 24 * 3600)] {
        clock.set(first.period.end.minus(back));
        let still =
            lease(&store, wish(Some(Held { period_start: second.period.start, granted: 4, ..held }), 1));
        assert_eq!(still.await.period, second.period, "the clock went back, the period did not");
    }
    // A subscription that begins within the period begins another; the old one's hours are not counted again.
    clock.set(second.period.end);
    let third = lease(&store, wish(None, 10)).await;
    let middle = third.period.start.plus(Duration::from_secs(5 * 24 * 3600));
    clock.set(middle.plus(Duration::from_secs(60)));
    let wanted = weir_core::Period { start: middle, end: third.period.end.plus(LONG) };
    store.billing.set_period(tenant, middle, wanted, by(1)).await.expect("sets");
    assert_eq!(lease(&store, wish(None, 10)).await.granted, 10);

    clock.set(at(400 * 24 * 3600 * 1_000_000));
    store.allowances.end_dead_leases(LONG).await.expect("forgets");
    store.nodes.leave(node).await.expect("leaves");
    assert_eq!(
        store.allowances.end_dead_leases(LONG).await.expect("ends"),
        0,
        "they went with their periods"
    );
    assert_eq!(first.period.start.hour(), first.period.start);
}

pub async fn thresholds_are_noted_once(place: &Place) {
    let (store, _clock) = early(place).await;
    let tenant = limited(&store, 10).await;
    let nodes = [node(&store).await, node(&store).await];
    let first = lease(&store, LeaseWish { node: nodes[0], tenant, held: None, waiting: 5, more: 0 }).await;
    settle(&store, 0).await;
    let held =
        |granted, used| Some(Held { period_start: first.period.start, granted, used, ..Held::default() });
    let wish = |n: usize, held| LeaseWish { node: nodes[n], tenant, held, waiting: 5, more: 0 };
    assert_eq!(lease(&store, LeaseWish { waiting: 0, ..wish(0, held(5, 4)) }).await.reached, [0; 0]);
    assert_eq!(lease(&store, LeaseWish { waiting: 0, ..wish(0, held(5, 5)) }).await.reached, [50]);
    assert_eq!(lease(&store, LeaseWish { waiting: 0, ..wish(0, held(5, 5)) }).await.reached, [0; 0]);
    assert_eq!(lease(&store, wish(1, None)).await.granted, 5);
    let results = at_once(8, |_| {
        let (store, wish) = (store.clone(), LeaseWish { waiting: 0, ..wish(1, held(5, 5)) });
        async move { store.allowances.lease(wish).await.expect("a lease").reached }
    })
    .await;
    assert_eq!(results.concat(), [80, 100], "once, whoever asks");
    let noted = store.allowances.reached(tenant, first.period.start).await.expect("reads");
    let noted: Vec<_> = noted.iter().map(|reached| (reached.threshold, reached.limit)).collect();
    assert_eq!(noted, [(50, 10), (80, 10), (100, 10)]);
    store.tenants.set_plan(tenant, PlanName::Free, own(40), by(2)).await.expect("sets");
    let more = lease(&store, LeaseWish { waiting: 10, ..wish(1, held(5, 5)) }).await;
    assert_eq!(more.reached, [0; 0], "a greater limit does not repeat them");
    let other = store.allowances.reached(TenantId::new(), first.period.start).await.expect("reads");
    assert_eq!(other, []);
}
