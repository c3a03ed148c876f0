//! The whole client against a server that plays a script: what it asks for, what it makes of what comes.

use crate::{Client, Delivery, Error, Gap, GapReason, NewEvent, ReplayQuery, Start, Subscription, Transport};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How the server ends a connection after its script.
enum End {
    Drop,
    Close(u16),
    Stay,
}

fn client(address: &str) -> Client {
    let short = Duration::from_millis(1);
    Client::builder(format!("http://{address}"))
        .api_key("k")
        .backoff(short, 5 * short)
        .build()
        .expect("client")
}

fn event(sequence: u64) -> String {
    numbered(sequence, sequence - 1)
}

fn numbered(sequence: u64, previous: u64) -> String {
    json!({ "type": "event", "topic": "t", "id": format!("e{sequence}"), "sequence": sequence,
        "previous": previous, "cursor": format!("c{sequence}"), "published_at": "2026-01-01T00:00:00Z",
        "event_type": "made", "payload": {"n": sequence} })
    .to_string()
}

/// An event as REST and event streams write it.
fn plain(sequence: u64) -> String {
    event(sequence).replace("\"type\":\"event\"", "\"type\":\"made\"").replace("\"event_type\":\"made\",", "")
}

fn subscribed(cursor: &str) -> String {
    json!({ "type": "subscribed", "id": "1", "topics": ["t"], "cursor": cursor, "recovered": true })
        .to_string()
}

/// Plays one script per connection, in order; reports each `subscribe` frame.
async fn websocket_server(scripts: Vec<(Vec<String>, End)>) -> (String, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address").to_string();
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (texts, end) in scripts {
            let (socket, _) = listener.accept().await.expect("connection");
            // The subprotocol's echo is the server's business; tungstenite's plain accept has none.
            let echo = |_: &_, mut answer: tokio_tungstenite::tungstenite::handshake::server::Response| {
                answer.headers_mut().insert("sec-websocket-protocol", "weir.v1".parse().expect("value"));
                Ok(answer)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(socket, echo).await.expect("upgrade");
            let frame = socket.next().await.expect("a frame").expect("whole").into_text().expect("text");
            report.send(serde_json::from_str(&frame).expect("JSON")).expect("reported");
            for text in texts {
                socket.send(Message::text(text)).await.expect("sent");
            }
            match end {
                End::Drop => drop(socket),
                End::Close(code) => {
                    let close = CloseFrame { code: code.into(), reason: "scripted".into() };
                    socket.close(Some(close)).await.expect("closed");
                    while let Some(Ok(_)) = socket.next().await {}
                }
                End::Stay => while let Some(Ok(_)) = socket.next().await {},
            }
        }
    });
    (address, reports)
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a byte of the head"));
    }
    String::from_utf8(head).expect("text").to_lowercase()
}

/// Plays one raw answer per connection, in order; reports each request's head.
async fn http_server(answers: Vec<String>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address").to_string();
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("connection");
            let head = head(&mut socket).await;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            socket.read_exact(&mut body).await.expect("the body");
            report.send(head + &String::from_utf8(body).expect("text")).expect("reported");
            socket.write_all(answer.as_bytes()).await.expect("answered");
            socket.shutdown().await.expect("shut");
        }
    });
    (address, reports)
}

