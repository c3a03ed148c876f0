//! The main promise: whoever comes back with a cursor, over any transport and at any node, gets every
//! event once and in order.

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_testkit::{Sse, Tenant, TestApp};

const CYCLES: usize = 1000;
const READERS: usize = 4;

/// Reads some events after `cursor` over a transport and node of the dice's choice, and is cut off.
async fn one_cycle(app: &TestApp, tenant: &Tenant, dice: &mut StdRng, cursor: &str) -> Vec<Value> {
    let node = dice.random_range(0..app.nodes.len());
    let wanted = dice.random_range(0..12);
    let mut events = Vec::new();
    match dice.random_range(0..3) {
        0 => {
            let mut ws = app.ws_at(node, &tenant.api_key).await;
            let answer = ws.subscribe(&["news.>"], Some(cursor)).await;
            assert_eq!(answer["recovered"], true, "{answer}");
            while events.len() < wanted {
                events.push(ws.event().await);
            }
            // Every other cut is orderly; the rest are torn off with frames on their way.
            if dice.random() {
                ws.close().await;
            }
        }
        1 => {
            let request = app.api_at(node, &tenant.api_key).request(Method::GET, "/sse");
            let request = request.query(&[("topics", "news.>")]).header("last-event-id", cursor);
            let mut stream = Sse::open(request).await;
            while events.len() < wanted {
                events.push(stream.event().await);
            }
        }
        _ => {
            let limit = wanted.max(1).to_string();
            let query = [("topics", "news.>"), ("after", cursor), ("limit", &limit)];
            let page = app.api_at(node, &tenant.api_key).get("/v1/events", &query).await.expect(200);
            assert_eq!(page["gap"], Value::Null);
            events.extend(page["data"].as_array().expect("data").clone());
        }
    }
    events
}

async fn reader(app: Arc<TestApp>, tenant: Tenant, start: String, seed: u64) -> Vec<Value> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut cursor = start;
    let mut received: Vec<Value> = Vec::new();
    for _ in 0..CYCLES / READERS {
        received.extend(one_cycle(&app, &tenant, &mut dice, &cursor).await);
        if let Some(last) = received.last() {
            cursor = last["cursor"].as_str().expect("a cursor").to_owned();
        }
    }
    received.extend(app.api(&tenant.api_key).replay("news.>", Some(&cursor)).await);
    received
}

/// Publishes on several topics at all nodes until told to stop; some events are none of the readers'.
async fn publisher(app: Arc<TestApp>, tenant: Tenant, number: usize, stop: Arc<AtomicBool>) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let topic = if n % 5 == 0 { "other".to_owned() } else { format!("news.{}", n % 3) };
        app.api_at(n, &tenant.api_key).publish(&topic, &json!([number, n])).await;
    }
}

async fn cut_and_resume(app: TestApp) {
    let tenant = app.tenant().await;
    let start = app.api(&tenant.api_key).publish("news.0", &json!("start")).await;
    let start = start["cursor"].as_str().expect("a cursor").to_owned();
    let seed = rand::random::<u64>();
    println!("seed {seed}");

    let (app, stop) = (Arc::new(app), Arc::new(AtomicBool::new(false)));
    let publishers: Vec<_> = (0..2)
        .map(|number| tokio::spawn(publisher(Arc::clone(&app), tenant.clone(), number, Arc::clone(&stop))))
        .collect();
    let readers: Vec<_> = (0..READERS as u64)
        .map(|n| tokio::spawn(reader(Arc::clone(&app), tenant.clone(), start.clone(), seed.wrapping_add(n))))
        .collect();
    let all: Vec<Vec<Value>> =
        join_all(readers).await.into_iter().map(|reader| reader.expect("a reader ends")).collect();
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.expect("a publisher ends");
    }

    // Received = logged, in order, without duplicates, as far as the reader's last read went.
    let logged = app.api(&tenant.api_key).replay("news.>", Some(&start)).await;
    let place = |event: &Value| (event["sequence"].as_u64(), event["id"].clone(), event["payload"].clone());
    let expected: Vec<_> = logged.iter().map(place).collect();
    for received in all {
        let received: Vec<_> = received.iter().map(place).collect();
        assert!(received.len() > CYCLES / READERS, "only {} events", received.len());
        let differs = received.iter().zip(&expected).position(|(got, want)| got != want);
        if let Some(at) = differs {
            panic!("seed {seed}: event {at} is {:?}, logged is {:?}", received[at], expected[at]);
        }
        assert!(received.len() <= expected.len());
    }
    Arc::into_inner(app).expect("the last handle").finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cuts_lose_and_repeat_nothing() {
    cut_and_resume(TestApp::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cuts_between_nodes_lose_and_repeat_nothing() {
    cut_and_resume(TestApp::cluster(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_comes_first_and_goes_over_into_live_events() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let cursor = api.publish("a", &json!(0)).await["cursor"].as_str().expect("a cursor").to_owned();
    for first in (1..3000).step_by(100) {
        let events: Vec<Value> = (first..first + 100).map(|n| json!({"topic": "a", "payload": n})).collect();
        api.post("/v1/events/batch", &json!({"events": events})).await.expect(201);
    }
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], Some(&cursor)).await;
    let mut stream = app.sse(&tenant.api_key, "a", Some(&cursor)).await;
    api.publish("a", &json!("live")).await;
    for n in 1..=3000 {
        assert_eq!(ws.event().await["payload"], json!(n));
        assert_eq!(stream.event().await["payload"], json!(n));
    }
    assert_eq!(ws.event().await["payload"], "live");
    assert_eq!(stream.event().await["payload"], "live");
    ws.close().await;
    drop(stream);
    app.finish().await;
}
