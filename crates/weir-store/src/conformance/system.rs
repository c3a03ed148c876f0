use super::place::Place;
use super::{at, by, new_key, new_tenant, set_up};
use crate::system::MAX_WAITING;
use crate::{Heartbeat, WaitingEvent};
use serde_json::{Value, json};
use std::time::Duration;
use weir_core::key::KeyHash;
use weir_core::{KeyId, NodeId, SystemTopic};

fn told(events: &[WaitingEvent]) -> Vec<(SystemTopic, Value)> {
    events.iter().map(|event| (event.topic, serde_json::from_str(&event.payload).expect("JSON"))).collect()
}

pub async fn changes_are_told_with_the_change(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    assert_eq!(store.system_events.waiting(10, 100).await.expect("reads"), [], "nobody was there before");
    let key = store.keys.create(tenant, project, new_key(), by(1)).await.expect("makes");
    let (next, hash): (KeyId, KeyHash) = (KeyId::new(), [9; 32]);
    store.keys.rotate(tenant, key.id, (next, hash), Duration::from_secs(60), by(2)).await.expect("rotates");
    store
        .keys
        .rotate(tenant, key.id, (KeyId::new(), [8; 32]), Duration::ZERO, by(3))
        .await
        .expect_err("is replaced");
    store.keys.revoke(tenant, next, by(4)).await.expect("revokes");
    store.keys.revoke(tenant, next, by(5)).await.expect("is revoked already");

    let waiting = store.system_events.waiting(10, 100).await.expect("reads");
    let topics: Vec<SystemTopic> = waiting.iter().map(|event| event.topic).collect();
    assert_eq!(topics, [SystemTopic::KeyCreated, SystemTopic::KeyRotated, SystemTopic::KeyRevoked]);
    assert!(waiting.iter().all(|event| (event.tenant, event.project) == (tenant, Some(project))));
    let told = told(&waiting);
    assert_eq!(told[0].1["key_id"], json!(key.id));
    assert_eq!((&told[1].1["replaced_by"], &told[1].1["grace_seconds"]), (&json!(next), &json!(60)));
    assert!(waiting.iter().all(|event| !event.payload.contains("hash")));
    assert_eq!(waiting[2].at, at(4));
}

pub async fn waits_for_the_log_within_bounds(place: &Place) {
    let store = place.open().await;
    let one = set_up(&store, "acme").await.access.tenant.id;
    let other = store.tenants.create(new_tenant("rival"), by(0)).await.expect("makes").id;
    let note = |tenant, n: u32| {
        store.system_events.note(tenant, None, SystemTopic::AlertRaised, json!({ "n": n }), at(n.into()))
    };
    for n in 0..MAX_WAITING {
        assert!(note(one, n).await.expect("notes"));
    }
    assert!(!note(one, 0).await.expect("answers"), "no more of this tenant's");
    assert!(note(other, 7).await.expect("notes"), "others are not held up");

    let waiting = store.system_events.waiting(3, 100).await.expect("reads");
    let numbers: Vec<_> = told(&waiting).into_iter().map(|(_, payload)| payload["n"].clone()).collect();
    assert_eq!(numbers, [json!(0), json!(1), json!(2), json!(7)]);
    store.system_events.sent(waiting.iter().map(|event| event.id).collect()).await.expect("settles");
    let next = store.system_events.waiting(1, 100).await.expect("reads");
    assert_eq!(told(&next)[0].1["n"], json!(3));
    store.tenants.delete(one, by(1)).await.expect("deletes");
    assert_eq!(store.system_events.waiting(1, 100).await.expect("reads"), [], "nobody is there to be told");
}

pub async fn one_node_tells_at_a_time(place: &Place) {
    let store = place.open().await;
    let [first, second] = [NodeId::new(), NodeId::new()];
    for node in [first, second] {
        let beat = Heartbeat { node, started_at: at(0), confirmed: 0, lease: Duration::from_secs(600) };
        store.nodes.beat(beat).await.expect("beats");
    }
    let lease = Duration::from_secs(60);
    assert!(store.system_events.take_turn_to_tell(first, lease).await.expect("answers"));
    assert!(store.system_events.take_turn_to_tell(first, lease).await.expect("answers"));
    assert!(!store.system_events.take_turn_to_tell(second, lease).await.expect("answers"));
    store.nodes.leave(first).await.expect("leaves");
    assert!(store.system_events.take_turn_to_tell(second, lease).await.expect("answers"));
}
