//! The bounds of single requests, frames, pages and tokens, each alone: one below passes, one above is refused by name.

use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core::Scope;
use weir_testkit::{Answer, Replicas, TestApp, now, until};

#[tokio::test]
async fn a_frame_of_a_websocket() {
    let app = TestApp::start_with(&[("WEIR_HUB_FRAME_BYTES", "4KiB")]).await;
    let tenant = app.tenant().await;
    // The longest frame: the text around the payload's filling counts too.
    let frame =
        |fill: usize| json!({"type": "publish", "id": "1", "topic": "a", "payload": "x".repeat(fill)});
    let around = frame(0).to_string().len();
    let mut ws = app.ws(&tenant.api_key).await;
    ws.send(&frame(4096 - around)).await;
    assert_eq!(ws.expect("published").await["id"], "1");
    ws.send(&frame(4097 - around)).await;
    assert_eq!(ws.end().await.1.code, Some(1009));
    assert_eq!(app.api(&tenant.api_key).replay("a", None).await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_page_of_a_replay() {
    let settings = [("WEIR_LIMITS_REPLAY_PAGE_EVENTS", "10"), ("WEIR_LIMITS_REPLAY_PAGE_BYTES", "256KiB")];
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    for n in 0..11 {
        api.publish("few.bytes", &json!(n)).await;
    }
    for n in 0..5 {
        api.publish("many.bytes", &json!([n, "x".repeat(100 << 10)])).await;
    }
    let page = api.get("/v1/events", &[("topics", "few.*"), ("limit", "1000")]).await.expect(200);
    assert_eq!((page["data"].as_array().map(Vec::len), &page["has_more"]), (Some(10), &json!(true)));
    let mut pages = 0;
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = vec![("topics", "many.*")];
        query.extend(cursor.as_deref().map(|cursor| ("after", cursor)));
        let page = api.get("/v1/events", &query).await.expect(200);
        let events = page["data"].as_array().expect("events");
        assert!(events.len() <= 3, "{} events of 100 KiB on a page of 256", events.len());
        seen.extend(events.iter().map(|event| event["payload"][0].clone()));
        pages += 1;
        if page["has_more"] == false {
            break;
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert!(pages >= 2);
    assert_eq!(seen, (0..5).map(Value::from).collect::<Vec<_>>(), "pages follow on each other");
    app.finish().await;
}

#[tokio::test]
async fn the_headers_of_a_request() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let with = |path: &str, count: usize| {
        let mut request = app.api(&tenant.api_key).request(Method::GET, path);
        for n in 0..count {
            request = request.header(format!("x-n{n}"), "1");
        }
        request
    };
    // The client adds a few of its own to these.
    Answer::of(with("/v1/topics", 50)).await.expect(200);
    assert_eq!(Answer::of(with("/v1/topics", 70)).await.status, 431);
    // Event streams have a head of their own making.
    let refused = Answer::of(with("/sse?topics=a", 70)).await;
    refused.refused(431, "HEADERS_TOO_LARGE");
    app.finish().await;
}

#[tokio::test]
async fn how_far_the_clocks_of_issuers_may_be_off() {
    for (leeway, passes, refused) in [("30s", 15, 90), ("120s", 90, 240)] {
        let app = TestApp::start_with(&[("WEIR_LIMITS_JWT_LEEWAY", leeway)]).await;
        let tenant = app.tenant().await;
        let publish = async |claims: Value| {
            let event = json!({"topic": "a", "payload": 1});
            app.api(&tenant.sign(&claims)).post("/v1/events", &event).await
        };
        let ended = |ago: u64| json!({"exp": now() - ago, "publish": ["a"]});
        let begins = |within: u64| json!({"exp": now() + 3600, "nbf": now() + within, "publish": ["a"]});
        publish(ended(passes)).await.expect(201);
        publish(ended(refused)).await.refused(401, "EXPIRED_TOKEN");
        publish(begins(passes)).await.expect(201);
        publish(begins(refused)).await.refused(401, "INVALID_TOKEN");
        app.finish().await;
    }
}

/// A bare connection that says as little as it takes to be a subscriber's.
async fn bare(address: &str, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: d2VpciBiZW5jaCBub25jZQ==\r\nSec-WebSocket-Protocol: weir.v1\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer[9..], b"101");
    stream
}

/// Everything that lives by one key ends with it, however much that is, and nothing else.
#[tokio::test]
async fn a_key_with_ten_thousand_connections_is_revoked() {
    const CONNECTIONS: usize = 10_000;
    let settings = [("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "0"), ("WEIR_LIMITS_ENFORCE_WAIT", "30s")];
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let mut bystander = app.ws(&tenant.api_key).await;
    bystander.subscribe(&["a"], None).await;
    let address = app.nodes[0].address().to_owned();
    let mut open = Vec::with_capacity(CONNECTIONS);
    while open.len() < CONNECTIONS {
        // In handfuls, as the queue of a listener is finite.
        let some = (0..100).map(|_| bare(&address, &doomed.api_key));
        open.extend(futures::future::join_all(some).await);
    }
    let path = format!("/v1/admin/keys/{}", doomed.key_id);
    let revoke = app.api(&tenant.api_key).request(Method::DELETE, &path).timeout(Duration::from_secs(60));
    let answer = Answer::of(revoke).await.expect(200);
    assert_eq!(answer["enforced"], json!({"nodes": 1, "of": 1, "connections_closed": CONNECTIONS}));
    for mut stream in open {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("its end");
        let code = 4401_u16.to_be_bytes();
        assert!(all.windows(2).any(|two| two == code) && all.ends_with(b"INVALID_API_KEY"), "{all:?}");
    }
    app.api(&tenant.api_key).publish("a", &json!("still here")).await;
    assert_eq!(bystander.event().await["payload"], "still here");
    bystander.close().await;
    app.finish().await;
}

/// A node dies after it made a change and before it could say so: copies elsewhere learn that, and change nothing.
#[tokio::test]
async fn a_node_that_dies_before_its_answer_changed_things_once() {
    let settings = [("WEIR_LIMITS_ACCESS_WINDOW", "5s"), ("WEIR_LIMITS_ENFORCE_WAIT", "60s")];
    let mut app = TestApp::cluster_with(3, Replicas::One, &settings).await;
    let tenant = app.tenant().await;
    let doomed = app.key(&tenant, &[Scope::EventsPublish]).await;
    let rotate = |node: usize| {
        let path = format!("/v1/admin/keys/{}/rotate", doomed.key_id);
        let request = app.api_at(node, &tenant.api_key).request(Method::POST, &path);
        request.header("idempotency-key", "rotate once").json(&json!({"grace_seconds": 0}))
    };
    // The answer waits for a node that does not wake up.
    app.nodes[2].pause();
    let request = rotate(0);
    let waiting = tokio::spawn(async move { request.send().await.is_err() });
    let there = app.api_at(1, &tenant.api_key);
    until("the change to be there", async || {
        let listed = there.get("/v1/admin/keys", &[]).await.expect(200);
        let rotated = listed["data"].as_array()?.iter().find(|key| key["id"] == json!(doomed.key_id))?;
        rotated["replaced_by"].is_string().then_some(())
    })
    .await;
    let copy = rotate(1);
    app.nodes[0].kill();
    assert!(waiting.await.expect("no panic"), "nobody answered");
    let mut copy = Some(copy);
    let told = loop {
        let request = copy.take().expect("a request");
        copy = request.try_clone();
        let answer = Answer::of(request).await;
        let state = members::text(&answer.body["error"]["details"]["idempotency_key"]);
        answer.refused(409, "CONFLICT");
        if state != "in_progress" {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(told, "answer_lost");
    let query = [("action", "key.rotate"), ("target", doomed.key_id.as_str())];
    let audit = there.get("/v1/admin/audit", &query).await.expect(200);
    assert_eq!(audit["data"].as_array().map(Vec::len), Some(1), "{audit}");
    app.nodes[2].resume();
    app.nodes[0].restart().await;
    app.finish().await;
}

/// What was answered to an admin, a secret perhaps, is not repeated to somebody who is none any more.
async fn an_answer_is_for_who_still_may(app: TestApp) {
    let tenant = app.tenant().await;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    let person = members::member(&app, &owner, &tenant, "dev@acme.test", "developer").await;
    let last = app.nodes.len() - 1;
    let create = |node: usize| {
        let request = app.api_at(node, &person.access).request(Method::POST, "/v1/admin/keys");
        let wish = json!({"name": "k", "scopes": ["events:publish"], "project_id": tenant.project_id});
        request.header("idempotency-key", "once").json(&wish)
    };
    let first = Answer::of(create(0)).await.expect(201);
    let again = Answer::of(create(last)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201)["api_key"], first["api_key"]);
    let set = async |role: &str| {
        let path = format!("/v1/admin/tenants/{}/members/{}", tenant.tenant_id, person.id);
        let request = app.api(&owner.access).request(Method::PATCH, &path).json(&json!({"role": role}));
        Answer::of(request).await.expect(200)
    };
    set("viewer").await;
    for node in [0, last] {
        let refused = Answer::of(create(node)).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
        assert!(!refused.body.to_string().contains(first["api_key"].as_str().expect("a key")));
    }
    // Whoever may again is told again, and nothing was made twice.
    set("admin").await;
    assert_eq!(Answer::of(create(0)).await.expect(201)["id"], first["id"]);
    let listed = app.api(&tenant.api_key).get("/v1/admin/keys", &[]).await.expect(200);
    let named = listed["data"].as_array().expect("keys").iter().filter(|key| key["name"] == "k").count();
    assert_eq!(named, 1);
    app.finish().await;
}

#[tokio::test]
async fn an_answer_is_repeated_to_who_still_may_see_it() {
    an_answer_is_for_who_still_may(TestApp::start().await).await;
}

#[tokio::test]
async fn an_answer_is_repeated_to_who_still_may_see_it_on_a_cluster() {
    an_answer_is_for_who_still_may(TestApp::cluster(2).await).await;
}
