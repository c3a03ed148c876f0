//! Hard limits of events in a billing period: never one too many, on however many nodes, whatever dies.

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::iter;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_testkit::{Answer, Api, Tenant, TestApp, until};

/// Publishes a batch; how many of it were accepted. The others were refused for the limit, and came last.
async fn publish(api: &Api, count: usize) -> usize {
    let events: Vec<Value> = (0..count).map(|n| json!({"topic": "t", "payload": n})).collect();
    let answer = api.post("/v1/events/batch", &json!({"events": events})).await;
    assert!(matches!(answer.status, 201 | 207), "{answer:?}");
    let answer = answer.body;
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), count, "{answer}");
    let refused: Vec<&Value> = results.iter().filter_map(|result| result.get("error")).collect();
    for error in &refused {
        assert_eq!(error["code"], "PROJECT_LIMIT_EXCEEDED", "{error}");
    }
    let accepted = count - refused.len();
    assert!(results[..accepted].iter().all(|result| result.get("error").is_none()), "{answer}");
    accepted
}

/// Tries 20,000 events on all nodes at once, in batches and one by one.
async fn twenty_thousand(app: &TestApp, tenant: &Tenant) -> usize {
    let batches = (0..1_000).map(|n| async move {
        let api = app.api_at(n, &tenant.api_key);
        let mut accepted = publish(&api, 19).await;
        let answer = api.post("/v1/events", &json!({"topic": "t", "payload": n})).await;
        match answer.status {
            201 => accepted += 1,
            _ => answer.refused(429, "PROJECT_LIMIT_EXCEEDED"),
        }
        accepted
    });
    iter(batches).buffer_unordered(32).fold(0, async |sum, accepted| sum + accepted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_thousand_attempts_on_four_nodes_exactly_the_limit_is_accepted() {
    let app = TestApp::cluster(4).await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"monthly_events": 10_000})).await;
    assert_eq!(twenty_thousand(&app, &tenant).await, 10_000);
    assert_eq!(app.api(&tenant.api_key).replay("t", None).await.len(), 10_000, "and so many are in the log");
    let refused =
        app.api_at(2, &tenant.api_key).post("/v1/events", &json!({"topic": "t", "payload": 1})).await;
    refused.refused(429, "PROJECT_LIMIT_EXCEEDED");
    let details = &refused.body["error"]["details"];
    assert_eq!((&details["limit"], &details["used"]), (&json!(10_000), &json!(10_000)), "{details}");
    assert_eq!(details["what"], "monthly_events");
    assert!(details["resets_at"].as_str().is_some_and(|at| at.ends_with("Z")), "{details}");
    assert!(refused.headers.contains_key("retry-after"));

    // More is allowed at once, on every node, and what was accepted is not counted twice.
    app.set_limits(&tenant, &json!({"monthly_events": 10_040})).await;
    let more = join_all((0..4).map(|n| {
        let api = app.api_at(n, &tenant.api_key);
        async move { publish(&api, 25).await }
    }));
    assert_eq!(more.await.iter().sum::<usize>(), 40);
    // Less, too.
    app.set_limits(&tenant, &json!({"monthly_events": 50})).await;
    assert_eq!(publish(&app.api_at(3, &tenant.api_key), 1).await, 0);
    app.set_limits(&tenant, &json!({})).await;
    assert_eq!(publish(&app.api_at(1, &tenant.api_key), 100).await, 100, "the plan itself has no limit");
    app.finish().await;
}

#[tokio::test]
async fn of_a_batch_that_fits_in_part_the_first_events_go() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"monthly_events": 7})).await;
    let api = app.api(&tenant.api_key);
    // What is stored already, or is refused for itself, takes nothing from it.
    let event = json!({"topic": "t", "payload": 1, "id": "a"});
    for _ in 0..5 {
        api.post("/v1/events", &event).await.expect(201);
    }
    let other = json!({"topic": "t", "payload": 2, "id": "a"});
    api.post("/v1/events", &other).await.refused(409, "DUPLICATE_EVENT_ID");
    api.post("/v1/events", &json!({"topic": "no spaces", "payload": 1})).await.refused(400, "INVALID_TOPIC");
    assert_eq!(publish(&api, 10).await, 6);
    assert_eq!(publish(&api, 3).await, 0);
    let kept = api.replay("t", None).await;
    let payloads: Vec<&Value> = kept.iter().map(|event| &event["payload"]).collect();
    assert_eq!(payloads, [&json!(1), &json!(0), &json!(1), &json!(2), &json!(3), &json!(4), &json!(5)]);

    let mut ws = app.ws(&tenant.api_key).await;
    ws.send(&json!({"type": "publish", "id": "p1", "topic": "t", "payload": 1})).await;
    let refused = ws.expect("error").await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("p1"), &json!("PROJECT_LIMIT_EXCEEDED")));
    assert_eq!(refused["error"]["details"]["limit"], 7);
    ws.close().await;
    app.finish().await;
}

