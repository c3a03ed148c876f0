//! Bad input: each kind gets its own answer and changes nothing.

use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_testkit::{Answer, TestApp, within};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(app: &TestApp, key: &str, kind: (&str, &str), body: impl Into<reqwest::Body>) -> Answer {
    Answer::of(app.api(key).request(Method::POST, "/v1/events").header(kind.0, kind.1).body(body)).await
}

#[tokio::test]
async fn bodies_that_are_not_events() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let key = tenant.api_key.as_str();
    let deep = format!(r#"{{"topic":"a","payload":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    let bomb = format!(r#"{{"topic":"a","payload":{}"#, "[".repeat(200_000));
    let large = format!(r#"{{"topic":"a","payload":"{}"}}"#, "x".repeat(256 << 10));
    let topic = format!(r#"{{"topic":"{}","payload":1}}"#, "a".repeat(201));
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "INVALID_REQUEST"),
        (b"{".to_vec(), 400, "INVALID_REQUEST"),
        (b"[]".to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"topic":"a"}"#.to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"payload":1}"#.to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"topic":"a","payload":1,"colour":"red"}"#.to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"topic":"a","payload":1} trailing"#.to_vec(), 400, "INVALID_REQUEST"),
        (b"{\"topic\":\"a\",\"payload\":\"\xff\"}".to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"topic":"a..b","payload":1}"#.to_vec(), 400, "INVALID_TOPIC"),
        (br#"{"topic":"a.*","payload":1}"#.to_vec(), 400, "INVALID_TOPIC"),
        (topic.into_bytes(), 400, "INVALID_TOPIC"),
        (br#"{"topic":"a","payload":1,"id":"a b"}"#.to_vec(), 400, "INVALID_REQUEST"),
        (br#"{"topic":"a","payload":1,"headers":{"a b":"1"}}"#.to_vec(), 400, "INVALID_REQUEST"),
        (deep.into_bytes(), 400, "INVALID_EVENT_PAYLOAD"),
        (bomb.into_bytes(), 400, "INVALID_REQUEST"),
        (large.into_bytes(), 413, "PAYLOAD_TOO_LARGE"),
        (vec![b' '; (1 << 20) + 1], 413, "PAYLOAD_TOO_LARGE"),
    ];
    for (body, status, code) in cases {
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = post(&app, key, JSON, body).await;
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (status, Some(code)), "{start}");
        answer.refused(status, code);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let body = r#"{"topic":"a","payload":1}"#;
        post(&app, key, ("content-type", kind), body).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(app.api(key).replay(">", None).await.len(), 0);
    app.finish().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.get("/v1/nothing", &[]).await.refused(404, "NOT_FOUND");
    api.get("/v2/events", &[]).await.refused(404, "NOT_FOUND");
    Answer::of(api.request(Method::DELETE, "/v1/events")).await.refused(405, "METHOD_NOT_ALLOWED");
    api.get("/v1/tickets", &[]).await.refused(405, "METHOD_NOT_ALLOWED");
    app.finish().await;
}

#[tokio::test]
async fn callers_that_are_nobody() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let event = json!({"topic": "a", "payload": 1});
    app.nodes[0].api().post("/v1/events", &event).await.refused(401, "UNAUTHENTICATED");
    let unknown = format!("weir_{}_{}", "0".repeat(32), "0".repeat(38));
    for key in [unknown.as_str(), "weir_", "weir_x_y", "x"] {
        app.api(key).post("/v1/events", &event).await.refused(401, "INVALID_API_KEY");
    }
    for token in ["a.b.c", "..", &"x.".repeat(3000)] {
        app.api(token).post("/v1/events", &event).await.refused(401, "INVALID_TOKEN");
    }
    let basic = app.nodes[0].api().request(Method::POST, "/v1/events").header("authorization", "Basic eDp5");
    assert_eq!(Answer::of(basic.json(&event)).await.status / 100, 4);
    // Refusals tell how to do better, and never repeat what was sent.
    let refused = app.api(&tenant.api_key[..70]).post("/v1/events", &event).await;
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"weir\""));
    assert!(!refused.body.to_string().contains(&tenant.api_key[40..70]));
    app.finish().await;
}

