//! `/v1/billing/usage`: what was used is told, explained, and right when servers are killed or cut off.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weir_core::Scope;
use weir_testkit::{Tenant, TestApp, until};

/// The lines of all metrics, by hour, page by page.
async fn lines(app: &TestApp, tenant: &Tenant, limit: &str) -> Vec<Value> {
    let api = app.api(&tenant.api_key);
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut query = vec![("window", "hour"), ("limit", limit)];
        if !cursor.is_empty() {
            query.push(("cursor", &cursor));
        }
        let page = api.get("/v1/billing/usage", &query).await.expect(200);
        all.extend(page["data"].as_array().expect("lines").iter().cloned());
        if page["has_more"] == json!(false) {
            return all;
        }
        cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();
    }
}

async fn total(app: &TestApp, tenant: &Tenant, metric: &str) -> u64 {
    let lines = lines(app, tenant, "1000").await;
    let of_metric = lines.iter().filter(|line| line["metric"] == metric);
    of_metric.map(|line| line["quantity"].as_u64().expect("a number")).sum()
}

/// Waits until a metric is exactly this.
async fn settles(app: &TestApp, tenant: &Tenant, metric: &str, expected: u64) {
    until(&format!("{metric} to be {expected}"), async || {
        let found = total(app, tenant, metric).await;
        assert!(found <= expected, "{found} {metric}, and only {expected} happened");
        (found == expected).then_some(())
    })
    .await;
}

/// The pieces behind a metric; they add up to its number.
async fn explained(app: &TestApp, tenant: &Tenant, metric: &str) -> Vec<Value> {
    let answer = app.api(&tenant.api_key).get("/v1/billing/usage/explain", &[("metric", metric)]).await;
    let answer = answer.expect(200);
    let pieces = answer["data"].as_array().expect("pieces").clone();
    let sum: u64 = pieces.iter().map(|piece| piece["quantity"].as_u64().expect("a number")).sum();
    assert_eq!(answer["quantity"], json!(sum), "{answer}");
    pieces
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_told_by_window_and_explained() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["t.>"], None).await;
    for n in 0..5 {
        api.publish(&format!("t.{n}"), &json!(n)).await;
        ws.event().await;
    }
    for _ in 0..2 {
        let event = json!({"topic": "u", "payload": 1, "id": "once"});
        api.post("/v1/events", &event).await;
    }
    settles(&app, &tenant, "events_published", 6).await;
    settles(&app, &tenant, "events_delivered", 5).await;
    ws.close().await;
    assert!(total(&app, &tenant, "api_requests").await >= 7);
    assert_eq!(total(&app, &other, "events_published").await, 0);

    let whole = lines(&app, &tenant, "1000").await;
    let paged = lines(&app, &tenant, "1").await;
    let names = |lines: &[Value]| {
        lines.iter().map(|l| (l["window_start"].clone(), l["metric"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&paged), names(&whole));
    for window in ["hour", "day", "month"] {
        let query = [("window", window), ("metric", "events_published"), ("project_id", &tenant.project_id)];
        let page = api.get("/v1/billing/usage", &query).await.expect(200);
        let sum: u64 =
            page["data"].as_array().expect("lines").iter().filter_map(|l| l["quantity"].as_u64()).sum();
        assert_eq!(sum, 6, "{page}");
        assert_eq!(page["data"][0]["complete"], json!(false));
    }

    let pieces = explained(&app, &tenant, "events_published").await;
    for piece in &pieces {
        let [first, last, quantity] = ["first_sequence", "last_sequence", "quantity"]
            .map(|name| piece[name].as_u64().expect("a number"));
        assert_eq!((piece["source"].as_str(), last - first + 1), (Some("log"), quantity), "{piece}");
        assert_eq!(piece["project_id"], json!(tenant.project_id));
    }
    let pieces = explained(&app, &tenant, "events_delivered").await;
    assert!(pieces.iter().all(|piece| piece["source"] == "node" && piece["batches"].as_u64() >= Some(1)));

    for (name, value) in [
        ("metric", "events"),
        ("window", "week"),
        ("from", "yesterday"),
        ("limit", "0"),
        ("cursor", "x"),
        ("project_id", "main"),
        ("from", "2020-01-01T00:00:00Z"),
        ("to", "1999-01-01T00:00:00Z"),
    ] {
        let query = [(name, value), ("to", "2026-01-01T00:00:00Z")];
        let query =
            if name == "to" { vec![query[0], ("from", "2026-01-01T00:00:00Z")] } else { query.to_vec() };
        api.get("/v1/billing/usage", &query).await.refused(400, "INVALID_REQUEST");
    }
    api.get("/v1/billing/usage/explain", &[]).await.refused(400, "INVALID_REQUEST");
    api.get("/v1/billing/usage", &[("tenant_id", &other.tenant_id)]).await.refused(404, "NOT_FOUND");
    let foreign = [("project_id", other.project_id.as_str())];
    assert_eq!(api.get("/v1/billing/usage", &foreign).await.expect(200)["data"], json!([]));
    let blind = app.key(&tenant, &[Scope::EventsPublish]).await;
    for path in ["/v1/billing/usage", "/v1/billing/usage/explain"] {
        app.api(&blind.api_key).get(path, &[]).await.refused(403, "INSUFFICIENT_SCOPE");
    }
    let metrics = app.nodes[0].metrics().await;
    assert!(metrics.sum("weir_usage_lag_seconds", &[]).expect("a gauge") < 10.0);
    assert_eq!(metrics.sum("weir_usage_lost_total", &[]), Some(0.0));
    app.finish().await;
}

/// The time of all connections together is what counts: 80 for more than a second are more than a minute.
#[tokio::test(flavor = "multi_thread")]
async fn minutes_add_up_and_nothing_is_lost_by_stopping() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut connections = Vec::new();
    for _ in 0..80 {
        connections.push(app.ws(&tenant.api_key).await);
    }
    until("a minute to come together", async || {
        (total(&app, &tenant, "websocket_minutes").await >= 1).then_some(())
    })
    .await;
    for ws in connections {
        ws.close().await;
    }
    let api = app.api(&tenant.api_key);
    let before = total(&app, &tenant, "api_requests").await;
    for n in 0..20 {
        api.publish("t", &json!(n)).await;
    }
    app.nodes[0].stop().await;
    app.nodes[0].restart().await;
    // The requests that asked count too: before, at most as many as now.
    let now = total(&app, &tenant, "api_requests").await;
    assert!(now >= before + 20, "{before} before, {now} after 20 requests and an orderly stop");
    settles(&app, &tenant, "events_published", 20).await;
    app.finish().await;
}

