//! `/healthz`, `/readyz`, `/metrics`, and the orderly stop.

use crate::alerts;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use weir_testkit::{Answer, TestApp, until};

#[tokio::test]
async fn a_running_server_is_alive_and_ready() {
    let app = TestApp::start().await;
    app.nodes[0].ops().get("/healthz", &[]).await.expect(200);
    let ready = app.nodes[0].ops().get("/readyz", &[]).await.expect(200);
    assert_eq!(
        (&ready["ready"], &ready["database"], &ready["event_log"]),
        (&json!(true), &json!("ok"), &json!("ok"))
    );
    // The public listener shows none of it.
    for path in ["/healthz", "/readyz", "/metrics"] {
        app.nodes[0].api().get(path, &[]).await.refused(404, "NOT_FOUND");
    }
    // Whoever does not know the paths is told them.
    let elsewhere = app.nodes[0].ops().request(Method::GET, "/").send().await.expect("an answer");
    assert_eq!(elsewhere.status(), 404);
    assert!(elsewhere.text().await.expect("text").contains("/readyz"));
    app.finish().await;
}

#[tokio::test]
async fn metrics_count_and_hold_no_secret() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    app.api(&tenant.api_key).publish("a", &json!(1)).await;
    ws.event().await;
    let metrics = app.nodes[0].metrics().await;
    assert_eq!(metrics.sum("weir_connections", &["transport=\"ws\""]), Some(1.0));
    assert_eq!(metrics.sum("weir_events_delivered_total", &[]), Some(1.0));
    let published = ["route=\"/v1/events\"", "method=\"POST\"", "status=\"201\""];
    assert_eq!(metrics.sum("weir_http_requests_total", &published), Some(1.0), "{}", metrics.text());
    let secret = tenant.api_key.rsplit('_').next().expect("a secret");
    assert!(!metrics.text().contains(secret));
    assert!(!app.nodes[0].log().contains(secret));
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let app = TestApp::start().await;
    let document = app.nodes[0].api().get("/openapi.json", &[]).await.expect(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in ["/v1/events", "/v1/events/batch", "/v1/topics", "/v1/tickets"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    for path in ["/", "/docs"] {
        let page = Answer::of(app.nodes[0].api().request(Method::GET, path)).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{path}");
        let policy = page.header("content-security-policy").expect("a policy");
        for directive in
            ["default-src 'self'", "object-src 'none'", "form-action 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(directive), "{path}: {policy}");
        }
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_orderly_stop_tells_clients_to_come_back_and_ends_with_status_0() {
    let mut app =
        TestApp::start_with(&[("WEIR_LIMITS_DRAIN", "3s"), ("WEIR_LIMITS_DRAIN_SPREAD", "1s")]).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    api.publish("a", &json!("last")).await;
    let mut node = app.nodes.remove(0);
    let stopped = tokio::spawn(async move {
        node.stop().await;
        node
    });
    // What was accepted before is still delivered, then each transport is told to reconnect.
    assert_eq!(ws.event().await["payload"], "last");
    assert_eq!(stream.event().await["payload"], "last");
    let (frames, ended) = ws.end().await;
    assert!(ended.code.is_some_and(|code| (4500..4600).contains(&code)), "{frames:?} {ended:?}");
    while stream.next().await.is_some() {}
    let mut node = stopped.await.expect("the stop ends");
    node.restart().await;
    assert_eq!(api.replay("a", None).await.len(), 1);
    app.nodes.push(node);
    app.finish().await;
}

#[tokio::test]
async fn an_orderly_stop_loses_no_acknowledged_event() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let publishers: Vec<_> = (0..4)
        .map(|n| {
            let api = app.api(&tenant.api_key);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                loop {
                    let event = json!({"topic": format!("t.{n}"), "payload": acknowledged.len()});
                    match Answer::attempt(api.request(Method::POST, "/v1/events").json(&event)).await {
                        Ok(answer) if answer.status == 201 => {
                            acknowledged.push(answer.body["sequence"].as_u64())
                        }
                        _ => return acknowledged,
                    }
                }
            })
        })
        .collect();
    until("some events", async || {
        (app.api(&tenant.api_key).replay(">", None).await.len() > 50).then_some(())
    })
    .await;
    let status = app.nodes[0].stop_within(Duration::from_secs(35)).await;
    assert!(status.success());
    let mut acknowledged = Vec::new();
    for publisher in publishers {
        acknowledged.extend(publisher.await.expect("the publisher ends"));
    }
    app.nodes[0].restart().await;
    let kept: Vec<Option<u64>> = app
        .api(&tenant.api_key)
        .replay(">", None)
        .await
        .iter()
        .map(|event| event["sequence"].as_u64())
        .collect();
    assert!(acknowledged.iter().all(|sequence| kept.contains(sequence)));
    app.finish().await;
}

/// The names of an object's members.
fn members(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn top_reads_all_that_a_node_says_of_itself() {
    let app = TestApp::start_with(&alerts::QUICK).await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    app.api(&tenant.api_key).publish("a", &json!(1)).await;
    ws.event().await;
    alerts::use_a_revoked_key(&app, &tenant, 0, 6).await;
    alerts::open(&app.api(&tenant.api_key), "auth-failures").await;
    let url = format!("http://{}", app.nodes[0].ops_address());
    let look = ["top", "--once", "--json", "--interval", "0.2", "--ops", &url];
    let top = until("the tenant and the alert to be seen", async || {
        let output = app.run(&look).await;
        assert!(output.status.success(), "{output:?}");
        let top: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let node = top["nodes"][0]["node"].clone();
        (!node["tenants"][0].is_null() && !node["alerts"][0].is_null()).then_some(node)
    })
    .await;
    assert_eq!((&top["websocket"], &top["published"], &top["delivered"]), (&json!(1), &json!(1), &json!(1)));
    let said = app.nodes[0].ops().get("/overview", &[]).await.expect(200);
    // The command has types of its own, as it reads nodes of other versions too.
    for part in ["", "/tenants/0", "/nodes/0"] {
        let (read, told) = (top.pointer(part).expect("read"), said.pointer(part).expect("told"));
        assert_eq!(members(read), members(told), "{part}");
    }
    let (read, told) = (members(&top["alerts"][0]), members(&said["alerts"][0]));
    assert!(read.iter().all(|name| told.contains(name)), "{read:?} of {told:?}");
    ws.close().await;
    app.finish().await;
}
