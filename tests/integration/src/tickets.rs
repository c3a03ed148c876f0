//! `POST /v1/tickets`.

use reqwest::Method;
use serde_json::json;
use weir_testkit::{Sse, TestApp, Ws};

async fn one_use(app: TestApp) {
    let tenant = app.tenant().await;
    let query = format!("?ticket={}", app.api(&tenant.api_key).ticket().await);
    // Used at another node than the one that issued it.
    let mut ws = Ws::attempt(&app.ws_url(1, &query), &[]).await.expect("a WebSocket");
    ws.expect("connected").await;
    for node in 0..2 {
        let mut again = Ws::attempt(&app.ws_url(node, &query), &[]).await.expect("a WebSocket");
        assert_eq!(again.expect("error").await["error"]["code"], "INVALID_TOKEN");
        assert_eq!(again.end().await.1.code, Some(4401));
        let stream = app.nodes[node % app.nodes.len()].api();
        stream.get(&format!("/sse{query}&topics=a"), &[]).await.refused(401, "INVALID_TOKEN");
    }
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_ticket_works_once() {
    one_use(TestApp::start().await).await;
}

#[tokio::test]
async fn a_ticket_works_once_in_a_cluster() {
    one_use(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn a_ticket_stands_for_what_its_owner_may() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let token = tenant.token(&["chat.*"], &[]);
    let open = async |topics: &str| {
        let ticket = app.api(&token).ticket().await;
        let request = app.nodes[0].api().request(Method::GET, "/sse");
        Sse::attempt(request.query(&[("topics", topics), ("ticket", &ticket)])).await
    };
    let mut stream = open("chat.1").await.expect("a stream");
    app.api(&tenant.api_key).publish("chat.1", &json!("hello")).await;
    assert_eq!(stream.event().await["payload"], "hello");
    let refused = open("other").await.err().expect("refused");
    assert!(refused.starts_with("403") && refused.contains("INSUFFICIENT_SCOPE"), "{refused}");
    drop(stream);
    app.finish().await;
}

#[tokio::test]
async fn a_ticket_needs_credentials_and_is_none_for_rest() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.nodes[0].api().post("/v1/tickets", &json!({})).await.refused(401, "UNAUTHENTICATED");
    let ticket = app.api(&tenant.api_key).ticket().await;
    let answer = app.nodes[0].api().get("/v1/events", &[("ticket", &ticket)]).await;
    answer.refused(401, "UNAUTHENTICATED");
    app.finish().await;
}
