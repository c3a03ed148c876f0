use super::place::Place;
use super::{at, at_once, by, set_up};
use crate::{Heartbeat, Notice, Overrides, ShareWish, Store, StoreError};
use serde_json::json;
use std::time::Duration;
use weir_core::{NodeId, PlanName, ProjectLimits, TenantId};

const LONG: Duration = Duration::from_secs(600);

async fn limited(store: &Store, tenant: TenantId, connections: u32) {
    let fields = json!({ "connections": connections });
    let overrides = Overrides::new(fields.as_object().expect("an object").clone()).expect("limits");
    store.tenants.set_plan(tenant, PlanName::Pro, overrides, by(1)).await.expect("changes");
}

async fn node(store: &Store, lease: Duration) -> NodeId {
    let node = NodeId::new();
    store.nodes.beat(Heartbeat { node, started_at: at(0), confirmed: 0, lease }).await.expect("beats");
    node
}

/// Four nodes that want all they can get, again and again, and give some back: the sum is never above the limit.
pub async fn shares_never_exceed_the_limit(place: &Place) {
    const LIMIT: u32 = 100;
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    limited(&store, tenant, LIMIT).await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push((place.open().await, node(&store, LONG).await));
    }
    let held = at_once(4, |n| {
        let (store, node) = nodes[n].clone();
        async move {
            let mut held = 0;
            for round in 0..12 {
                let wish = ShareWish { node, quota: (tenant, None), held, live: held, waiting: 3, more: 16 };
                let share = store.shares.take(wish).await.expect("takes");
                assert!(share.granted + share.others <= LIMIT, "{share:?}");
                assert_eq!(share.limit, Some(LIMIT));
                held = share.granted;
                if round % 4 == 3 && round < 11 {
                    held /= 2;
                    store.shares.keep(node, (tenant, None), held).await.expect("keeps");
                }
            }
            held
        }
    })
    .await;
    let (last, node) = &nodes[0];
    let wish = ShareWish {
        node: *node,
        quota: (tenant, None),
        held: held[0],
        live: held[0],
        waiting: LIMIT,
        more: 0,
    };
    let rest = last.shares.take(wish).await.expect("takes");
    assert_eq!(rest.granted + held[1..].iter().sum::<u32>(), LIMIT, "who needs all that is left gets it");
    assert_eq!(rest.others, held[1..].iter().sum::<u32>());
}

pub async fn shares_end_with_their_nodes_lease(place: &Place) {
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    limited(&store, tenant, 10).await;
    let quota = (tenant, None);
    let [dead, alive] = [node(&store, LONG).await, node(&store, LONG).await];
    let wish = |node, waiting| ShareWish { node, quota, held: 0, live: 0, waiting, more: 0 };
    assert_eq!(store.shares.take(wish(dead, 8)).await.expect("takes").granted, 8);
    let mut notices = store.notices();
    if !place.is_sqlite() {
        assert_eq!(notices.next().await, Notice::Missed, "it listens from here on");
    }
    let little = store.shares.take(wish(alive, 5)).await.expect("takes");
    assert_eq!((little.granted, little.others), (2, 8));
    while notices.next().await != Notice::SharesWanted(tenant, None) {}
    store.nodes.leave(dead).await.expect("leaves");
    assert_eq!(store.shares.take(wish(alive, 10)).await.expect("takes").granted, 10);
    let refused = store.shares.take(wish(dead, 1)).await.expect_err("it has no lease");
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
}

pub async fn projects_may_have_limits_of_their_own(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await.access;
    let (tenant, project) = (made.tenant.id, made.project.id);
    assert_eq!(made.project.limits, ProjectLimits::default());
    let node = node(&store, LONG).await;
    let quota = (tenant, Some(project));
    let wish = |held| ShareWish { node, quota, held, live: held, waiting: 7, more: 0 };
    let free = store.shares.take(wish(0)).await.expect("takes");
    assert_eq!((free.granted, free.limit), (7, None));
    let limits =
        ProjectLimits { connections: Some(9), requests_per_second: Some(5), ..ProjectLimits::default() };
    let changed = store.tenants.set_project_limits(tenant, project, limits, by(1)).await.expect("changes");
    assert_eq!(changed.value.limits, limits);
    assert_eq!(store.tenants.project(tenant, project).await.expect("reads").limits, limits);
    let bound = store.shares.take(wish(7)).await.expect("takes");
    assert_eq!((bound.granted, bound.limit), (9, Some(9)));
    let other = set_up(&store, "other").await.access.tenant.id;
    let foreign =
        store.tenants.set_project_limits(other, project, limits, by(1)).await.expect_err("not theirs");
    assert!(matches!(foreign, StoreError::NotFound(_)), "{foreign}");
}
