//! Everybody at once: the clients of a dead node, and readers that do not read. The numbers are small here;
//! `WEIR_TEST_HERD=10000 WEIR_TEST_DEAD_READERS=2000 cargo test --release -p weir-integration herd -- --nocapture` has those
//! of a large node, and judges times too.

use super::Report;
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use weir_testkit::{Node, TestApp, Ws};

/// From these numbers on times are judged too: with few, what else the machine does decides them.
const LONG_HERD: usize = 10_000;
const LONG_DEAD: usize = 2_000;
/// How long `/healthz` may take while a herd comes in.
const SLOWEST_HEALTH: Duration = Duration::from_millis(100);
/// Memory for a reader that does not read: 1.1 MiB.
const MOST_BYTES: u64 = 1_153_434;
/// Events of 8 KiB at once: more than the kernel's buffers and the bound of a backlog hold.
const EVENTS: usize = 600;

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
    assert!(herd < LONG_HERD || slowest < SLOWEST_HEALTH, "/healthz took {slowest:?} while a herd came in");
    for (ws, _) in received {
        ws.close().await;
    }
    app.finish().await;
}

/// Subscribers: their requests are sent, and not a byte is read. Returns when the node has them all.
async fn dead_readers(app: &TestApp, key: &str, count: usize) -> Vec<TcpStream> {
    let node = &app.nodes[0];
    let request = format!("GET /sse?topics=a HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\n\r\n");
    let reader = async || {
        let mut socket = TcpStream::connect(node.address()).await.expect("a connection");
        socket.write_all(request.as_bytes()).await.expect("the request is sent");
        socket
    };
    let mut sockets = Vec::new();
    while sockets.len() < count {
        sockets.extend(join_all((0..50.min(count - sockets.len())).map(|_| reader())).await);
    }
    streams(node, "they are all there", |open| open >= count as f64).await;
    sockets
}

/// Waits until so many event streams are open.
async fn streams(node: &Node, what: &str, are_they: impl Fn(f64) -> bool) {
    weir_testkit::until(what, async || {
        let open = node.metrics().await.sum("weir_connections", &["transport=\"sse\""]).unwrap_or(0.0);
        are_they(open).then_some(())
    })
    .await;
}

/// What a healthy reader sees beside as many that read everything: delivering to them takes its time too.
async fn beside_living(app: &TestApp, key: &str, count: usize) -> Healthy {
    let drain = async |mut socket: TcpStream| tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    let mut living = JoinSet::new();
    for socket in dead_readers(app, key, count).await {
        living.spawn(drain(socket));
    }
    let seen = deliveries(app, key, EVENTS).await;
    living.shutdown().await;
    streams(&app.nodes[0], "they are all gone", |open| open == 0.0).await;
    seen
}

/// What one reader saw of a while of publishing.
struct Healthy {
    /// From publishing to delivery, in microseconds, sorted.
    times: Vec<u128>,
    /// Events that were not the next one.
    wrong: usize,
}

impl Healthy {
    fn p99(&self) -> u64 {
        u64::try_from(self.times[self.times.len() * 99 / 100]).unwrap_or(u64::MAX)
    }
}

async fn deliveries(app: &TestApp, key: &str, count: usize) -> Healthy {
    let mut ws = app.ws(key).await;
    ws.subscribe(&["a"], None).await;
    let text = "x".repeat(8 * 1024);
    let mut seen = Healthy { times: Vec::new(), wrong: 0 };
    for n in 0..count {
        let sent = Instant::now();
        app.api(key).publish("a", &json!({ "n": n, "text": text })).await;
        let event = ws.event().await;
        seen.times.push(sent.elapsed().as_micros());
        seen.wrong += usize::from(event["payload"]["n"] != n);
    }
    ws.close().await;
    seen.times.sort_unstable();
    seen
}

/// The most memory that a node holds until it is told to stop. Readers that are closed give theirs back, so the end alone says little.
fn peak_of(node: &Node, stop: Arc<AtomicBool>) -> JoinHandle<Option<u64>> {
    let read = node.resident();
    tokio::spawn(async move {
        let mut peak = read();
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peak = peak.max(read());
        }
        peak
    })
}

/// Readers that do not read cost a bounded amount each, and the others get everything, hardly later than if all did read.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_are_bounded() {
    let dead = number("WEIR_TEST_DEAD_READERS", 100);
    let app = TestApp::start_with(&[("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "10000")]).await;
    let tenant = app.tenant().await;
    let node = &app.nodes[0];
    let before = beside_living(&app, &tenant.api_key, dead).await;
    let resident = node.resident_bytes();
    let stop = Arc::new(AtomicBool::new(false));
    let peak = peak_of(node, Arc::clone(&stop));
    let sockets = dead_readers(&app, &tenant.api_key, dead).await;
    let during = deliveries(&app, &tenant.api_key, EVENTS).await;
    stop.store(true, Ordering::Relaxed);
    let peak = peak.await.expect("memory is read");
    let each = peak.zip(resident).map(|(most, then)| most.saturating_sub(then) / dead as u64);
    let mut report = Report::new("dead-readers", "embedded");
    (report.cycles, report.acked) = (1, 2 * EVENTS);
    report.undeclared_gaps = before.wrong + during.wrong;
    report.fact("dead_readers", dead);
    report.fact("bytes_each", each);
    report.fact("healthy_p99_us", during.p99());
    report.fact("healthy_p99_us_beside_living", before.p99());
    report.conclude();
    if let Some(each) = each {
        assert!(each <= MOST_BYTES, "{each} bytes for each dead reader; {MOST_BYTES} are allowed");
    }
    if dead >= LONG_DEAD {
        let allowed = before.p99() + before.p99() / 5;
        assert!(
            during.p99() <= allowed,
            "p99 of a healthy reader: {} µs; {allowed} are allowed",
            during.p99()
        );
    }
    drop(sockets);
    app.finish().await;
}
