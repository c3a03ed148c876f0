//! `/metrics`, as those read it who will: Prometheus' own tool, and a Prometheus.

use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use weir_testkit::prometheus::{Prometheus, promtool};
use weir_testkit::stripe::FakeStripe;
use weir_testkit::{Collector, Replicas, Sse, Tenant, TestApp, Ws, until};

/// What can be measured, as the documentation has it.
const CATALOGUE: &str = include_str!("../../../docs/metrics.md");
const NATS_LIMIT: (&str, &str) = ("WEIR_NATS_STREAM_MAX_BYTES", "1GiB");

/// The series of the documentation.
fn catalogue() -> BTreeSet<String> {
    CATALOGUE
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect()
}

/// A bit of everything, with somebody who listens.
async fn work(app: &TestApp, tenant: &Tenant) -> (Ws, Sse) {
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&[">"], None).await;
    let mut sse = app.sse(&tenant.api_key, ">", None).await;
    let api = app.api(&tenant.api_key);
    for n in 0..20 {
        api.publish("a.b", &json!(n)).await;
        ws.event().await;
        sse.event().await;
    }
    assert_eq!(api.replay(">", None).await.len(), 20);
    api.post("/v1/events", &json!({"topic": "no topic", "payload": 1})).await.refused(400, "INVALID_TOPIC");
    (ws, sse)
}

#[tokio::test]
async fn the_catalogue_is_what_is_exposed() {
    let fake = FakeStripe::start().await;
    let stripe = fake.settings(&fake.metered_plan());
    let collector = Collector::start();
    let stripe = [stripe, collector.settings()].concat();
    let stripe: Vec<_> = stripe.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let embedded = TestApp::start_with(&stripe).await;
    let cluster = TestApp::cluster_with(1, Replicas::One, &[NATS_LIMIT]).await;
    let mut found = BTreeSet::new();
    for app in [&embedded, &cluster] {
        let tenant = app.tenant().await;
        let (ws, sse) = work(app, &tenant).await;
        let metrics = app.nodes[0].metrics().await;
        found.extend(metrics.kinds().into_keys());
        // Nothing that a tool would complain of.
        let read = promtool(&["check", "metrics"], metrics.text());
        assert!(read.status.success() && read.stdout.is_empty(), "{read:?}");
        drop((ws, sse));
    }
    assert_eq!(found, catalogue());
    embedded.finish().await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_prometheus_reads_all_three_formats_alike() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let (ws, sse) = work(&app, &tenant).await;
    let node = app.nodes[0].ops_address().to_owned();
    let usual = Prometheus::start(&[&node], &[], false).await;
    let native = Prometheus::start(&[&node], &[], true).await;
    for prometheus in [&usual, &native] {
        assert_eq!(prometheus.value("up").await, 1.0);
        assert_eq!(prometheus.value("weir_events_published_total").await, 20.0);
        assert_eq!(prometheus.value("weir_connections{transport='sse'}").await, 1.0);
        let created = "sum(weir_http_requests_total{route='/v1/events', method='POST', status='201'})";
        assert_eq!(prometheus.value(created).await, 20.0);
    }
    let appends = "weir_log_call_duration_seconds";
    let of = "{call='append'}";
    assert_eq!(usual.value(&format!("{appends}_count{of}")).await, 20.0);
    assert_eq!(usual.value(&format!("{appends}_bucket{{call='append',le='+Inf'}}")).await, 20.0);
    // The cells themselves, with the same sum and the same median, but for the width of the coarse buckets.
    assert_eq!(native.value(&format!("histogram_count({appends}{of})")).await, 20.0);
    let sum = usual.value(&format!("{appends}_sum{of}")).await;
    assert!((native.value(&format!("histogram_sum({appends}{of})")).await - sum).abs() < 1e-9);
    let fine = native.value(&format!("histogram_quantile(0.5, {appends}{of})")).await;
    let coarse = usual.value(&format!("histogram_quantile(0.5, {appends}_bucket{of})")).await;
    assert!(fine / coarse < 2.1 && coarse / fine < 2.1, "{fine} and {coarse}");
    // Of what has counted nothing yet, too.
    let none = "histogram_count(weir_websocket_frame_duration_seconds{frame='refresh'})";
    assert_eq!(native.value(none).await, 0.0);
    drop((ws, sse));
    app.finish().await;
}