fn answer(status: u16, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n{body}")
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

async fn sequences(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count {
        match subscription.next().await.expect("not ended").expect("no error") {
            Delivery::Event(event) => found.push(event.sequence),
            Delivery::Gap(gap) => panic!("unexpected gap: {gap}"),
        }
    }
    found
}

async fn last_error(subscription: &mut Subscription) -> Error {
    let error = subscription.next().await.expect("not ended").expect_err("an error");
    assert!(subscription.next().await.is_none(), "nothing after the error");
    error
}

#[tokio::test]
async fn resumes_after_a_cut_and_hands_every_event_over_once() {
    let (address, mut asked) = websocket_server(vec![
        (vec![subscribed("c2"), event(3), event(4)], End::Drop),
        (vec![subscribed("c4"), event(4), event(5)], End::Close(4509)),
        (vec![subscribed("c5"), event(5), event(6)], End::Stay),
    ])
    .await;
    let mut subscription = client(&address).subscribe(["t"]).connect().await.expect("connected");
    assert_eq!(subscription.cursor(), Some("c2"));
    assert_eq!(sequences(&mut subscription, 4).await, [3, 4, 5, 6]);
    assert_eq!(subscription.cursor(), Some("c6"));
    assert_eq!(asked.recv().await, Some(json!({"type":"subscribe","id":"1","topics":["t"]})));
    assert_eq!(asked.recv().await.expect("second")["after"], "c4");
    assert_eq!(asked.recv().await.expect("third")["after"], "c5");
}

#[tokio::test]
async fn a_cut_before_the_first_event_resumes_where_the_subscription_began() {
    let scripts = vec![(vec![subscribed("c9")], End::Drop), (vec![event(10)], End::Stay)];
    let (address, mut asked) = websocket_server(scripts).await;
    let mut subscription = client(&address).subscribe(["t"]).from(Start::Sequence(7)).start();
    assert_eq!(sequences(&mut subscription, 1).await, [10]);
    assert_eq!(asked.recv().await.expect("first")["from_sequence"], 7);
    assert_eq!(asked.recv().await.expect("second")["after"], "c9");
}

#[tokio::test]
async fn a_final_close_ends_the_subscription_with_its_code() {
    let (address, _asked) =
        websocket_server(vec![(vec![subscribed("c0"), event(1)], End::Close(4403))]).await;
    let mut subscription = client(&address).subscribe(["t"]).start();
    assert_eq!(sequences(&mut subscription, 1).await, [1]);
    let error = last_error(&mut subscription).await;
    assert_eq!((error.code(), error.is_retryable()), ("CLOSED_4403", false));
}

#[tokio::test]
async fn an_error_frame_ends_it_and_a_wish_to_reconnect_does_not() {
    let refusal = json!({"type":"error","id":"1","error":{"code":"INVALID_CURSOR","message":"no","request_id":"req_1"}});
    let wish = json!({"type":"reconnect","after_ms":5}).to_string();
    let scripts = vec![(vec![subscribed("c0"), wish], End::Stay), (vec![refusal.to_string()], End::Stay)];
    let (address, mut asked) = websocket_server(scripts).await;
    let mut subscription = client(&address).subscribe(["t"]).start();
    let error = last_error(&mut subscription).await;
    assert_eq!((error.code(), error.request_id()), ("INVALID_CURSOR", Some("req_1")));
    asked.recv().await.expect("first");
    assert_eq!(asked.recv().await.expect("second")["after"], "c0");
}

#[tokio::test]
async fn declared_and_undeclared_losses_both_come_out_as_gaps() {
    let declared = json!({"type":"gap","reason":"epoch_changed","from":9,"to":0}).to_string();
    let (address, mut asked) = websocket_server(vec![
        (vec![subscribed("c8"), event(9), declared, event(2), numbered(5, 4)], End::Stay),
        (vec![subscribed("c2"), numbered(5, 4)], End::Stay),
    ])
    .await;
    let mut subscription = client(&address).subscribe(["t"]).start();
    assert_eq!(sequences(&mut subscription, 1).await, [9]);
    let Some(Ok(Delivery::Gap(gap))) = subscription.next().await else { panic!("the declared gap") };
    assert_eq!(gap.reason, GapReason::EpochChanged);
    assert_eq!(sequences(&mut subscription, 1).await, [2]);
    let Some(Ok(Delivery::Gap(gap))) = subscription.next().await else { panic!("the client's own gap") };
    assert_eq!(gap, Gap { reason: GapReason::Missing, from: Some(3), to: Some(4) });
    assert_eq!(sequences(&mut subscription, 1).await, [5]);
    asked.recv().await.expect("first");
    assert_eq!(asked.recv().await.expect("second")["after"], "c2", "the hole was resumed first");
}

#[tokio::test]
async fn a_full_queue_stops_reading_and_loses_nothing() {
    let events: Vec<_> = (1..=200).map(event).collect();
    let (address, _asked) = websocket_server(vec![(events, End::Stay)]).await;
    let mut subscription = client(&address).subscribe(["t"]).queue(1).start();
    let expected: Vec<u64> = (1..=200).collect();
    assert_eq!(sequences(&mut subscription, 200).await, expected);
}

#[tokio::test]
async fn connecting_fails_at_once_when_asked_to_wait_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address").to_string();
    drop(listener);
    for transport in [Transport::WebSocket, Transport::Sse] {
        let error =
            client(&address).subscribe(["t"]).transport(transport).connect().await.expect_err("refused");
        assert!(error.is_unreachable(), "{error}");
    }
}