/// Order: two frames of one connection are stored in their order, though the first finds the block used up and waits.
#[tokio::test]
async fn who_waits_for_the_next_block_keeps_its_place() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"monthly_events": 1_000_000, "publish_per_second": 0})).await;
    let mut ws = app.ws(&tenant.api_key).await;
    for n in 0..600 {
        ws.send(&json!({"type": "publish", "id": format!("p{n}"), "topic": "t", "payload": n})).await;
    }
    for _ in 0..600 {
        ws.expect("published").await;
    }
    let kept = app.api(&tenant.api_key).replay("t", None).await;
    assert!(kept.iter().zip(0..).all(|(event, n)| event["payload"] == json!(n)), "out of order");
    assert_eq!(kept.len(), 600);
    ws.close().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_held_can_be_used_within_a_minute() {
    let mut app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"monthly_events": 600})).await;
    let mut accepted = publish(&app.api_at(1, &tenant.api_key), 5).await;
    accepted += publish(&app.api_at(0, &tenant.api_key), 5).await;
    assert_eq!(accepted, 10);
    app.nodes[1].kill();
    let killed = Instant::now();
    let api = app.api_at(0, &tenant.api_key);
    while accepted < 600 {
        assert!(killed.elapsed() < Duration::from_secs(60), "{accepted} of 600 after a minute");
        let now = publish(&api, 50.min(605 - accepted)).await;
        accepted += now;
        if now == 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    assert_eq!(publish(&api, 20).await, 0);
    assert_eq!((accepted, api.replay("t", None).await.len()), (600, 600));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nothing_is_accepted_beyond_what_was_leased() {
    let app = TestApp::cluster_with_own_database(2, &[("WEIR_LIMITS_ACCESS_WINDOW", "2s")]).await;
    let tenant = app.tenant().await;
    app.set_limits(&tenant, &json!({"monthly_events": 300})).await;
    let mut accepted = publish(&app.api_at(0, &tenant.api_key), 2).await;
    accepted += publish(&app.api_at(1, &tenant.api_key), 2).await;
    app.pause_database();
    let attempts = (0..120).map(|n| {
        let api = app.api_at(n, &tenant.api_key);
        async move {
            Answer::of(api.request(Method::POST, "/v1/events").json(&json!({"topic": "t", "payload": n})))
                .await
        }
    });
    for answer in join_all(attempts).await {
        match answer.status {
            201 => accepted += 1,
            503 => answer.refused(503, "DATABASE_UNAVAILABLE"),
            _ => panic!("{answer:?}"),
        }
    }
    app.resume_database();
    until("the nodes to serve again", async || {
        let answers = join_all((0..2).map(|n| {
            let api = app.api_at(n, &tenant.api_key);
            async move { api.get("/v1/topics", &[]).await.status }
        }));
        answers.await.iter().all(|status| *status == 200).then_some(())
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while accepted < 300 && Instant::now() < deadline {
        let mut now = 0;
        for n in 0..2 {
            let events: Vec<Value> = (0..20).map(|n| json!({"topic": "t", "payload": n})).collect();
            let answer =
                app.api_at(n, &tenant.api_key).post("/v1/events/batch", &json!({"events": events})).await;
            let results = answer.body["results"].as_array().cloned().unwrap_or_default();
            now += results.iter().filter(|result| result.get("error").is_none()).count();
        }
        accepted += now;
        if now == 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    assert_eq!(publish(&app.api_at(0, &tenant.api_key), 20).await, 0);
    assert_eq!((accepted, app.api(&tenant.api_key).replay("t", None).await.len()), (300, 300));
    app.finish().await;
}
