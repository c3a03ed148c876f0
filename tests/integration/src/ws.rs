//! `/ws`: frames, credentials, and everything that is not a frame.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use weir_testkit::{TestApp, Ws, now};

async fn anonymous(app: &TestApp) -> Ws {
    Ws::attempt(&app.ws_url(0, ""), &[]).await.expect("a WebSocket")
}

/// The code and close code with which the server ended it.
async fn ended(mut ws: Ws) -> (Value, Option<u16>) {
    let (frames, ended) = ws.end().await;
    let error = frames.iter().rfind(|frame| frame["type"] == "error");
    (error.map_or(Value::Null, |frame| frame["error"]["code"].clone()), ended.code)
}

#[tokio::test]
async fn no_credentials_in_time_end_the_connection() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_AUTH_TIMEOUT", "1s")]).await;
    assert_eq!(ended(anonymous(&app).await).await, (json!("AUTHENTICATION_TIMEOUT"), Some(4408)));
    app.finish().await;
}

#[tokio::test]
async fn nothing_but_connect_is_heard_before_authentication() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    for frame in [
        json!({"type": "subscribe", "id": "1", "topics": ["a"]}),
        json!({"type": "publish", "id": "1", "topic": "a", "payload": 1}),
        json!({"type": "refresh", "id": "1", "token": tenant.api_key}),
    ] {
        let mut ws = anonymous(&app).await;
        ws.send(&frame).await;
        assert_eq!(ended(ws).await, (json!("UNAUTHENTICATED"), Some(4401)), "{frame}");
    }
    assert_eq!(app.api(&tenant.api_key).replay(">", None).await.len(), 0);
    app.finish().await;
}

