//! Hostile bytes on every way in: the parsers by themselves, and a running server from outside. Nothing panics, nothing is answered
//! with a failure of ours, memory stays bounded, and no answer holds a byte of somebody else's.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use weir_testkit::{Answer, Tenant, TestApp, Ws};

/// The same functions that libFuzzer drives.
#[path = "../../../fuzz/src/lib.rs"]
mod parsers;

/// Bytes, and texts that look like what is meant.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let text = |pattern: &'static str| pattern.prop_map(String::into_bytes);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        text("[A-Za-z0-9_.*>=@,;: -]{0,220}"),
        text("weir_[A-Za-z0-9_-]{0,80}"),
        text("t=[0-9]{0,20},v1=[0-9a-f]{0,70}\n.{0,40}"),
        text("[\\[\\]{}\",:0-9a-z\\\\]{0,120}"),
        text("\\PC{0,100}"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn parsers_take_anything_and_believe_nothing(bytes in bytes()) {
        parsers::websocket(&bytes);
        parsers::cursor(&bytes);
        parsers::topic(&bytes);
        parsers::key(&bytes);
        parsers::event(&bytes);
        parsers::webhook(&bytes);
    }
}

/// What another tenant published: it must never be seen.
const FOREIGN: &str = "canary-of-somebody-else";
/// Rounds over all ways in.
const ROUNDS: usize = 40;

struct Attacker {
    dice: StdRng,
    key: String,
    token: String,
    cursor: String,
    victim: Tenant,
}

