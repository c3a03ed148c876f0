//! What happens to open connections when access changes, and to a node that cannot look.

use serde_json::json;
use std::time::{Duration, Instant};
use weir_core::Scope;
use weir_testkit::TestApp;

/// Revoking is enforced on every node by its next look at the list of changes, ten times a second.
const SOON: Duration = Duration::from_secs(2);

async fn revoked(app: TestApp) {
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsPublish, Scope::EventsSubscribe]).await;
    let last = app.nodes.len() - 1;
    let mut victim = app.ws_at(last, &doomed.api_key).await;
    victim.subscribe(&["a"], None).await;
    let mut bystander = app.ws_at(last, &tenant.api_key).await;
    bystander.subscribe(&["a"], None).await;
    app.api_at(last, &doomed.api_key).publish("a", &json!("before")).await;
    assert_eq!(victim.event().await["payload"], "before");
    assert_eq!(bystander.event().await["payload"], "before");

    let begun = Instant::now();
    let output = app.run(&["keys", "revoke", "--tenant", &tenant.tenant_id, "--key", &doomed.key_id]).await;
    assert!(output.status.success(), "{output:?}");
    let (frames, ended) = victim.end().await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(ended.code, Some(4401));
    assert_eq!(frames.last().map(|frame| frame["error"]["code"].clone()), Some(json!("INVALID_API_KEY")));
    let event = json!({"topic": "a", "payload": 1});
    app.api_at(last, &doomed.api_key).post("/v1/events", &event).await.refused(401, "INVALID_API_KEY");

    app.api_at(0, &tenant.api_key).publish("a", &json!("after")).await;
    assert_eq!(bystander.event().await["payload"], "after");
    bystander.close().await;
    app.finish().await;
}

#[tokio::test]
async fn revoking_a_key_ends_its_connections_and_no_others() {
    revoked(TestApp::start().await).await;
}

#[tokio::test]
async fn revoking_a_key_ends_its_connections_on_other_nodes() {
    revoked(TestApp::cluster(2).await).await;
}

/// A node that was paused longer than its access may stay unconfirmed looks before it delivers.
#[tokio::test]
async fn a_node_that_slept_through_a_revocation_delivers_nothing_to_its_victim() {
    let app =
        TestApp::cluster_with(2, weir_testkit::Replicas::One, &[("WEIR_LIMITS_ACCESS_WINDOW", "1s")]).await;
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let mut victim = app.ws_at(1, &doomed.api_key).await;
    victim.subscribe(&["a"], None).await;
    app.nodes[1].pause();
    let paused = Instant::now();
    app.run(&["keys", "revoke", "--tenant", &tenant.tenant_id, "--key", &doomed.key_id]).await;
    app.api_at(0, &tenant.api_key).publish("a", &json!("secret")).await;
    // The window must have passed while the node stood still; nothing can be polled for.
    tokio::time::sleep(Duration::from_millis(1_500).saturating_sub(paused.elapsed())).await;
    app.nodes[1].resume();
    let (frames, ended) = victim.end().await;
    assert!(frames.iter().all(|frame| frame["type"] != "event"), "{frames:?}");
    assert_eq!(ended.code, Some(4401));
    app.finish().await;
}
