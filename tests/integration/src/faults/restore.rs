//! A log that is put back to an older image and then gets other events: whoever resumes is told, and never that all is well.
//! The embedded log's part is in `replay.rs`.

use serde_json::json;
use weir_testkit::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_restored_from_an_older_image_is_noticed() {
    let mut app = TestApp::cluster_on(1, Default::default(), &[]).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("a", &json!("kept")).await;
    let image = app.folder().join("nats-image");
    let nats = app.nats();
    nats.kill().expect("NATS is killed");
    copy(&nats.data(), &image);
    nats.restart().expect("NATS starts again");
    nats.wait().await.expect("NATS serves again");
    let mut cursor = String::new();
    for _ in 0..3 {
        let published = weir_testkit::until("publishing to work again", async || {
            let answer = api.post("/v1/events", &json!({"topic": "a", "payload": "lost"})).await;
            (answer.status == 201).then_some(answer.body)
        });
        cursor = published.await["cursor"].as_str().expect("a cursor").to_owned();
    }

    let nats = app.nats();
    nats.kill().expect("NATS is killed");
    nats.restart_on(&image).expect("NATS starts again");
    nats.wait().await.expect("NATS serves again");
    app.nodes[0].kill();
    app.nodes[0].restart().await;
    let page = api.get("/v1/events", &[("topics", "a"), ("after", &cursor)]).await.expect(200);
    assert_eq!(page["gap"]["reason"], "ahead_of_log", "{page}");
    for _ in 0..5 {
        api.publish("a", &json!("rewritten")).await;
    }
    let page = api.get("/v1/events", &[("topics", "a"), ("after", &cursor)]).await.expect(200);
    assert_eq!(page["gap"]["reason"], "rewritten", "{page}");
    let mut ws = app.ws(&tenant.api_key).await;
    assert_eq!(ws.subscribe(&["a"], Some(&cursor)).await["recovered"], false);
    assert_eq!(ws.expect("gap").await["reason"], "rewritten");
    ws.close().await;
    let mut stream = app.sse(&tenant.api_key, "a", Some(&cursor)).await;
    assert_eq!(stream.data().await.json().expect("data")["reason"], "rewritten");
    drop(stream);
    app.finish().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "the image is taken");
}
