//! What happens to open connections when access changes, and to a node that cannot look.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_core::Scope;
use weir_testkit::{Answer, TestApp, until};

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

/// Revokes a key over the administration's interface of the first node; gives `enforced`.
async fn revoke(app: &TestApp, admin: &str, key: &str) -> Value {
    let request = app.api(admin).request(Method::DELETE, &format!("/v1/admin/keys/{key}"));
    Answer::of(request).await.expect(200)["enforced"].take()
}

#[tokio::test]
async fn the_answer_to_a_revocation_counts_every_node_and_every_connection() {
    let app = TestApp::cluster(3).await;
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let (mut sockets, mut streams, mut bystanders) = (Vec::new(), Vec::new(), Vec::new());
    for node in 0..3 {
        for _ in 0..2 {
            sockets.push(app.ws_at(node, &doomed.api_key).await);
        }
        streams.push(app.sse_at(node, &doomed.api_key, "a", None).await);
        bystanders.push(app.ws_at(node, &tenant.api_key).await);
    }
    let enforced = revoke(&app, &tenant.api_key, &doomed.key_id).await;
    assert_eq!(enforced, json!({"nodes": 3, "of": 3, "connections_closed": 9}));
    for mut socket in sockets {
        assert_eq!(socket.end().await.1.code, Some(4401));
    }
    for mut stream in streams {
        while stream.next().await.is_some() {}
    }
    // Once more ends nothing more.
    let again = revoke(&app, &tenant.api_key, &doomed.key_id).await;
    assert_eq!(again, json!({"nodes": 3, "of": 3, "connections_closed": 0}));
    for bystander in bystanders {
        bystander.close().await;
    }
    app.finish().await;
}

/// A node that was paused longer than its access may stay unconfirmed looks before it delivers; until it has certainly
/// stopped on its own the answers count it as missing.
#[tokio::test]
async fn a_node_that_slept_through_a_revocation_is_missed_and_delivers_nothing_to_its_victim() {
    let settings = [("WEIR_LIMITS_ACCESS_WINDOW", "1s"), ("WEIR_LIMITS_ENFORCE_WAIT", "300ms")];
    let app = TestApp::cluster_with(3, weir_testkit::Replicas::One, &settings).await;
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let mut victim = app.ws_at(2, &doomed.api_key).await;
    victim.subscribe(&["a"], None).await;
    let mut other = app.ws_at(1, &doomed.api_key).await;
    app.nodes[2].pause();
    let paused = Instant::now();
    let missed = revoke(&app, &tenant.api_key, &doomed.key_id).await;
    assert_eq!(missed, json!({"nodes": 2, "of": 3, "connections_closed": 1}));
    assert_eq!(other.end().await.1.code, Some(4401));
    app.api(&tenant.api_key).publish("a", &json!("secret")).await;
    // Its lease is the access window and two seconds; then nobody waits for it any more.
    let counted = until("the paused node to count no more", async || {
        let answer = revoke(&app, &tenant.api_key, &doomed.key_id).await;
        (answer["of"] == json!(2)).then_some(answer)
    });
    assert_eq!(counted.await["nodes"], json!(2));
    assert!(paused.elapsed() > Duration::from_secs(1), "its window must have passed");
    app.nodes[2].resume();
    let (frames, ended) = victim.end().await;
    assert!(frames.iter().all(|frame| frame["type"] != "event"), "{frames:?}");
    assert_eq!(ended.code, Some(4401));
    until("the node to be back", async || {
        let answer = revoke(&app, &tenant.api_key, &doomed.key_id).await;
        (answer["nodes"] == json!(3) && answer["of"] == json!(3)).then_some(())
    })
    .await;
    app.finish().await;
}

/// Without the database nobody can say who may receive; with it everything goes on where it was.
#[tokio::test]
async fn nodes_without_their_database_stop_within_the_window_and_recover() {
    let app = TestApp::cluster_with_own_database(2, &[("WEIR_LIMITS_ACCESS_WINDOW", "1s")]).await;
    let tenant = app.tenant().await;
    let mut reader = app.ws_at(1, &tenant.api_key).await;
    reader.subscribe(&["a"], None).await;
    let event = json!({"topic": "a", "payload": "before"});
    for node in 0..2 {
        // From now on the node knows the key.
        app.api_at(node, &tenant.api_key).post("/v1/events", &event).await.expect(201);
    }
    app.pause_database();
    let gone = Instant::now();
    for node in 0..2 {
        until("the node to refuse", async || {
            let answer = app.api_at(node, &tenant.api_key).post("/v1/events", &event).await;
            (answer.status == 503).then(|| answer.refused(503, "DATABASE_UNAVAILABLE"))
        })
        .await;
    }
    assert!(gone.elapsed() < Duration::from_secs(5), "it took {:?}", gone.elapsed());
    app.resume_database();
    let accepted = until("a node to accept again", async || {
        let event = json!({"topic": "a", "payload": "recovered"});
        let answer = app.api(&tenant.api_key).post("/v1/events", &event).await;
        (answer.status == 201).then_some(answer.body)
    });
    let accepted = accepted.await;
    // On the same connection, in order, with whatever was accepted before the nodes stopped.
    while reader.event().await["sequence"] != accepted["sequence"] {}
    reader.close().await;
    app.finish().await;
}
