//! Servers that are killed while they work: nothing acknowledged is lost, nothing is doubled.

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use weir_testkit::{Answer, Api, Tenant, TestApp};

const PUBLISHERS: usize = 4;

/// Kill and restart cycles: few in every run, many in `make test-faults`.
fn cycles() -> usize {
    std::env::var("WEIR_TEST_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// Publishes numbered events until told to stop, each again with the same id until it is acknowledged.
/// Gives the sequences by id.
fn publisher(apis: Vec<Api>, number: usize, stop: Arc<AtomicBool>) -> JoinHandle<HashMap<String, u64>> {
    tokio::spawn(async move {
        let mut acknowledged = HashMap::new();
        let mut attempts = number;
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let id = format!("p{number}-{n}");
            let event = json!({"topic": format!("t.{number}"), "payload": n, "id": id});
            loop {
                attempts += 1;
                let request = apis[attempts % apis.len()].request(Method::POST, "/v1/events").json(&event);
                match Answer::attempt(request).await {
                    Ok(answer) if answer.status == 201 => {
                        let sequence = answer.body["sequence"].as_u64().expect("a sequence");
                        acknowledged.insert(id, sequence);
                        break;
                    }
                    Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        acknowledged
    })
}

/// Holds the log against what was acknowledged.
async fn verify(app: &TestApp, tenant: &Tenant, publishers: Vec<JoinHandle<HashMap<String, u64>>>) -> usize {
    let kept: Vec<Value> = app.api(&tenant.api_key).replay("t.*", None).await;
    let mut places: HashMap<String, u64> = HashMap::new();
    for event in &kept {
        let id = event["id"].as_str().expect("an id").to_owned();
        let sequence = event["sequence"].as_u64().expect("a sequence");
        assert_eq!(places.insert(id.clone(), sequence), None, "{id} is in the log twice");
    }
    assert!(kept.is_sorted_by_key(|event| event["sequence"].as_u64()));
    let mut count = 0;
    for publisher in publishers {
        for (id, sequence) in publisher.await.expect("a publisher ends") {
            assert_eq!(places.get(&id), Some(&sequence), "{id} was acknowledged");
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_server_killed_while_publishing_keeps_what_it_acknowledged() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|n| publisher(vec![app.api(&tenant.api_key)], n, Arc::clone(&stop))).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles() {
        // A random moment, not a wait for one.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(30..300))).await;
        app.nodes[0].kill();
        let begun = Instant::now();
        app.nodes[0].restart().await;
        slowest = slowest.max(begun.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for publisher in &publishers {
        while !publisher.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let count = verify(&app, &tenant, publishers).await;
    println!("{count} events acknowledged over {} kills; slowest start {slowest:?}", cycles());
    assert!(count > cycles(), "only {count} events");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_brokers_killed_while_publishing_lose_nothing_acknowledged() {
    let mut app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    let stop = Arc::new(AtomicBool::new(false));
    let apis: Vec<Api> = (0..2).map(|node| app.api_at(node, &tenant.api_key)).collect();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|n| publisher(apis.clone(), n, Arc::clone(&stop))).collect();
    for cycle in 0..cycles() {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(30..300))).await;
        match cycle % 3 {
            2 => app.kill_log().await,
            node => {
                app.nodes[node].kill();
                app.nodes[node].restart().await;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for publisher in &publishers {
        while !publisher.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let count = verify(&app, &tenant, publishers).await;
    println!("{count} events acknowledged over {} kills", cycles());
    assert!(count > cycles(), "only {count} events");
    app.finish().await;
}

/// A server that stands still is not a server that lost something: its clients go on when it does.
#[tokio::test]
async fn a_paused_server_goes_on_where_it_was() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    app.nodes[0].pause();
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.publish("a", &json!("while paused")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    app.nodes[0].resume();
    waiting.await.expect("the answer comes");
    assert_eq!(ws.event().await["payload"], "while paused");
    ws.close().await;
    app.finish().await;
}
