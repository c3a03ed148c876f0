//! Every limit alone: what is one below it passes, what is one above it is refused by name, and nothing else changes.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weir_testkit::{Answer, CONNECTIONS, Sse, Tenant, TestApp, Ws, until};

/// A WebSocket, or why it was refused: after the upgrade, in a frame.
async fn connect(app: &TestApp, node: usize, key: &str) -> Result<Ws, Value> {
    let bearer = format!("Bearer {key}");
    let opened = Ws::attempt(&app.ws_url(node, ""), &[("authorization", &bearer)]).await;
    let mut ws = opened.unwrap_or_else(|refusal| panic!("no upgrade: {refusal:?}"));
    match ws.next().await {
        Ok(frame) if frame["type"] == "connected" => Ok(ws),
        Ok(frame) => {
            assert_eq!(ws.end().await.1.code, Some(4530), "{frame}");
            Err(frame["error"].clone())
        }
        Err(ended) => panic!("ended without a word: {ended:?}"),
    }
}

/// An event stream, or the answer that refused it.
async fn stream(app: &TestApp, node: usize, key: &str) -> Result<Sse, Answer> {
    let request = app.api_at(node, key).request(Method::GET, "/sse").query(&[("topics", "a")]);
    let copy = request.try_clone().expect("a plain request");
    match Sse::attempt(request).await {
        Ok(mut stream) => {
            stream.started().await;
            Ok(stream)
        }
        Err(_) => Err(Answer::of(copy).await),
    }
}

#[tokio::test]
async fn connections_of_a_tenant_are_counted_over_all_nodes_and_transports() {
    let mut app =
        TestApp::cluster_with(2, weir_testkit::Replicas::One, &[("WEIR_LIMITS_ACCESS_WINDOW", "1s")]).await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"connections": 6})).await;
    let attempts = join_all((0..20).map(|n| connect(&app, n, &tenant.api_key))).await;
    let (mut open, refused): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
    assert_eq!((open.len(), refused.len()), (6, 14));
    for error in refused.into_iter().filter_map(Result::err) {
        assert_eq!(error["code"], "PROJECT_LIMIT_EXCEEDED", "{error}");
        assert_eq!(error["details"], json!({"limit": 6, "used": 6, "what": "connections"}));
    }
    let none = stream(&app, 1, &tenant.api_key).await.err().expect("streams count too");
    none.refused(429, "PROJECT_LIMIT_EXCEEDED");
    // One goes, on whichever node: there is room for one, on either.
    open.pop().expect("six are open").expect("open").close().await;
    let streams = vec![stream(&app, 0, &tenant.api_key).await.expect("there is room")];
    assert!(connect(&app, 1, &tenant.api_key).await.is_err());

    // A node that is killed holds its share no longer than its lease.
    app.nodes[1].kill();
    drop((open, streams));
    let again = until("all of the limit to be free again", async || {
        let mut again = Vec::new();
        for _ in 0..6 {
            again.push(connect(&app, 0, &tenant.api_key).await.ok()?);
        }
        Some(again)
    });
    let again = again.await;
    assert!(connect(&app, 0, &tenant.api_key).await.is_err());
    for ws in again {
        ws.close().await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_lowered_limit_lets_nobody_in_and_throws_nobody_out() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"connections": 10})).await;
    let mut open = Vec::new();
    for n in 0..6 {
        open.push(app.ws_at(n, &tenant.api_key).await);
    }
    app.set_limits(&tenant, &json!({"connections": 4})).await;
    for node in 0..2 {
        let refused = connect(&app, node, &tenant.api_key).await.err().expect("six are more than four");
        assert_eq!((&refused["details"]["limit"], &refused["details"]["used"]), (&json!(4), &json!(6)));
    }
    for ws in &mut open {
        ws.send(&json!({"type": "ping"})).await;
        ws.expect("pong").await;
    }
    for ws in open {
        ws.close().await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_project_may_have_fewer_connections_than_its_tenant() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.set_project_limits(&tenant, &json!({"connections": 2})).await;
    let first = stream(&app, 0, &tenant.api_key).await.expect("room");
    let second = connect(&app, 0, &tenant.api_key).await.expect("room");
    let refused = connect(&app, 0, &tenant.api_key).await.err().expect("no room");
    assert_eq!(refused["details"], json!({"limit": 2, "used": 2, "what": "project_connections"}));
    drop(first);
    until("the stream to be counted out", async || {
        (app.nodes[0].metrics().await.sum(CONNECTIONS, &[])? == 1.0).then_some(())
    })
    .await;
    let third = connect(&app, 0, &tenant.api_key).await.expect("room again");
    second.close().await;
    third.close().await;
    app.finish().await;
}

