//! Everybody at once: the clients of a dead node, and readers that do not read. The numbers are small here;
//! `WEIR_TEST_HERD=10000 WEIR_TEST_DEAD_READERS=2000 cargo test --release -p weir-integration herd -- --nocapture` has those
//! of a large node.

use super::Report;
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use weir_testkit::{TestApp, Ws};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Connects, insisting: a node in the midst of a herd may send one away for a moment.
async fn connect(url: &str, key: &str, cursor: &str) -> Ws {
    let bearer = format!("Bearer {key}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Ws::attempt(url, &[("authorization", &bearer)]).await {
            Ok(mut ws) => {
                ws.expect("connected").await;
                let answer = ws.subscribe(&["a"], Some(cursor)).await;
                assert_eq!(answer["recovered"], true, "{answer}");
                return ws;
            }
            Err(refusal) => assert!(Instant::now() < deadline, "{refusal:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A node dies with all its connections; everybody finds the other one, and misses nothing of what was published meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_a_dead_node_are_taken_in_by_another() {
    let herd = number("WEIR_TEST_HERD", 300);
    let settings = [("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "1000")];
    let mut app = TestApp::cluster_with(2, weir_testkit::Replicas::One, &settings).await;
    let tenant = app.tenant().await;
    let begin = app.api(&tenant.api_key).publish("a", &json!(0)).await;
    let cursor = begin["cursor"].as_str().expect("a cursor").to_owned();
    let (first, second) = (app.ws_url(0, ""), app.ws_url(1, ""));
    let mut sockets = Vec::new();
    while sockets.len() < herd {
        let some = (0..50.min(herd - sockets.len())).map(|_| connect(&first, &tenant.api_key, &cursor));
        sockets.extend(join_all(some).await);
    }
    app.nodes[0].kill();
    let there = app.api_at(1, &tenant.api_key);
    for n in 1..=10 {
        there.publish("a", &json!(n)).await;
    }
    let (ops, stop) = (app.nodes[1].ops(), Arc::new(AtomicBool::new(false)));
    let health = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                ops.get("/healthz", &[]).await.expect(200);
                slowest = slowest.max(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            slowest
        }
    });
    let begun = Instant::now();
    let received = join_all(sockets.into_iter().map(|mut dead| {
        let (url, key, cursor) = (second.clone(), tenant.api_key.clone(), cursor.clone());
        async move {
            let (_, ended) = dead.end().await;
            assert_eq!(ended.code, None, "it was killed");
            let mut ws = connect(&url, &key, &cursor).await;
            let mut received = Vec::new();
            while received.len() < 10 {
                received.push(ws.event().await["payload"].clone());
            }
            (ws, received)
        }
    }))
    .await;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let slowest = health.await.expect("health is asked");
    let expected: Vec<Value> = (1..=10).map(Value::from).collect();
    let mut report = Report::new("herd", "jetstream");
    (report.cycles, report.acked) = (1, 10 * received.len());
    report.undeclared_gaps = received.iter().filter(|(_, events)| *events != expected).count();
    report.fact("connections", herd);
    report.fact("recovered_in_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    report.fact("slowest_healthz_ms", u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX));
    report.conclude();
    for (ws, _) in received {
        ws.close().await;
    }
    app.finish().await;
}

/// A subscriber that takes nothing in: the request is sent, and not a byte is read.
async fn dead_reader(address: &str, key: &str) -> tokio::net::TcpStream {
    let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET /sse?topics=a HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("the request is sent");
    socket
}

/// Publishes for a while and takes the times from publishing to delivery at one reader, in microseconds, sorted.
async fn deliveries(app: &TestApp, key: &str, count: usize) -> Vec<u128> {
    let mut ws = app.ws(key).await;
    ws.subscribe(&["a"], None).await;
    let text = "x".repeat(8 * 1024);
    let mut times = Vec::new();
    for _ in 0..count {
        let sent = Instant::now();
        app.api(key).publish("a", &json!(text)).await;
        ws.event().await;
        times.push(sent.elapsed().as_micros());
    }
    ws.close().await;
    times.sort_unstable();
    times
}

/// Readers that do not read cost a bounded amount each, and the others get everything.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_are_bounded() {
    let dead = number("WEIR_TEST_DEAD_READERS", 100);
    let app = TestApp::start_with(&[("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "10000")]).await;
    let tenant = app.tenant().await;
    let node = &app.nodes[0];
    let before = deliveries(&app, &tenant.api_key, 300).await;
    let resident = node.resident_bytes();
    let mut sockets = Vec::new();
    while sockets.len() < dead {
        let some = (0..50.min(dead - sockets.len())).map(|_| dead_reader(node.address(), &tenant.api_key));
        sockets.extend(join_all(some).await);
    }
    weir_testkit::until("they are all there", async || {
        (node.metrics().await.sum("weir_connections", &["transport=\"sse\""])? >= dead as f64).then_some(())
    })
    .await;
    // 600 events of 8 KiB: more than the kernel's buffers and the bound of a backlog hold.
    let during = deliveries(&app, &tenant.api_key, 600).await;
    let grown = node.resident_bytes().zip(resident).map(|(now, then)| now.saturating_sub(then));
    let p99 = |times: &[u128]| times[times.len() * 99 / 100];
    println!(
        "{dead} dead readers: {:?} bytes each; p99 of a healthy reader {} µs, before {} µs",
        grown.map(|bytes| bytes / dead as u64),
        p99(&during),
        p99(&before)
    );
    if let Some(grown) = grown {
        assert!(grown / (dead as u64) < 1_153_434, "{} bytes for each dead reader", grown / dead as u64);
    }
    drop(sockets);
    app.finish().await;
}