#[tokio::test]
async fn the_series_of_a_deleted_tenant_vanish() {
    let app = TestApp::start().await;
    let (gone, stays) = (app.tenant().await, app.tenant().await);
    for tenant in [&gone, &stays] {
        app.api(&tenant.api_key).publish("a", &json!(1)).await;
    }
    let shown = async |tenant: &Tenant| {
        let label = format!("tenant=\"{}\"", tenant.tenant_id);
        app.nodes[0].metrics().await.sum("weir_tenant_events_published_total", &[&label])
    };
    assert_eq!((shown(&gone).await, shown(&stays).await), (Some(1.0), Some(1.0)));
    let made = app.run(&["users", "create", "--email", "ops@weir.test", "--operator"]).await;
    let invitation = String::from_utf8(made.stdout).expect("text");
    let accept = json!({"invitation": invitation.trim(), "password": "correct horse battery"});
    let staff = app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    let api = app.api(staff["access_token"].as_str().expect("a token"));
    let path = format!("/v1/admin/tenants/{}", gone.tenant_id);
    let deleted = weir_testkit::Answer::of(api.request(Method::DELETE, &path)).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    assert_eq!((shown(&gone).await, shown(&stays).await), (None, Some(1.0)));
    app.finish().await;
}

#[tokio::test]
async fn readiness_says_what_is_wrong_while_the_database_hangs() {
    let app = TestApp::cluster_with_own_database(1, &[]).await;
    app.nodes[0].ops().get("/readyz", &[]).await.expect(200);
    app.pause_database();
    let answer = app.nodes[0].ops().get("/readyz", &[]).await;
    assert_eq!(answer.status, 503);
    assert_eq!((&answer.body["ready"], &answer.body["event_log"]), (&json!(false), &json!("ok")));
    assert!(answer.body["database"].as_str().is_some_and(|word| word.contains("no answer")), "{answer:?}");
    // Being watched does not depend on what is watched.
    let metrics = app.nodes[0].metrics().await;
    assert_eq!(metrics.sum("weir_dependency_up", &["dependency=\"database\""]), Some(0.0));
    assert_eq!(metrics.sum("weir_dependency_up", &["dependency=\"event_log\""]), Some(1.0));
    app.nodes[0].ops().get("/healthz", &[]).await.expect(200);
    app.resume_database();
    until("the node to be ready again", async || {
        (app.nodes[0].ops().get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn operations_and_sessions_are_counted_by_kind() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.post("/graphql", &json!({"query": "{ __typename }"})).await.expect(200);
    api.post("/graphql", &json!({"query": "{ nothing }"})).await;
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    graphql.stream("1", &["a"], None).await;
    let ws = app.ws(&tenant.api_key).await;
    let name = "weir_graphql_operations_total";
    let metrics = until("the subscription to stand", async || {
        let metrics = app.nodes[0].metrics().await;
        (metrics.sum(name, &["kind=\"subscription\"", "outcome=\"ok\""])? > 0.0).then_some(metrics)
    })
    .await;
    let operations = |kind: &str, outcome: &str| {
        metrics.sum(name, &[&*format!("kind=\"{kind}\""), &*format!("outcome=\"{outcome}\"")])
    };
    assert_eq!((operations("query", "ok"), operations("query", "refused")), (Some(1.0), Some(1.0)));
    assert_eq!((operations("mutation", "ok"), operations("subscription", "ok")), (Some(0.0), Some(1.0)));
    for (protocol, sessions) in [("ws", 1.0), ("graphql_ws", 1.0), ("sse", 0.0), ("graphql_sse", 0.0)] {
        let label = format!("protocol=\"{protocol}\"");
        assert_eq!(metrics.sum("weir_sessions", &[&label]), Some(sessions), "{protocol}");
    }
    ws.close().await;
    drop(graphql);
    app.finish().await;
}