/// Publishes until refused; how many were accepted, and the refusal.
async fn burst(app: &TestApp, key: &str) -> (usize, Answer) {
    for n in 0..200 {
        let answer = app.api(key).post("/v1/events", &json!({"topic": "a", "payload": n})).await;
        if answer.status != 201 {
            return (n, answer);
        }
        assert!(answer.header("ratelimit-remaining").is_some(), "{:?}", answer.headers);
    }
    panic!("200 requests in a row were not limited");
}

async fn rate_of(whose: &str, limit: impl AsyncFn(&TestApp, &Tenant)) {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    // Another key of the same project shares the rate.
    let other = app.key(&tenant, &[weir_core::Scope::EventsPublish]).await.api_key;
    limit(&app, &tenant).await;
    let (accepted, refused) = burst(&app, &tenant.api_key).await;
    assert!(accepted >= 3, "{accepted}");
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(
        refused.body["error"]["details"]["what"],
        json!(format!("requests_per_second of the {whose}"))
    );
    assert_eq!(refused.header("ratelimit-limit"), Some("3"));
    assert!(refused.header("retry-after").is_some());
    let (others, _) = burst(&app, &other).await;
    assert!(others < 3, "the burst was used up by the first key: {others}");
    // Another tenant is not slowed down.
    let neighbour = app.tenant().await;
    for n in 0..20 {
        app.api(&neighbour.api_key).publish("a", &json!(n)).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn requests_of_a_tenant_per_second() {
    rate_of("tenant", async |app, tenant| {
        app.set_limits(tenant, &json!({"requests_per_second": 3})).await;
    })
    .await;
}

#[tokio::test]
async fn requests_of_a_project_per_second() {
    rate_of("project", async |app, tenant| {
        app.set_project_limits(tenant, &json!({"requests_per_second": 3})).await;
    })
    .await;
}

#[tokio::test]
async fn new_connections_of_a_node_per_second() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "2")]).await;
    let tenant = app.tenant().await;
    let bearer = format!("Bearer {}", tenant.api_key);
    let (url, header) = (app.ws_url(0, ""), [("authorization", bearer.as_str())]);
    let attempts = join_all((0..12).map(|_| Ws::attempt(&url, &header))).await;
    let refused: Vec<_> = attempts.iter().filter_map(|attempt| attempt.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() <= 10, "{} of 12 were refused", refused.len());
    for (status, body) in refused {
        assert_eq!((*status, &body["error"]["code"]), (503, &json!("OVERLOADED")), "{body}");
        assert_eq!(body["error"]["details"]["limit"], json!(2));
    }
    for ws in attempts.into_iter().flatten() {
        ws.close().await;
    }
    app.finish().await;
}

/// The first answer that is an error, and how many came before it.
async fn first_error(ws: &mut Ws, request: impl Fn(usize) -> Value) -> (usize, Value) {
    for n in 0..100 {
        let answer = ws.ask(request(n)).await;
        if answer["type"] == "error" {
            return (n, answer["error"].clone());
        }
    }
    panic!("100 requests in a row were not limited");
}

