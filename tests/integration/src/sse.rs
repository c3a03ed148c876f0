//! `GET /sse`.

use reqwest::Method;
use serde_json::{Value, json};
use weir_testkit::{Sse, TestApp};

#[tokio::test]
async fn the_last_event_id_resumes_from_header_and_query() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let cursor = api.publish("a", &json!(0)).await["cursor"].as_str().expect("a cursor").to_owned();
    for n in 1..4 {
        api.publish("a", &json!(n)).await;
    }
    let request = || api.request(Method::GET, "/sse").query(&[("topics", "a")]);
    for request in [
        request().header("last-event-id", &cursor),
        request().query(&[("last_event_id", &cursor)]),
        request().query(&[("after", &cursor)]),
        // A browser that reconnects sends the newer one in the header, the old query stays in the URL.
        request()
            .query(&[("after", &api.replay(">", None).await[2]["cursor"])])
            .header("last-event-id", &cursor),
    ] {
        let mut stream = Sse::open(request).await;
        for n in 1..4 {
            assert_eq!(stream.event().await["payload"], json!(n));
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_stream_begins_with_a_retry_and_its_headers() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let request = app.api(&tenant.api_key).request(Method::GET, "/sse").query(&[("topics", "a")]);
    let mut stream = Sse::open(request).await;
    let header =
        |name: &str| stream.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(header("x-accel-buffering").as_deref(), Some("no"));
    assert!(header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    let first = stream.next().await.expect("a first block");
    let retry: u64 = first.field("retry").expect("a retry time").parse().expect("milliseconds");
    assert!((500..30_000).contains(&retry), "{retry}");
    drop(stream);
    app.finish().await;
}

/// `onopen` fires when the head has come: what is published from then on belongs to the stream.
#[tokio::test]
async fn a_stream_is_live_when_its_head_arrives() {
    let app = TestApp::start().await;
    for _ in 0..20 {
        // A project that this node does not follow yet.
        let tenant = app.tenant().await;
        let api = app.api(&tenant.api_key);
        let mut stream = Sse::open(api.request(Method::GET, "/sse").query(&[("topics", "a")])).await;
        api.publish("a", &json!("at once")).await;
        assert_eq!(stream.event().await["payload"], "at once");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_quiet_stream_carries_comments() {
    let app = TestApp::start_with(&[("WEIR_HUB_SSE_HEARTBEAT", "1s")]).await;
    let tenant = app.tenant().await;
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    loop {
        let block = stream.next().await.expect("the stream goes on");
        assert_eq!(block.field("data"), None);
        if block.fields.iter().all(|(name, _)| name.is_empty()) {
            break;
        }
    }
    drop(stream);
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_a_stream_is_refused_as_json() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.get("/sse", &[("topics", "a..b")]).await.refused(400, "INVALID_TOPIC");
    api.get("/sse", &[]).await.refused(400, "INVALID_REQUEST");
    api.get("/sse", &[("topics", "a"), ("after", "x")]).await.refused(400, "INVALID_CURSOR");
    app.nodes[0].api().get("/sse", &[("topics", "a")]).await.refused(401, "UNAUTHENTICATED");
    // A key in a URL ends up in logs and histories.
    let answer = app.nodes[0].api().get("/sse", &[("topics", "a"), ("token", &tenant.api_key)]).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    api.post("/sse", &json!({})).await.refused(405, "METHOD_NOT_ALLOWED");
    app.finish().await;
}

#[tokio::test]
async fn a_stream_follows_many_patterns_once() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut stream = app.sse(&tenant.api_key, "a.b,a.*,>", None).await;
    for n in 0..3 {
        api.publish("a.b", &json!(n)).await;
    }
    let mut received: Vec<Value> = Vec::new();
    while received.len() < 3 {
        received.push(stream.event().await["payload"].clone());
    }
    assert_eq!(received, [json!(0), json!(1), json!(2)]);
    drop(stream);
    app.finish().await;
}