/// The database is away while events are delivered: they are told when it is back, each once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_while_the_database_is_away_is_told_later() {
    let app = TestApp::cluster_with_own_database(1, &[]).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["t"], None).await;
    api.publish("t", &json!(0)).await;
    ws.event().await;
    app.pause_database();
    for n in 1..=10 {
        api.publish("t", &json!(n)).await;
        ws.event().await;
    }
    until("counters to wait for the database", async || {
        (app.nodes[0].metrics().await.sum("weir_usage_unsent", &[])? >= 1.0).then_some(())
    })
    .await;
    app.resume_database();
    ws.close().await;
    until("the node to be ready", async || {
        (app.nodes[0].ops().get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    settles(&app, &tenant, "events_delivered", 11).await;
    settles(&app, &tenant, "events_published", 11).await;
    app.finish().await;
}

/// Nodes that are killed under load, on both kinds of installation: what is billed is what the log holds.
async fn billed_is_logged(mut app: TestApp) {
    let tenant = app.tenant().await;
    let stop = Arc::new(AtomicBool::new(false));
    let nodes = app.nodes.len();
    let publishers: Vec<_> = (0..4)
        .map(|n| {
            let (api, stop) = (app.api_at(n % nodes, &tenant.api_key), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Whether it was stored is not known when the node dies: the log is asked at the end.
                    let event = json!({"topic": "t", "payload": n});
                    let request = api.request(reqwest::Method::POST, "/v1/events").json(&event);
                    if weir_testkit::Answer::attempt(request).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        })
        .collect();
    for cycle in 0..4 {
        tokio::time::sleep(Duration::from_millis(500 + 350 * cycle as u64)).await;
        app.nodes[cycle % nodes].kill();
        app.nodes[cycle % nodes].restart().await;
    }
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.expect("a publisher ends");
    }
    let logged = app.api(&tenant.api_key).replay("t", None).await.len() as u64;
    assert!(logged > 50, "only {logged} events");
    settles(&app, &tenant, "events_published", logged).await;
    let pieces = explained(&app, &tenant, "events_published").await;
    assert_eq!(pieces.iter().filter_map(|piece| piece["quantity"].as_u64()).sum::<u64>(), logged);
    app.finish().await;
}

/// What is delivered is counted in memory: a kill loses what came since the last batch, and nothing is counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_about_a_second_of_deliveries() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["t"], None).await;
    let api = app.api(&tenant.api_key);
    let mut delivered = Vec::new();
    for n in 0..80 {
        api.publish("t", &json!(n)).await;
        ws.event().await;
        delivered.push(Instant::now());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let killed = Instant::now();
    app.nodes[0].kill();
    app.nodes[0].restart().await;
    settles(&app, &tenant, "events_published", 80).await;
    let billed = total(&app, &tenant, "events_delivered").await;
    // A second between two batches; a loaded machine writes the one that is under way for longer than that.
    let old = delivered.iter().filter(|at| killed.duration_since(**at) > Duration::from_millis(2_500)).count()
        as u64;
    assert!(
        (old..=80).contains(&billed),
        "{billed} of 80 are billed, {old} were delivered long before the kill"
    );
    assert!(old > 0, "everything happened at the end");
    let pieces = explained(&app, &tenant, "events_delivered").await;
    assert!(pieces.iter().all(|piece| piece["first_batch"].as_u64() <= piece["last_batch"].as_u64()));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_server_that_is_killed_bills_what_is_logged() {
    billed_is_logged(TestApp::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_bill_what_is_logged() {
    billed_is_logged(TestApp::cluster(2).await).await;
}