impl Attacker {
    /// Something valid with some of it replaced, cut, doubled or blown up; or plain bytes.
    fn twist(&mut self, valid: &str) -> String {
        let mut bytes = valid.as_bytes().to_vec();
        for _ in 0..self.dice.random_range(0..4) {
            let at = self.dice.random_range(0..=bytes.len());
            match self.dice.random_range(0..5) {
                0 => bytes.insert(at, self.dice.random()),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => bytes[at] = self.dice.random(),
                3 => bytes.extend_from_within(..at),
                _ => {
                    let bad: &[u8] = [
                        &b"\0"[..],
                        b"\r\nx: y\r\n",
                        b"../../",
                        b"%00",
                        b"'\"--",
                        b"\xff\xfe",
                        b"{{",
                        b"*.>",
                        b"$JS.API.>",
                        b" ",
                    ]
                    .choose(&mut self.dice)
                    .copied()
                    .unwrap_or_default();
                    let tail = bytes.split_off(at);
                    bytes.extend_from_slice(bad);
                    bytes.extend(tail);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn topic(&mut self) -> String {
        let valid = ["a", "a.b.c", "a.*", ">", "a.>", "weir.keys", "a.a.a.a.a.a.a.a"].choose(&mut self.dice);
        self.twist(valid.copied().unwrap_or("a"))
    }

    fn value(&mut self) -> String {
        let own = [self.cursor.clone(), self.key.clone(), self.token.clone(), "9007199254740993".into()];
        let foreign =
            [self.victim.tenant_id.clone(), self.victim.project_id.clone(), "2026-01-01T00:00:00Z".into()];
        let valid = own.iter().chain(&foreign).cloned().collect::<Vec<_>>();
        let valid = valid.choose(&mut self.dice).cloned().unwrap_or_default();
        self.twist(&valid)
    }
}

fn judge(what: &str, answer: &Answer) {
    let text = answer.body.to_string();
    assert!(!text.contains(FOREIGN), "{what} showed another tenant's data: {text}");
    assert!(answer.status < 500, "{what}: {} {text}", answer.status);
    if answer.status >= 400 && what != "head" {
        assert!(
            answer.body["error"]["code"].is_string() || answer.body["errors"].is_array(),
            "{what}: {text}"
        );
    }
}

async fn requests(app: &TestApp, attacker: &mut Attacker) {
    let (topic, value) = (attacker.topic(), attacker.value());
    let (key, body) = (attacker.key.clone(), attacker.value());
    let api = app.api(&key);
    let event = json!({"topic": topic, "payload": value, "id": attacker.value()});
    judge("publish", &api.post("/v1/events", &event).await);
    let text = attacker.twist(&event.to_string());
    let json = ("content-type", "application/json");
    let raw = api.request(Method::POST, "/v1/events/batch").header(json.0, json.1).body(text);
    judge("batch", &Answer::of(raw).await);
    for name in
        ["after", "from_sequence", "from_time", "limit", "cursor", "tenant_id", "project_id", "metric"]
    {
        let query = [("topics", topic.as_str()), (name, value.as_str())];
        judge("replay", &api.get("/v1/events", &query).await);
        judge("topics", &api.get("/v1/topics", &[(name, &value)]).await);
        judge("usage", &api.get("/v1/billing/usage", &[(name, &value)]).await);
        judge("audit", &api.get("/v1/admin/audit", &[(name, &value)]).await);
    }
    let path: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for place in ["/v1/admin/keys", "/v1/admin/tenants", "/v1/admin/projects", "/v1/topics"] {
        judge("path", &api.get(&format!("{place}/{path}"), &[]).await);
    }
    let query = format!("{{ events(filter: {{topics: [{topic:?}]}}) {{ {body} }} }}");
    judge("graphql", &api.post("/graphql", &json!({"query": query, "variables": {"a": value}})).await);
    let token = attacker.token.clone();
    for credential in [attacker.twist(&key), attacker.twist(&token)] {
        let Ok(header) = reqwest::header::HeaderValue::from_bytes(format!("Bearer {credential}").as_bytes())
        else {
            continue;
        };
        let request = app.nodes[0].api().request(Method::GET, "/v1/topics").header("authorization", header);
        judge("credentials", &Answer::of(request).await);
    }
    let signature = attacker.twist("t=1800000000,v1=00ff");
    if let Ok(signature) = reqwest::header::HeaderValue::from_bytes(signature.as_bytes()) {
        let request = app.nodes[0].api().request(Method::POST, "/v1/billing/stripe/webhook");
        let answer = Answer::of(request.header("stripe-signature", signature).body(body)).await;
        assert!(answer.status != 200 && !answer.body.to_string().contains(FOREIGN), "{answer:?}");
    }
}

/// Frames after the upgrade: well-formed JSON that means nonsense, and nonsense.
async fn frames(app: &TestApp, attacker: &mut Attacker) {
    let bearer = format!("Bearer {}", attacker.key);
    let opened = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await;
    let Ok(mut ws) = opened else { panic!("a good key opens a WebSocket") };
    for _ in 0..4 {
        let frame = match attacker.dice.random_range(0..4) {
            0 => {
                json!({"type": "subscribe", "id": attacker.value(), "topics": [attacker.topic()], "after": attacker.value()})
            }
            1 => {
                json!({"type": "publish", "id": "1", "topic": attacker.topic(), "payload": attacker.value()})
            }
            2 => json!({"type": attacker.value(), "token": attacker.value()}),
            _ => json!({"type": "refresh", "id": "2", "token": attacker.value()}),
        };
        let text =
            if attacker.dice.random() { attacker.twist(&frame.to_string()) } else { frame.to_string() };
        ws.send_raw(Message::text(text)).await;
    }
    ws.send(&json!({"type": "ping", "id": "the last"})).await;
    while let Ok(frame) = ws.next().await {
        assert!(!frame.to_string().contains(FOREIGN), "{frame}");
        assert_ne!(frame["error"]["code"], "INTERNAL", "{frame}");
        if frame["type"] == "pong" && frame["id"] == "the last" {
            break;
        }
    }
}

/// Bytes that are hardly HTTP, and WebSocket frames that are none.
async fn sockets(app: &TestApp, attacker: &mut Attacker) {
    let key = attacker.key.clone();
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let head = if attacker.dice.random() { attacker.twist(&head) } else { head };
    let mut bytes = head.into_bytes();
    bytes.extend((0..attacker.dice.random_range(0..300)).map(|_| attacker.dice.random::<u8>()));
    let mut socket = tokio::net::TcpStream::connect(app.nodes[0].address()).await.expect("it accepts");
    // It may have had enough before the end.
    let _ = socket.write_all(&bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(std::time::Duration::from_secs(20), socket.read(&mut answer)).await;
    let read = read.expect("an answer, or the end").unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(!answer.starts_with("HTTP/1.1 5") && !answer.contains(FOREIGN), "{answer}");
}

async fn attack(app: TestApp) {
    let (victim, tenant) = (app.tenant().await, app.tenant().await);
    for topic in ["a", "a.b.c", "weir"] {
        app.api(&victim.api_key).publish(topic, &json!(FOREIGN)).await;
    }
    let cursor = app.api(&tenant.api_key).publish("a", &json!("own")).await["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    let seed = rand::random();
    println!("seed {seed}");
    let (key, token) = (tenant.api_key.clone(), tenant.token(&["a.>"], &["a"]));
    let mut attacker = Attacker { dice: StdRng::seed_from_u64(seed), key, token, cursor, victim };
    // Everything is touched once before memory is looked at.
    requests(&app, &mut attacker).await;
    let before = app.nodes[0].resident_bytes();
    for _ in 0..ROUNDS {
        requests(&app, &mut attacker).await;
        frames(&app, &mut attacker).await;
        sockets(&app, &mut attacker).await;
    }
    if let Some((before, after)) = before.zip(app.nodes[0].resident_bytes()) {
        assert!(after < before + (256 << 20), "memory grew from {before} to {after}");
    }
    let log = app.nodes[0].log();
    assert!(!log.contains("panicked") && !log.contains(FOREIGN), "the log of the server:\n{log}");
    assert!(!app.nodes[0].metrics().await.text().contains(FOREIGN));
    assert_eq!(
        app.api(&attacker.victim.api_key).replay(">", None).await.len(),
        3,
        "nothing came to the victim"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_break_nothing_in_an_embedded_server() {
    attack(TestApp::start_with(UNLIMITED).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_break_nothing_in_a_cluster() {
    attack(TestApp::cluster_with(1, weir_testkit::Replicas::One, UNLIMITED).await).await;
}

/// Limits of rates would hide what is behind them.
const UNLIMITED: &[(&str, &str)] = &[("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "10000")];
