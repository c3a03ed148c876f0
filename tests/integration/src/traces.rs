//! Traces: what they survive, and what they cost when nobody wants them. That every operation has its spans is a property.

use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use weir_testkit::{Answer, Collector, Replicas, TestApp, until};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_nothing_but_its_spans() {
    // A port that nobody listens on: this listener is closed before the server starts.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let settings = [
        ("WEIR_TELEMETRY_OTLP_ENDPOINT", endpoint.as_str()),
        ("WEIR_TELEMETRY_SAMPLING", "100%"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
    ];
    let mut app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    let complaints = |app: &TestApp| app.nodes[0].log().matches("traces cannot be exported").count();
    for n in 0..300 {
        app.api(&tenant.api_key).publish("a", &json!(n)).await;
        assert_eq!(stream.event().await["payload"], json!(n));
    }
    until("the failure to be told", async || (complaints(&app) > 0).then_some(())).await;
    // Many batches later it is still told once.
    for n in 0..300 {
        app.api(&tenant.api_key).publish("a", &json!(n)).await;
    }
    assert_eq!(complaints(&app), 1, "{}", app.nodes[0].log());
    assert!(spans(&app, "failed").await.is_some_and(|count| count > 0.0));
    assert_eq!(spans(&app, "exported").await, Some(0.0));
    drop(stream);
    let begun = Instant::now();
    app.nodes[0].stop_within(Duration::from_secs(30)).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// How many spans of a node had this outcome.
async fn spans(app: &TestApp, outcome: &str) -> Option<f64> {
    app.nodes[0].metrics().await.sum("weir_trace_spans_total", &[&format!("outcome=\"{outcome}\"")])
}

#[tokio::test]
async fn what_becomes_of_spans_is_counted() {
    let collector = Collector::start();
    let settings = collector.settings();
    let app = TestApp::start_with(&pairs(&settings)).await;
    let tenant = app.tenant().await;
    for n in 0..20 {
        app.api(&tenant.api_key).publish("a", &json!(n)).await;
    }
    // Two for each at least: the request and the publish.
    until("the spans to be exported", async || spans(&app, "exported").await.filter(|count| *count >= 40.0))
        .await;
    assert_eq!((spans(&app, "failed").await, spans(&app, "dropped").await), (Some(0.0), Some(0.0)));
    app.finish().await;

    // A collector that takes connections and says nothing.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", hangs.local_addr().expect("an address"));
    let settings = [
        ("WEIR_TELEMETRY_OTLP_ENDPOINT", endpoint.as_str()),
        ("WEIR_TELEMETRY_SAMPLING", "100%"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
    ];
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    for n in 0..100 {
        app.api(&tenant.api_key).publish("a", &json!(n)).await;
    }
    // 64 wait, 16 or fewer are under way.
    assert!(spans(&app, "dropped").await.is_some_and(|count| count >= 100.0));
    assert_eq!(spans(&app, "exported").await, Some(0.0));
    assert_eq!(app.nodes[0].log().matches("spans are dropped").count(), 1, "{}", app.nodes[0].log());
    app.finish().await;
}

#[tokio::test]
async fn without_a_collector_no_spans_are_counted() {
    let app = TestApp::start().await;
    assert_eq!(spans(&app, "exported").await, None);
    app.finish().await;
}

#[tokio::test]
async fn the_last_spans_are_sent_when_a_node_stops() {
    let collector = Collector::start();
    let settings = collector.settings();
    let mut settings = pairs(&settings);
    // Longer than any test: only the end can send them.
    settings.push(("OTEL_BSP_SCHEDULE_DELAY", "3600000"));
    let mut app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let request = app.api(&tenant.api_key).request(Method::POST, "/v1/events").header("traceparent", PARENT);
    Answer::of(request.json(&json!({"topic": "a", "payload": 1}))).await.expect(201);
    assert_eq!(collector.trace(TRACE), []);
    app.nodes[0].stop().await;
    let names = |name: &str| collector.trace(TRACE).iter().any(|span| span.name == name);
    until("the spans of the publish", async || (names("publish") && names("POST /v1/events")).then_some(()))
        .await;
}

#[tokio::test]
async fn without_a_collector_a_context_passes_through_and_is_no_part_of_the_event_embedded() {
    passes_through(TestApp::start().await).await;
}

#[tokio::test]
async fn without_a_collector_a_context_passes_through_and_is_no_part_of_the_event_on_nats() {
    passes_through(TestApp::cluster_with(1, Replicas::One, &[]).await).await;
}

async fn passes_through(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    let publish = async |body: &serde_json::Value, parent: &str| {
        let request = api.request(Method::POST, "/v1/events").header("traceparent", parent);
        Answer::of(request.header("tracestate", "v=1").json(body)).await
    };
    let event = json!({"topic": "a", "payload": 1, "id": "one", "headers": {"x": "1"}});
    publish(&event, PARENT).await.expect(201);
    let first = stream.event().await;
    assert_eq!(first["headers"], json!({"x": "1", "traceparent": PARENT, "tracestate": "v=1"}));
    // Sent again, as a retry is: another span, the same event.
    let again = publish(&event, &PARENT.replace("b7ad", "b7ae")).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    // Other words are a conflict all the same.
    let other = json!({"topic": "a", "payload": 1, "id": "one", "headers": {"x": "2"}});
    publish(&other, PARENT).await.refused(409, "DUPLICATE_EVENT_ID");
    // What is no context is as if it were not there, and the publisher's own word stays.
    publish(&json!({"topic": "a", "payload": 2}), "00-0-0-01").await.expect(201);
    assert_eq!(stream.event().await["headers"], json!(null));
    let own = PARENT.replace("-01", "-00");
    publish(&json!({"topic": "a", "payload": 3, "headers": {"traceparent": own}}), PARENT).await.expect(201);
    assert_eq!(stream.event().await["headers"], json!({"traceparent": own}));
    let kept = api.replay("a", None).await;
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[0]["headers"], first["headers"]);
    drop(stream);
    app.finish().await;
}