#[tokio::test]
async fn publishes_and_subscriptions_of_a_connection_per_second() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"publish_per_second": 3, "subscribe_per_second": 2})).await;
    let mut ws = app.ws(&tenant.api_key).await;
    let publish = |n| json!({"type": "publish", "topic": "a", "payload": n});
    let (accepted, error) = first_error(&mut ws, publish).await;
    assert!(accepted >= 3, "{accepted}");
    assert_eq!((&error["code"], &error["details"]["limit"]), (&json!("RATE_LIMIT_EXCEEDED"), &json!(3)));
    let subscribe = |n| json!({"type": "subscribe", "topics": [format!("t{n}")]});
    let (accepted, error) = first_error(&mut ws, subscribe).await;
    assert!(accepted >= 2, "{accepted}");
    assert_eq!((&error["code"], &error["details"]["limit"]), (&json!("RATE_LIMIT_EXCEEDED"), &json!(2)));
    // The other connection has rates of its own; raised limits hold on open ones too.
    let mut other = app.ws(&tenant.api_key).await;
    assert_eq!(other.ask(publish(0)).await["type"], "published");
    app.set_limits(&tenant, &json!({})).await;
    for n in 0..20 {
        assert_eq!(other.ask(publish(n)).await["type"], "published");
    }
    ws.close().await;
    other.close().await;
    app.finish().await;
}

#[tokio::test]
async fn topics_and_payloads_of_a_tenant() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"topics_per_connection": 2, "payload_bytes": 100})).await;
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a", "b"], None).await;
    let refused = ws.ask(json!({"type": "subscribe", "topics": ["c"]})).await;
    assert_eq!(refused["error"]["code"], "PROJECT_LIMIT_EXCEEDED");
    assert_eq!(refused["error"]["details"]["limit"], json!(2));
    ws.close().await;
    let api = app.api(&tenant.api_key);
    // Two of them are the quotes.
    api.publish("a", &json!("x".repeat(98))).await;
    let large = api.post("/v1/events", &json!({"topic": "a", "payload": "x".repeat(99)})).await;
    large.refused(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(large.body["error"]["details"]["limit_bytes"], json!(100));
    app.finish().await;
}

#[tokio::test]
async fn heads_batches_and_tokens() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_BATCH_EVENTS", "3")]).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let head = |bytes| api.request(Method::GET, "/v1/topics").header("x-padding", "x".repeat(bytes));
    Answer::of(head(8 << 10)).await.expect(200);
    assert_eq!(Answer::of(head(17 << 10)).await.status, 431);
    let batch = |count| json!({"events": vec![json!({"topic": "a", "payload": 1}); count]});
    api.post("/v1/events/batch", &batch(3)).await.expect(201);
    api.post("/v1/events/batch", &batch(4)).await.refused(400, "INVALID_REQUEST");
    let long = tenant.token(&["a"], &["a"]) + &"x".repeat(4096);
    app.api(&long)
        .post("/v1/events", &json!({"topic": "a", "payload": 1}))
        .await
        .refused(401, "INVALID_TOKEN");
    app.finish().await;
}

/// What is known of a key, and the share of connections at hand, need no database.
#[tokio::test]
async fn warm_requests_ask_the_database_nothing() {
    let app = TestApp::cluster_with_own_database(1, &[("WEIR_LIMITS_ACCESS_WINDOW", "30s")]).await;
    let tenant = app.tenant().await;
    let token = tenant.token(&["a"], &["a"]);
    for credential in [&tenant.api_key, &token] {
        app.api(credential).publish("a", &json!("warm")).await;
    }
    let first = app.ws(&tenant.api_key).await;
    app.pause_database();
    for n in 0..50 {
        for credential in [&tenant.api_key, &token] {
            app.api(credential).publish("a", &json!(n)).await;
        }
    }
    let mut second = app.ws(&tenant.api_key).await;
    second.subscribe(&["a"], None).await;
    app.resume_database();
    first.close().await;
    second.close().await;
    app.finish().await;
}