#[tokio::test]
async fn a_request_id_is_kept_when_it_is_one() {
    let app = TestApp::start().await;
    let id = format!("req_{}", "a1".repeat(16));
    let with = async |id: &str| {
        let request = app.nodes[0].api().request(Method::GET, "/v1/nothing").header("x-request-id", id);
        Answer::of(request).await.body["error"]["request_id"].as_str().map(str::to_owned)
    };
    assert_eq!(with(&id).await, Some(id));
    let fresh = with("anything else").await.expect("an id");
    assert!(fresh.starts_with("req_") && fresh.len() == 36);
    app.finish().await;
}

/// Sends bytes as they are and reads until the server ends the connection.
async fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(app.nodes[0].address()).await.expect("connects");
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("the server to end the connection", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_that_are_too_large_or_not_http() {
    let app = TestApp::start().await;
    for path in ["/v1/events", "/sse", "/ws"] {
        let large = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-pad: {}\r\n\r\n", "x".repeat(17 << 10));
        let many = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: 1\r\n".repeat(70));
        for head in [large, many] {
            let answer = raw(&app, head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{path}: {answer}");
            assert!(answer.contains(r#"{"error":{"code":"HEADERS_TOO_LARGE""#), "{path}: {answer}");
        }
    }
    let answer = raw(&app, b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // A pattern as it is typed into shells.
    let typed = raw(&app, b"GET /v1/events?topics=a.> HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(typed.starts_with("HTTP/1.1 400") && typed.contains("%3E"), "{typed}");
    for answer in [answer, typed] {
        assert!(answer.contains(r#"{"error":{"code":"INVALID_REQUEST""#), "{answer}");
        assert!(answer.contains("x-request-id: req_"), "{answer}");
    }
    app.finish().await;
}

#[tokio::test]
async fn half_open_and_trickling_requests_are_ended() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_HEADER_TIMEOUT", "1s")]).await;
    let silent = raw(&app, b"");
    let half = raw(&app, b"GET /sse?topics=a HTTP/1.1\r\nhost: x\r\n");
    let trickle = async {
        let mut socket = TcpStream::connect(app.nodes[0].address()).await.expect("connects");
        let head = b"GET /v1/events HTTP/1.1\r\nhost: x\r\nx-slow: ";
        socket.write_all(head).await.expect("writes");
        let mut answer = [0; 64];
        within("the server to end the connection", async {
            loop {
                tokio::select! {
                    read = socket.read(&mut answer) => if read.unwrap_or(0) == 0 { return },
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
                let _ = socket.write_all(b"x").await;
            }
        })
        .await;
    };
    // Each ends within the patience of the kit, all at once.
    tokio::join!(silent, half, trickle);
    app.finish().await;
}

/// A balancer keeps its connections longer than a first head may take.
#[tokio::test]
async fn an_idle_connection_is_kept_for_its_next_request() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_HEADER_TIMEOUT", "300ms")]).await;
    let mut socket = TcpStream::connect(app.nodes[0].address()).await.expect("connects");
    for _ in 0..2 {
        socket.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        let mut answer = vec![0; 15];
        within("an answer", socket.read_exact(&mut answer)).await.expect("reads");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        // What is left of the answer arrives while the connection is idle for longer than the limit.
        let idle = tokio::time::timeout(Duration::from_millis(900), async {
            let mut rest = vec![0; 65_536];
            while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        });
        assert!(idle.await.is_err(), "the server closed an idle connection");
    }
    app.finish().await;
}

/// A page of another origin asks before it publishes, and may read what it needs of the answer.
#[tokio::test]
async fn pages_of_any_origin_may_call() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let asked =
        app.api(&tenant.api_key).request(Method::OPTIONS, "/v1/events").header("origin", "https://a.example");
    let asked = asked.header("access-control-request-method", "POST").send().await.expect("an answer");
    assert_eq!(asked.status().as_u16(), 204);
    let header = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    assert_eq!(header(&asked, "access-control-allow-origin"), "*");
    assert!(header(&asked, "access-control-allow-methods").contains("POST"));
    for name in
        ["authorization", "x-api-key", "idempotency-key", "content-type", "last-event-id", "traceparent"]
    {
        let allowed = header(&asked, "access-control-allow-headers");
        assert!(allowed.split(',').any(|one| one == name), "{name} is not in {allowed}");
    }
    for body in [r#"{"topic":"a","payload":1}"#, "{"] {
        let request = app.api(&tenant.api_key).request(Method::POST, "/v1/events").header(JSON.0, JSON.1);
        let answer =
            request.header("origin", "https://a.example").body(body).send().await.expect("an answer");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        assert!(header(&answer, "access-control-expose-headers").contains("retry-after"));
    }
    app.finish().await;
}
