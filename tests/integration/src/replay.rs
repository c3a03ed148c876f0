//! `GET /v1/events`: pages, cursors, and losses that are declared.

use serde_json::{Value, json};
use weir_testkit::TestApp;

#[tokio::test]
async fn patterns_and_whole_topics_select() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    for topic in ["a", "a.b", "a.b.c", "x.b", "k,v"] {
        api.publish(topic, &json!(topic)).await;
    }
    for (query, expected) in [
        (("topics", "a"), vec!["a"]),
        (("topics", "a.*"), vec!["a.b"]),
        (("topics", "a.>"), vec!["a.b", "a.b.c"]),
        (("topics", "*.b,a"), vec!["a", "a.b", "x.b"]),
        (("topics", ">"), vec!["a", "a.b", "a.b.c", "x.b", "k,v"]),
        (("topic", "k,v"), vec!["k,v"]),
    ] {
        let page = api.get("/v1/events", &[query]).await.expect(200);
        let topics: Vec<&str> =
            page["data"].as_array().expect("data").iter().filter_map(|e| e["topic"].as_str()).collect();
        assert_eq!(topics, expected, "{query:?}");
        assert_eq!((&page["has_more"], &page["gap"]), (&json!(false), &Value::Null));
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_a_replay_is_refused_by_name() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let cursor = api.publish("a", &json!(1)).await["cursor"].as_str().expect("a cursor").to_owned();
    let bad: [(&[(&str, &str)], &str); 9] = [
        (&[("topics", "a..b")], "INVALID_TOPIC"),
        (&[("topics", "a.>.b")], "INVALID_TOPIC"),
        (&[("after", "x")], "INVALID_CURSOR"),
        (&[("after", &format!("{}x", &cursor[..cursor.len() - 1]))], "INVALID_CURSOR"),
        (&[("after", &cursor), ("from_sequence", "1")], "INVALID_REQUEST"),
        (&[("from_sequence", "-1")], "INVALID_REQUEST"),
        (&[("from_time", "yesterday")], "INVALID_REQUEST"),
        (&[("limit", "0")], "INVALID_REQUEST"),
        (&[("limit", "1001")], "INVALID_REQUEST"),
    ];
    for (query, code) in bad {
        let answer = api.get("/v1/events", query).await;
        assert_eq!(answer.body["error"]["code"], code, "{query:?}");
        answer.refused(400, code);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_cursor_of_another_project_is_refused() {
    let app = TestApp::start().await;
    let (one, two) = (app.tenant().await, app.tenant().await);
    let cursor = app.api(&one.api_key).publish("a", &json!(1)).await["cursor"].clone();
    let query = [("after", cursor.as_str().expect("a cursor"))];
    app.api(&two.api_key).get("/v1/events", &query).await.refused(400, "INVALID_CURSOR");
    app.finish().await;
}

#[tokio::test]
async fn a_client_token_replays_only_what_it_may_follow() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.api(&tenant.api_key).publish("chat.1", &json!(1)).await;
    let api = app.api(&tenant.token(&["chat.*"], &[]));
    assert_eq!(api.replay("chat.1", None).await.len(), 1);
    api.get("/v1/events", &[("topics", ">")]).await.refused(403, "INSUFFICIENT_SCOPE");
    app.finish().await;
}

/// A log that is put back to an older image is shorter than what a client has read, and later holds
/// other events in the same places. Neither may pass silently.
#[tokio::test]
async fn a_log_restored_from_a_backup_is_noticed() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("a", &json!("kept")).await;

    app.nodes[0].stop().await;
    app.back_up();
    app.nodes[0].restart().await;
    let mut cursor = Value::Null;
    for _ in 0..3 {
        cursor = api.publish("a", &json!("lost")).await["cursor"].clone();
    }
    let cursor = cursor.as_str().expect("a cursor");

    app.nodes[0].stop().await;
    app.restore();
    app.nodes[0].restart().await;
    let page = api.get("/v1/events", &[("topics", "a"), ("after", cursor)]).await.expect(200);
    assert_eq!(page["gap"]["reason"], "ahead_of_log", "{page}");

    for _ in 0..5 {
        api.publish("a", &json!("rewritten")).await;
    }
    let page = api.get("/v1/events", &[("topics", "a"), ("after", cursor)]).await.expect(200);
    assert_eq!(page["gap"]["reason"], "rewritten", "{page}");

    // The same over the live transports.
    let mut ws = app.ws(&tenant.api_key).await;
    let answer = ws.subscribe(&["a"], Some(cursor)).await;
    assert_eq!(answer["recovered"], false);
    assert_eq!(ws.expect("gap").await["reason"], "rewritten");
    ws.close().await;
    let mut stream = app.sse(&tenant.api_key, "a", Some(cursor)).await;
    let gap = stream.data().await;
    assert_eq!(gap.field("event"), Some("gap"));
    assert_eq!(gap.json().expect("data")["reason"], "rewritten");
    drop(stream);
    app.finish().await;
}