#[tokio::test]
async fn bad_credentials_are_refused_at_each_door() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let claims = |exp: u64| json!({"sub": "u", "exp": exp, "subscribe": [">"], "publish": []});
    let expired = tenant.sign(&claims(now() - 120));
    let foreign =
        weir_testkit::sign(&tenant.signing_key_id, other.signing_secret.as_bytes(), &claims(now() + 60));
    let endless = tenant.sign(&json!({"sub": "u", "subscribe": [">"], "publish": []}));
    let key = tenant.api_key.as_str();
    let forged = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    for (token, code, close) in [
        (forged.as_str(), "INVALID_API_KEY", 4401),
        (expired.as_str(), "EXPIRED_TOKEN", 4407),
        (foreign.as_str(), "INVALID_TOKEN", 4401),
        (endless.as_str(), "INVALID_TOKEN", 4401),
        ("nonsense", "INVALID_API_KEY", 4401),
        ("non.sen.se", "INVALID_TOKEN", 4401),
    ] {
        let mut ws = anonymous(&app).await;
        ws.send(&json!({"type": "connect", "token": token})).await;
        assert_eq!(ended(ws).await, (json!(code), Some(close)), "first frame");
        let bearer = format!("Bearer {token}");
        let refusal = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await.err();
        let (status, body) = refusal.expect("refused");
        assert_eq!((status, &body["error"]["code"]), (401, &json!(code)), "header");
    }
    // Scripts in browsers see no HTTP status: credentials in the URL are refused by frame and close code.
    // An API key has no business there at all.
    for (query, code, close) in [
        (format!("?token={expired}"), "EXPIRED_TOKEN", 4407),
        (format!("?token={foreign}"), "INVALID_TOKEN", 4401),
        (format!("?token={key}"), "INVALID_TOKEN", 4401),
        ("?ticket=nonsense".to_owned(), "INVALID_TOKEN", 4401),
    ] {
        let ws = Ws::attempt(&app.ws_url(0, &query), &[]).await.expect("a WebSocket");
        assert_eq!(ended(ws).await, (json!(code), Some(close)), "in the URL");
    }
    for node in &app.nodes {
        assert!(!node.log().contains(&expired) && !node.log().contains(key));
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_a_frame_is_answered_by_name() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    for text in ["{", "[]", "\"x\"", "{}", r#"{"type":"dance"}"#, r#"{"type":7}"#] {
        let mut ws = app.ws(&tenant.api_key).await;
        ws.send_raw(Message::text(text)).await;
        ws.send(&json!({"type": "ping"})).await;
        match ws.next().await {
            Ok(frame) => assert_eq!(frame["error"]["code"], "INVALID_FRAME", "{text}: {frame}"),
            Err(ended) => panic!("{text}: {ended:?} without an error frame"),
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn binary_oversized_and_ill_encoded_messages_end_the_connection() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let frame = |code, payload: Vec<u8>, edit: fn(&mut Frame)| {
        let mut frame = Frame::message(payload, OpCode::Data(code), true);
        edit(&mut frame);
        Message::Frame(frame)
    };
    let cases = [
        (frame(Data::Binary, b"{}".to_vec(), |_| ()), 1003),
        (frame(Data::Text, vec![b' '; (64 << 10) + 1], |_| ()), 1009),
        (frame(Data::Text, b"\"\xff\"".to_vec(), |_| ()), 1007),
        // Compression was not agreed upon.
        (frame(Data::Text, b"{}".to_vec(), |frame| frame.header_mut().rsv1 = true), 1002),
        (frame(Data::Continue, b"{}".to_vec(), |_| ()), 1002),
    ];
    for (message, code) in cases {
        let mut ws = app.ws(&tenant.api_key).await;
        ws.send_raw(message).await;
        assert_eq!(ws.end().await.1.code, Some(code));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_fragmented_message_is_one_frame() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    let text = json!({"type": "publish", "id": "f", "topic": "a", "payload": "é".repeat(500)}).to_string();
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let code = if n == 0 { Data::Text } else { Data::Continue };
        let last = n + 1 == pieces.len();
        ws.send_raw(Message::Frame(Frame::message(piece.to_vec(), OpCode::Data(code), last))).await;
        if n == 3 {
            ws.send_raw(Message::Ping("between".into())).await;
        }
    }
    assert_eq!(ws.expect("published").await["id"], "f");
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_connection_is_told_what_it_may() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let bearer = format!("Bearer {}", tenant.api_key);
    let mut ws = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await.expect("a WebSocket");
    let connected = ws.expect("connected").await;
    let limits = &connected["limits"];
    assert!(limits["frame_bytes"].as_u64().is_some_and(|bytes| bytes >= 65_536), "{connected}");
    assert_eq!(limits["topics"], 128, "{connected}");
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn subscriptions_begin_and_end() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    let answer = ws.subscribe(&["a", "b.*"], None).await;
    assert_eq!((&answer["topics"], &answer["recovered"]), (&json!(["a", "b.*"]), &json!(true)));
    for topic in ["a", "b.1", "c"] {
        api.publish(topic, &json!(topic)).await;
    }
    assert_eq!(ws.event().await["topic"], "a");
    assert_eq!(ws.event().await["topic"], "b.1");

    let answer = ws.ask(json!({"type": "unsubscribe", "topics": ["a", "never"]})).await;
    assert_eq!(answer["type"], "unsubscribed");
    api.publish("a", &json!(2)).await;
    api.publish("b.2", &json!(3)).await;
    assert_eq!(ws.event().await["topic"], "b.2");
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn overlapping_subscriptions_deliver_an_event_once() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let cursor = api.publish("a.0", &json!(0)).await["cursor"].as_str().expect("a cursor").to_owned();
    for n in 1..4 {
        api.publish(&format!("a.{n}"), &json!(n)).await;
    }
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a.*", ">"], Some(&cursor)).await;
    for n in 4..6 {
        api.publish(&format!("a.{n}"), &json!(n)).await;
    }
    for n in 1..6 {
        assert_eq!(ws.event().await["payload"], json!(n));
    }
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn the_answer_comes_before_the_events_it_announces() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let first = api.publish("a", &json!(0)).await;
    api.publish("a", &json!(1)).await;
    let second = api.publish("b", &json!(2)).await;
    for start in [
        json!({"after": first["cursor"]}),
        json!({"from_sequence": first["sequence"].as_u64().map(|sequence| sequence + 1)}),
        json!({"from_time": second["published_at"]}),
    ] {
        let mut request = json!({"type": "subscribe", "id": "s", "topics": [">"]});
        request.as_object_mut().expect("an object").extend(start.as_object().expect("an object").clone());
        let mut ws = app.ws(&tenant.api_key).await;
        ws.send(&request).await;
        let answer = ws.expect("subscribed").await;
        assert_eq!((&answer["id"], &answer["recovered"]), (&json!("s"), &json!(true)));
        if start.get("from_time").is_none() {
            assert_eq!(ws.event().await["payload"], json!(1));
        }
        let event = ws.event().await;
        assert_eq!((&event["payload"], &event["cursor"]), (&json!(2), &second["cursor"]));
        ws.close().await;
    }
    app.finish().await;
}

#[tokio::test]
async fn refused_requests_leave_the_connection_open() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    let many: Vec<String> = (0..129).map(|n| format!("t.{n}")).collect();
    let big = "x".repeat(60 << 10);
    for (request, code) in [
        (json!({"type": "subscribe", "topics": ["a..b"]}), "INVALID_TOPIC"),
        (json!({"type": "subscribe", "topics": []}), "INVALID_REQUEST"),
        (json!({"type": "subscribe", "topics": ["a"], "after": "x"}), "INVALID_CURSOR"),
        (json!({"type": "subscribe", "topics": many}), "PROJECT_LIMIT_EXCEEDED"),
        (json!({"type": "publish", "topic": "a.*", "payload": 1}), "INVALID_TOPIC"),
        (json!({"type": "publish", "topic": "a", "payload": 1, "event_id": "a b"}), "INVALID_REQUEST"),
        (json!({"type": "publish", "topic": "a"}), "INVALID_REQUEST"),
        (json!({"type": "refresh", "token": "non.sen.se"}), "INVALID_TOKEN"),
    ] {
        let answer = ws.ask(request.clone()).await;
        assert_eq!((&answer["type"], &answer["error"]["code"]), (&json!("error"), &json!(code)), "{request}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    for payload in [json!(big), json!(null)] {
        let answer = ws.ask(json!({"type": "publish", "topic": "a", "payload": payload})).await;
        assert_eq!(answer["type"], "published", "{answer}");
    }
    ws.send(&json!({"type": "ping"})).await;
    ws.expect("pong").await;
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn publishing_with_an_id_is_idempotent_across_transports() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut ws = app.ws(&tenant.api_key).await;
    let frame = json!({"type": "publish", "topic": "a", "payload": 1, "event_id": "e-1"});
    let first = ws.ask(frame.clone()).await;
    assert_eq!(first["type"], "published", "{first}");
    assert_eq!(ws.ask(frame).await["sequence"], first["sequence"]);
    let api = app.api(&tenant.api_key);
    let again = api.post("/v1/events", &json!({"topic": "a", "payload": 1, "id": "e-1"})).await.expect(201);
    assert_eq!((&again["sequence"], &again["cursor"]), (&first["sequence"], &first["cursor"]));
    let other = ws.ask(json!({"type": "publish", "topic": "a", "payload": 2, "event_id": "e-1"})).await;
    assert_eq!(other["error"]["code"], "DUPLICATE_EVENT_ID");
    assert_eq!(api.replay(">", None).await.len(), 1);
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_token_limits_and_its_refresh_changes_what_is_followed() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.token(&["a", "b"], &["a"])).await;
    for (request, code) in [
        (json!({"type": "subscribe", "topics": ["c"]}), "INSUFFICIENT_SCOPE"),
        (json!({"type": "subscribe", "topics": [">"]}), "INSUFFICIENT_SCOPE"),
        (json!({"type": "publish", "topic": "b", "payload": 1}), "INSUFFICIENT_SCOPE"),
    ] {
        assert_eq!(ws.ask(request.clone()).await["error"]["code"], code, "{request}");
    }
    ws.subscribe(&["a", "b"], None).await;
    let answer = ws.ask(json!({"type": "refresh", "token": tenant.token(&["b", "c"], &[])})).await;
    assert_ne!(answer["type"], "error", "{answer}");
    ws.subscribe(&["c"], None).await;
    for topic in ["a", "b", "c"] {
        api.publish(topic, &json!(topic)).await;
    }
    assert_eq!(ws.event().await["topic"], "b");
    assert_eq!(ws.event().await["topic"], "c");
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_connection_ends_when_its_token_does() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_JWT_LEEWAY", "0s")]).await;
    let tenant = app.tenant().await;
    let token = tenant.sign(&json!({"sub": "u", "exp": now() + 2, "subscribe": [">"], "publish": []}));
    let (_, ended) = app.ws(&token).await.end().await;
    assert_eq!((ended.code, ended.reason.as_str()), (Some(4407), "EXPIRED_TOKEN"));
    app.finish().await;
}
