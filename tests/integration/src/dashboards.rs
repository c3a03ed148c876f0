//! The dashboards that are shipped: every query of every panel, run against a Prometheus that scrapes servers at work.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;
use weir_testkit::prometheus::Prometheus;
use weir_testkit::stripe::FakeStripe;
use weir_testkit::{Replicas, Tenant, TestApp, until};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/observability/grafana/dashboards");
const NATS_LIMIT: (&str, &str) = ("WEIR_NATS_STREAM_MAX_BYTES", "1GiB");

/// A query, and where it stands.
struct Query {
    place: String,
    text: String,
}

fn queries() -> Vec<Query> {
    let mut all = Vec::new();
    for file in fs::read_dir(FOLDER).expect("the dashboards") {
        let file = file.expect("a file").path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&file).expect("reads")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().expect("queries");
            assert!(!targets.is_empty(), "{panel}");
            all.extend(targets.iter().map(|target| Query {
                place: format!("{}: {}", dashboard["title"], panel["title"]),
                text: filled(target["expr"].as_str().expect("a query")),
            }));
        }
    }
    all
}

/// With what Grafana puts in the place of variables.
fn filled(query: &str) -> String {
    let text = query.replace("$__rate_interval", "15s").replace("$instance", ".*").replace("$tenant", ".*");
    assert!(!text.contains('$'), "a variable that is not known: {text}");
    text
}

/// Somebody who keeps a node busy in every way until told to stop.
async fn keep_busy(app: Arc<TestApp>, node: usize, tenant: Tenant, stop: Arc<AtomicBool>) {
    let mut ws = app.ws_at(node, &tenant.api_key).await;
    ws.subscribe(&["a.>"], None).await;
    let mut sse = app.sse_at(node, &tenant.api_key, "a.>", None).await;
    let api = app.api_at(node, &tenant.api_key);
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for event in [
            json!({"topic": "a.b", "payload": round}),
            json!({"topic": "a.c", "payload": 1, "id": "the same"}),
            json!({"topic": "a.c", "payload": round + 2, "id": "the same"}),
            json!({"topic": "no topic", "payload": 1}),
        ] {
            api.post("/v1/events", &event).await;
        }
        ws.ask(json!({"type": "publish", "topic": "a.d", "payload": round})).await;
        ws.ask(json!({"type": "nonsense"})).await;
        ws.ask(json!({"type": "subscribe", "topics": [format!("a.new{}", round % 50)]})).await;
        ws.event().await;
        sse.event().await;
        api.get("/v1/events", &[("topics", "a.>"), ("limit", "5")]).await;
        api.post("/graphql", &json!({"query": "{ __typename }"})).await;
        app.api_at(node, "weir_x_y").get("/v1/topics", &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panel_is_empty() {
    let fake = FakeStripe::start().await;
    let stripe = fake.settings(&fake.metered_plan());
    let stripe: Vec<_> = stripe.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let embedded = Arc::new(TestApp::start_with(&stripe).await);
    let cluster = Arc::new(TestApp::cluster_with(2, Replicas::One, &[NATS_LIMIT]).await);
    let (mut work, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for app in [&embedded, &cluster] {
        let tenant = app.tenant().await;
        for node in 0..app.nodes.len() {
            work.spawn(keep_busy(Arc::clone(app), node, tenant.clone(), Arc::clone(&stop)));
        }
    }
    let nodes: Vec<&str> =
        [&embedded, &cluster].iter().flat_map(|app| &app.nodes).map(|node| node.ops_address()).collect();
    let rules = Path::new(FOLDER).join("../../prometheus/weir.rules.yaml");
    let prometheus = Prometheus::start(&nodes, &[&rules], false).await;
    let all = queries();
    assert!(all.len() > 90, "{} queries", all.len());
    for Query { place, text } in all {
        until(&format!("{place} to show something: {text}"), async || {
            let found = prometheus.query(&text).await;
            let numbers = found.iter().filter_map(|one| one["value"][1].as_str()?.parse::<f64>().ok());
            numbers.filter(|number| number.is_finite()).count().checked_sub(1)
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(worked) = work.join_next().await {
        worked.expect("the work went well");
    }
    for app in [embedded, cluster] {
        Arc::into_inner(app).expect("nobody else has it").finish().await;
    }
}
