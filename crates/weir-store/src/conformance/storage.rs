use super::place::Place;
use super::{at, by, set_up};
use crate::alerts::Keeping;
use crate::conformance::ledger::step;
use crate::{
    Access, Amount, By, Count, CountedRange, CountedTo, Doomed, Heartbeat, Mark, MarkBy, NewSchema,
    Overrides, Reviewed, Store, Stored,
};
use serde_json::json;
use std::time::Duration;
use weir_core::{Limits, NodeId, PlanName, ProjectLimits, TenantId, Timestamp};

const KIB: u64 = 1 << 10;

/// Counts events of a project from one sequence to another, which hold so many bytes.
async fn count(store: &Store, access: &Access, from: u64, to: u64, bytes: u64) {
    let range = CountedRange {
        tenant_id: access.tenant.id,
        project_id: access.project.id,
        window_start: at(0),
        first_sequence: from + 1,
        last_sequence: to,
        quantity: to - from,
        bytes,
    };
    let begun = !store.ledger.positions().await.expect("reads").counted.is_empty();
    let ranges = vec![range];
    let step = Count { ranges, ..step(9, begun.then_some(from), to, at(0)) };
    assert!(store.ledger.count(step).await.expect("counts"));
}

async fn kept(store: &Store, tenant: TenantId) -> Stored {
    let mut all = store.storage.of_tenant(tenant).await.expect("reads");
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn mark(sequence: u64, events: u64, bytes: u64) -> Mark {
    Mark { sequence, up_to: Amount { events, bytes } }
}

pub async fn what_is_kept_is_counted_with_the_usage(place: &Place) {
    let store = place.open().await;
    let (acme, other) = (set_up(&store, "acme").await.access, set_up(&store, "other").await.access);
    let tenant = acme.tenant.id;
    assert_eq!(store.storage.of_tenant(tenant).await.expect("reads"), []);
    count(&store, &acme, 0, 10, 60 * KIB).await;
    let stored = kept(&store, tenant).await;
    assert_eq!((stored.stream.as_str(), stored.last_sequence, stored.floor_sequence), ("EVENTS", 10, 0));
    assert_eq!((stored.kept(), stored.oldest_at), (Amount { events: 10, bytes: 60 * KIB }, None));
    assert_eq!(store.storage.mark(stored.clone(), MarkBy::Bytes(u64::MAX)).await.expect("reads"), None);
    count(&store, &acme, 10, 20, 5 * KIB).await;
    count(&store, &acme, 20, 30, 60 * KIB).await;
    count(&store, &acme, 30, 40, 70 * KIB).await;
    let stored = kept(&store, tenant).await;
    assert_eq!(stored.kept(), Amount { events: 40, bytes: 195 * KIB });
    let by = async |by| store.storage.mark(stored.clone(), by).await.expect("reads");
    let (first, second) = (mark(20, 20, 65 * KIB), mark(40, 40, 195 * KIB));
    assert_eq!(by(MarkBy::Sequence(19)).await, None);
    assert_eq!(by(MarkBy::Sequence(39)).await, Some(first));
    assert_eq!(by(MarkBy::Bytes(195 * KIB - 1)).await, Some(first));
    assert_eq!(by(MarkBy::Bytes(195 * KIB)).await, Some(second));
    // Where more is kept, marks are further apart.
    count(&store, &acme, 40, 50, 64 << 20).await;
    count(&store, &acme, 50, 60, 128 * KIB).await;
    let stored = kept(&store, tenant).await;
    let last = store.storage.mark(stored, MarkBy::Sequence(60)).await.expect("reads").expect("a mark");
    assert_eq!(last.sequence, 50);

    // So is what whoever looks for full tenants reads, with the limit that holds.
    let keeping = async |after| store.alerts.keeping(after, 9).await.expect("reads");
    let bytes = kept(&store, tenant).await.kept().bytes;
    let limit = Limits::of(acme.tenant.plan).retention_bytes;
    assert_eq!(keeping(None).await, [Keeping { tenant, bytes, limit }]);
    assert_eq!(keeping(Some(tenant)).await, []);
    let own = json!({ "retention_bytes": 7 }).as_object().cloned().expect("an object");
    let own = Overrides::new(own).expect("limits");
    store.tenants.set_plan(tenant, PlanName::Free, own, super::by(1)).await.expect("changes");
    assert_eq!(keeping(None).await, [Keeping { tenant, bytes, limit: 7 }]);

    // Of others nothing is told, and of a log that is gone neither.
    assert_eq!(store.storage.of_tenant(other.tenant.id).await.expect("reads"), []);
    let ended = step(9, Some(60), 60, at(0));
    let ended = Count { to: CountedTo { live: false, ..ended.to }, ..ended };
    assert!(store.ledger.count(ended).await.expect("counts"));
    assert_eq!(store.storage.of_tenant(tenant).await.expect("reads"), []);
    assert_eq!(store.storage.due(at(0), 9).await.expect("reads"), []);
    assert_eq!(keeping(None).await, []);
}

pub async fn floors_rise_and_never_sink(place: &Place) {
    let store = place.open().await;
    let acme = set_up(&store, "acme").await.access;
    // Where counting began later than the log, what was before counts as gone.
    count(&store, &acme, 100, 110, 70 * KIB).await;
    count(&store, &acme, 110, 120, 70 * KIB).await;
    let stored = kept(&store, acme.tenant.id).await;
    assert_eq!((stored.floor_sequence, stored.kept().events), (100, 20));
    let raise = async |to| store.storage.raise(stored.clone(), to, Some(at(7))).await.expect("answers");
    assert!(!raise(mark(121, 21, 1)).await, "beyond the end");
    assert!(raise(mark(110, 10, 70 * KIB)).await);
    assert!(!raise(mark(105, 5, 35 * KIB)).await);
    assert!(!raise(mark(110, 10, 70 * KIB)).await);
    let floor = kept(&store, acme.tenant.id).await;
    assert_eq!((floor.floor_sequence, floor.oldest_at), (110, Some(at(7))));
    assert_eq!(floor.kept(), Amount { events: 10, bytes: 70 * KIB });
    let at_floor = store.storage.mark(floor.clone(), MarkBy::Sequence(115)).await.expect("reads");
    assert_eq!(at_floor.map(|mark| mark.sequence), Some(110), "the mark at the floor stays");
    let floors = store.storage.floors(None, 9).await.expect("reads");
    assert_eq!(floors, std::slice::from_ref(&floor));
    let rest = store.storage.floors(Some((floor.project_id, floor.epoch)), 9).await.expect("reads");
    assert_eq!(rest, []);
    assert!(raise(mark(120, 20, 140 * KIB)).await);
    assert_eq!(kept(&store, acme.tenant.id).await.kept(), Amount::default());
}

pub async fn counts_and_changed_limits_ask_for_a_review(place: &Place) {
    let store = place.open().await;
    let acme = set_up(&store, "acme").await.access;
    let tenant = acme.tenant.id;
    let due = async |now| store.storage.due(now, 9).await.expect("reads").contains(&tenant);
    let review = async |of: Stored, next: Timestamp| {
        let reviewed = Reviewed { oldest_at: Some(at(1)), next };
        store.storage.reviewed(of, reviewed).await.expect("notes");
    };
    count(&store, &acme, 0, 1, 10).await;
    assert!(due(at(0)).await);
    review(kept(&store, tenant).await, at(50)).await;
    assert!(!due(at(49)).await && due(at(50)).await);
    assert_eq!(kept(&store, tenant).await.oldest_at, Some(at(1)));

    // What comes between is not settled by what was seen before it.
    let seen = kept(&store, tenant).await;
    count(&store, &acme, 1, 2, 10).await;
    review(seen, at(50)).await;
    assert!(due(at(0)).await);
    let plan = async || store.tenants.set_plan(tenant, PlanName::Free, Overrides::default(), by(1)).await;
    let seen = kept(&store, tenant).await;
    plan().await.expect("sets");
    review(seen, at(50)).await;
    assert!(due(at(0)).await);
    review(kept(&store, tenant).await, at(50)).await;
    assert!(!due(at(0)).await);
    let limits = ProjectLimits { retention_bytes: Some(1), ..ProjectLimits::default() };
    store.tenants.set_project_limits(tenant, acme.project.id, limits, by(2)).await.expect("sets");
    assert!(due(at(0)).await);
    assert_eq!(store.tenants.project(tenant, acme.project.id).await.expect("reads").limits, limits);
}

pub async fn one_node_enforces_at_a_time(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let ids = [NodeId::new(), NodeId::new()];
    for (store, id) in nodes.iter().zip(ids) {
        let alive = Heartbeat { node: id, started_at: at(0), confirmed: 0, lease: Duration::from_secs(600) };
        store.nodes.beat(alive).await.expect("lives");
    }
    let take = async |n: usize, lease| nodes[n].storage.take_turn(ids[n], lease).await.expect("answers");
    let long = Duration::from_secs(600);
    assert!(take(0, long).await && !take(1, long).await && take(0, long).await);
    nodes[0].nodes.leave(ids[0]).await.expect("leaves");
    assert!(take(1, Duration::ZERO).await, "who is gone has no turn");
    assert!(nodes[1].outbox.take_turn(ids[1], long).await.expect("answers"), "other turns are others");
}

pub async fn a_deleted_project_is_erased_once_its_usage_is_counted(place: &Place) {
    let store = place.open().await;
    let (acme, other) = (set_up(&store, "acme").await.access, set_up(&store, "other").await.access);
    let (tenant, project) = (acme.tenant.id, acme.project.id);
    for access in [&acme, &other] {
        let (pattern, document) = ("a.*".parse().expect("a pattern"), r#"{"title":"x"}"#.to_owned());
        let new = NewSchema { pattern, document, forced: false, replaces: None };
        let room = crate::SchemaRoom { schemas: 9, bytes: 9_000, old: 9 };
        store.schemas.set(access.tenant.id, access.project.id, new, room, by(1)).await.expect("sets");
    }
    count(&store, &acme, 0, 3, 10).await;
    store.tenants.delete_project(tenant, project, by(2)).await.expect("deletes");
    let doomed = async |after| store.erasure.to_erase(after, 9).await.expect("reads");
    assert_eq!(doomed(Duration::ZERO).await, [], "its usage may not be counted yet");
    let far = Timestamp::from_micros(i64::MAX / 2);
    let counted = step(9, Some(3), 3, far);
    assert!(store.ledger.count(counted).await.expect("counts"));
    assert_eq!(doomed(Duration::from_secs(3600)).await, [], "not yet");
    let expected =
        Doomed { tenant_id: tenant, project_id: project, streams: vec![crate::DEFAULT_STREAM.to_owned()] };
    assert_eq!(doomed(Duration::ZERO).await, std::slice::from_ref(&expected));

    let living = Doomed { tenant_id: other.tenant.id, project_id: other.project.id, ..expected.clone() };
    assert!(!store.erasure.erase(living, By::new("system", at(3))).await.expect("answers"));
    assert_eq!(store.erasure.to_shred().await.expect("reads"), []);
    assert!(store.erasure.erase(expected.clone(), By::new("system", at(3))).await.expect("erases"));
    assert!(!store.erasure.erase(expected, By::new("system", at(4))).await.expect("answers"), "once");
    assert_eq!(doomed(Duration::ZERO).await, []);
    assert_eq!(store.storage.of_tenant(tenant).await.expect("reads"), []);
    assert!(store.schemas.in_force(tenant, project).await.expect("reads").is_empty());
    assert_eq!(store.schemas.in_force(other.tenant.id, other.project.id).await.expect("reads").len(), 1);
    let usage = store.usage.total(tenant, crate::Metric::EventsPublished, at(0), at(1)).await;
    assert_eq!(usage.expect("reads"), 3, "it is billed all the same");

    assert_eq!(store.erasure.to_shred().await.expect("reads"), [project]);
    store.erasure.shredded(vec![project]).await.expect("notes");
    assert_eq!(store.erasure.to_shred().await.expect("reads"), []);
    let filter = crate::audit::Filter::default();
    let page = crate::After { after: None, limit: 10 };
    let trail = store.audit.list(Some(tenant), filter, page).await.expect("reads").items;
    let actions: Vec<&str> = trail.iter().map(|entry| entry.action.as_str()).collect();
    assert!(actions.contains(&"project.delete") && actions.contains(&"project.erase"), "{actions:?}");
}
