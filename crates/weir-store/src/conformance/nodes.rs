use super::place::Place;
use super::{at, by, set_up};
use crate::{Closing, Enforced, Heartbeat, Notice, Store, TenantStatus};
use std::time::Duration;
use weir_core::{Clock, NodeId, SystemClock, TenantId, Timestamp};

const LONG: Duration = Duration::from_secs(600);

async fn beat(store: &Store, node: NodeId, confirmed: i64, lease: Duration) -> bool {
    store.nodes.beat(Heartbeat { node, started_at: at(0), confirmed, lease }).await.expect("beats")
}

/// A change of access, announced as of now: pruning goes by age.
async fn change(store: &Store, tenant: TenantId, at: Timestamp) -> i64 {
    let by = crate::By { at, ..by(0) };
    store.tenants.set_status(tenant, TenantStatus::Active, None, by).await.expect("changes").change.seq
}

pub async fn nodes_count_as_long_as_their_lease(place: &Place) {
    let store = place.open().await;
    let [steady, brief] = [NodeId::new(), NodeId::new()];
    assert!(!beat(&store, steady, 3, LONG).await, "it was not there before");
    assert!(beat(&store, steady, 4, LONG).await);
    beat(&store, brief, 0, Duration::ZERO).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let live = store.nodes.live().await.expect("reads");
    assert_eq!(live.iter().map(|node| (node.id, node.confirmed)).collect::<Vec<_>>(), [(steady, 4)]);
    assert_eq!(live[0].started_at, at(0));
    assert_eq!(live[0].lease_until.since(live[0].seen_at), LONG);
    assert!(!beat(&store, brief, 0, LONG).await, "its lease had ended");
    assert_eq!(store.nodes.live().await.expect("reads").len(), 2);
    store.nodes.leave(brief).await.expect("leaves");
    assert_eq!(store.nodes.live().await.expect("reads").len(), 1);
}

pub async fn a_change_is_enforced_when_every_node_says_so(place: &Place) {
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    let nodes = [NodeId::new(), NodeId::new(), NodeId::new()];
    for node in nodes {
        beat(&store, node, 0, LONG).await;
    }
    let by = by(1);
    let change =
        store.tenants.set_status(tenant, TenantStatus::Suspended, None, by).await.expect("changes").change;
    let patience = Duration::from_millis(1);
    let none = store.enforced(&change, patience).await.expect("reads");
    assert_eq!(none, Enforced { nodes: 0, of: 3, connections_closed: 0 });
    let closing = |connections| vec![Closing { seq: change.seq, connections }];
    store.nodes.confirm(nodes[0], change.seq, closing(2)).await.expect("confirms");
    store.nodes.confirm(nodes[1], change.seq, closing(5)).await.expect("confirms");
    store.nodes.confirm(nodes[1], change.seq, closing(1)).await.expect("confirms");
    store.nodes.confirm(nodes[2], change.seq - 1, Vec::new()).await.expect("confirms");
    let two = store.enforced(&change, patience).await.expect("reads");
    assert_eq!(two, Enforced { nodes: 2, of: 3, connections_closed: 8 });

    // Who waits is woken by the last one, on another connection as well as on this.
    let waiting = tokio::spawn({
        let (store, change) = (place.open().await, change.clone());
        async move { store.enforced(&change, LONG).await.expect("reads") }
    });
    store.nodes.confirm(nodes[2], change.seq, Vec::new()).await.expect("confirms");
    let all = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("is woken").expect("ends");
    assert_eq!(all, Enforced { nodes: 3, of: 3, connections_closed: 8 });
}

pub async fn changes_are_noticed_when_they_are_committed(place: &Place) {
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    let listener = if place.is_sqlite() { store.clone() } else { place.open().await };
    let mut notices = listener.notices();
    if !place.is_sqlite() {
        assert_eq!(notices.next().await, Notice::Missed, "it listens from here on");
    }
    let seq = change(&store, tenant, at(1)).await;
    let heard = tokio::time::timeout(Duration::from_secs(60), notices.next()).await.expect("a notice");
    assert_eq!(heard, Notice::AccessChanged);
    assert_eq!(listener.directory.access_head().await.expect("reads"), seq, "it can be read by then");
    drop(store);
    listener.close().await;
}

pub async fn changes_are_forgotten_from_the_old_end_once_enforced(place: &Place) {
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    let now = SystemClock.now();
    let mut seqs = Vec::new();
    for age in [900, 800, 700, 10, 5] {
        seqs.push(change(&store, tenant, now.minus(Duration::from_secs(age))).await);
    }
    let left = async |store: &Store| {
        let changes = store.directory.access_changes_after(0, 100).await.expect("reads");
        changes.iter().map(|change| change.seq).collect::<Vec<_>>()
    };
    let (slow, quick) = (NodeId::new(), NodeId::new());
    beat(&store, slow, seqs[1], LONG).await;
    beat(&store, quick, seqs[4], LONG).await;
    store.nodes.prune(LONG).await.expect("prunes");
    assert_eq!(left(&store).await, seqs[1..], "one has not enforced the third, and knows the second");
    store.nodes.confirm(slow, seqs[4], Vec::new()).await.expect("confirms");
    store.nodes.prune(LONG).await.expect("prunes");
    assert_eq!(left(&store).await, seqs[3..], "younger ones stay");
    store.nodes.prune(Duration::ZERO).await.expect("prunes");
    assert_eq!(left(&store).await, seqs[4..], "the newest stays, so that numbers go on from there");
    assert_eq!(store.directory.access_head().await.expect("reads"), seqs[4]);
    // A node that is gone holds nothing up, and is forgotten in time.
    beat(&store, slow, seqs[0], Duration::ZERO).await;
    let newer = change(&store, tenant, now).await;
    store.nodes.confirm(quick, newer, Vec::new()).await.expect("confirms");
    tokio::time::sleep(Duration::from_millis(2)).await;
    store.nodes.prune(Duration::ZERO).await.expect("prunes");
    assert_eq!(left(&store).await, [newer]);
}