#[tokio::test]
async fn server_sent_events_resume_with_the_last_id() {
    let sse = |sequence: u64| {
        let data = plain(sequence);
        format!("id: c{sequence}\r\ndata: {data}\r\n\r\n")
    };
    let refusal = r#"{"error":{"code":"TENANT_SUSPENDED","message":"no"}}"#;
    let (address, mut asked) = http_server(vec![
        stream(&format!("retry: 2\n: hello\n\nid: c1\n\n{}", sse(2))),
        answer(503, "retry-after: 0\r\n", r#"{"error":{"code":"OVERLOADED","message":"busy"}}"#),
        stream(&format!(
            "{}{}event: gap\ndata: {{\"reason\":\"expired\",\"from\":3,\"to\":7}}\n\n",
            sse(2),
            sse(3)
        )),
        answer(403, "", refusal),
    ])
    .await;
    let topics = ["t", "u.*"];
    let mut subscription = client(&address).subscribe(topics).transport(Transport::Sse).after("c1").start();
    assert_eq!(sequences(&mut subscription, 2).await, [2, 3]);
    let Some(Ok(Delivery::Gap(gap))) = subscription.next().await else { panic!("a gap") };
    assert_eq!((gap.reason, gap.to), (GapReason::Expired, Some(7)));
    assert_eq!(last_error(&mut subscription).await.code(), "TENANT_SUSPENDED");

    let first = asked.recv().await.expect("first");
    assert!(
        first.starts_with("get /sse?topic=t&topic=u.* ") && first.contains("last-event-id: c1\r\n"),
        "{first}"
    );
    assert!(first.contains("authorization: bearer k\r\n"));
    for (what, cursor) in [("refused", "c2"), ("second", "c2"), ("third", "c3")] {
        let head = asked.recv().await.expect(what);
        assert!(head.contains(&format!("last-event-id: {cursor}\r\n")), "{head}");
    }
}

const PUBLISHED: &str =
    r#"{"id":"e","topic":"t","sequence":1,"cursor":"c1","published_at":"2026-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn a_publish_is_repeated_only_under_an_id() {
    let busy = || answer(503, "", r#"{"error":{"code":"EVENT_LOG_UNAVAILABLE","message":"busy"}}"#);
    let (address, mut asked) = http_server(vec![busy(), answer(201, "", PUBLISHED), busy()]).await;
    let published =
        client(&address).publish(NewEvent::new("t", &1).expect("event")).await.expect("published");
    assert_eq!(published.sequence, 1);
    let (first, second) = (asked.recv().await.expect("first"), asked.recv().await.expect("second"));
    let body = |request: &str| request.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body(&first), body(&second));

    let event = NewEvent::new("t", &1).expect("event").server_id();
    let error = client(&address).publish(event).await.expect_err("not repeated");
    assert_eq!(error.code(), "EVENT_LOG_UNAVAILABLE");
}

#[tokio::test]
async fn a_batch_gives_a_result_for_each() {
    let body =
        format!(r#"{{"results":[{PUBLISHED},{{"error":{{"code":"INVALID_TOPIC","message":"no"}}}}]}}"#);
    let (address, _asked) = http_server(vec![answer(200, "", &body)]).await;
    let events = [NewEvent::new("t", &1).expect("event"), NewEvent::new("..", &2).expect("event")];
    let results = client(&address).publish_batch(&events).await.expect("answered");
    assert_eq!(results[0].as_ref().map(|p| p.sequence).ok(), Some(1));
    assert_eq!(results[1].as_ref().map_err(Error::code).err(), Some("INVALID_TOPIC"));
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew_once() {
    let expired = || answer(401, "", r#"{"error":{"code":"EXPIRED_TOKEN","message":"over"}}"#);
    let (address, mut asked) =
        http_server(vec![expired(), answer(200, "", r#"{"data":[]}"#), expired(), expired()]).await;
    let fetched = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fetched);
    let client = Client::builder(format!("http://{address}"))
        .token_provider(move || {
            let n = count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(format!("token{n}")) }
        })
        .build()
        .expect("client");
    assert!(client.topics().await.expect("answered").is_empty());
    assert!(asked.recv().await.expect("first").contains("bearer token0\r\n"));
    assert!(asked.recv().await.expect("second").contains("bearer token1\r\n"));
    assert_eq!(client.topics().await.expect_err("expired twice").code(), "EXPIRED_TOKEN");
    assert_eq!(fetched.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn replay_reads_page_by_page_and_shows_gaps() {
    let page = |sequences: &[u64], rest: &str| {
        let events: Vec<_> = sequences.iter().map(|s| plain(*s)).collect();
        answer(200, "", &format!(r#"{{"data":[{}],{rest}}}"#, events.join(",")))
    };
    let (address, mut asked) = http_server(vec![
        page(&[5, 6], r#""next_cursor":"c6","has_more":true,"gap":{"reason":"expired","from":1,"to":4}"#),
        page(&[7], r#""next_cursor":"c7","has_more":false"#),
    ])
    .await;
    let query = ReplayQuery::new(["t"]).after("c1").limit(10).page_size(2);
    let deliveries: Vec<_> = client(&address).replay(query).collect().await;
    let found: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| match delivery.expect("no error") {
            Delivery::Gap(gap) => (0, gap.to),
            Delivery::Event(event) => (event.sequence, None),
        })
        .collect();
    assert_eq!(found, [(0, Some(4)), (5, None), (6, None), (7, None)]);
    assert!(asked.recv().await.expect("first").starts_with("get /v1/events?topic=t&limit=2&after=c1 "));
    assert!(asked.recv().await.expect("second").starts_with("get /v1/events?topic=t&limit=2&after=c6 "));
}
