//! What `docs/operations.md` says under "What fails how", tried.

use serde_json::{Value, json};
use std::time::Duration;
use weir_testkit::{Answer, Node, State, TestApp, Ws, until};

/// What a node says of itself.
async fn ready(node: &Node) -> Answer {
    node.ops().get("/readyz", &[]).await
}

/// Waits for a node to be unready with a word about one dependency; gives the word.
async fn unready(node: &Node, part: &str) -> String {
    until("the node to say what is wrong", async || {
        let answer = ready(node).await;
        let word = answer.body[part].as_str().expect("a word for each part").to_owned();
        (answer.status == 503 && word != "ok").then_some(word)
    })
    .await
}

async fn ready_again(node: &Node) {
    until("the node to be ready again", async || (ready(node).await.status == 200).then_some(())).await;
}

fn event(payload: &str) -> Value {
    json!({"topic": "a", "payload": payload})
}

/// The next frame of this type; what else is said in between is passed over.
async fn next(ws: &mut Ws, kind: &str) -> Value {
    loop {
        match ws.next().await {
            Ok(frame) if frame["type"] == kind => return frame,
            Ok(frame) => assert_ne!(frame["type"], "event", "an event came before `{kind}`: {frame}"),
            Err(ended) => panic!("the connection ended before `{kind}`: {ended:?}"),
        }
    }
}

/// The database is away: who is known goes on within the access window; then the node does nothing, and afterwards
/// everything comes.
#[tokio::test]
async fn without_its_database_a_node_serves_who_it_knows_and_then_nobody() {
    let settings = [("WEIR_LIMITS_ACCESS_WINDOW", "4s"), ("WEIR_DATABASE_CALL_TIMEOUT", "1s")];
    let app = TestApp::cluster_over_links(2, &settings).await;
    let tenant = app.tenant().await;
    let (here, there) = (app.api_at(0, &tenant.api_key), app.api_at(1, &tenant.api_key));
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    here.publish("a", &json!("before")).await;
    assert_eq!(ws.event().await["payload"], "before");

    app.links[0].database.set(State::Cut);
    here.post("/v1/events", &event("within the window")).await.expect(201);
    assert_eq!(ws.event().await["payload"], "within the window");
    let admin = here.get("/v1/admin/keys", &[]).await;
    admin.refused(503, "DATABASE_UNAVAILABLE");
    assert!(admin.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    unready(&app.nodes[0], "database").await;

    unready(&app.nodes[0], "access").await;
    let refused = here.post("/v1/events", &event("after it")).await;
    refused.refused(503, "DATABASE_UNAVAILABLE");
    assert!(refused.header("retry-after").is_some());
    there.publish("a", &json!("from the other node")).await;
    // Nothing comes while nobody knows whether it may.
    let silence = tokio::time::timeout(Duration::from_millis(500), ws.next()).await;
    assert!(silence.is_err(), "{silence:?}");

    app.links[0].database.set(State::Up);
    assert_eq!(ws.event().await["payload"], "from the other node");
    ready_again(&app.nodes[0]).await;
    here.publish("a", &json!("again")).await;
    assert_eq!(ws.event().await["payload"], "again");
    ws.close().await;
    app.finish().await;
}

/// NATS is away: nothing is acknowledged, whoever is connected stays so and is told, and misses nothing.
#[tokio::test]
async fn without_nats_a_node_acknowledges_nothing_and_keeps_its_subscribers() {
    let app = TestApp::cluster_over_links(2, &[]).await;
    let tenant = app.tenant().await;
    let (here, there) = (app.api_at(0, &tenant.api_key), app.api_at(1, &tenant.api_key));
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    here.publish("a", &json!("before")).await;
    assert_eq!(ws.event().await["payload"], "before");
    assert_eq!(stream.event().await["payload"], "before");

    app.links[0].log.set(State::Cut);
    assert_eq!(next(&mut ws, "status").await["event_log"], "unavailable");
    let told = stream.next().await.expect("the stream goes on");
    assert_eq!(told.field(""), Some("event_log unavailable"), "{told:?}");
    let refused = here.post("/v1/events", &event("never")).await;
    refused.refused(503, "EVENT_LOG_UNAVAILABLE");
    assert!(refused.header("retry-after").is_some());
    unready(&app.nodes[0], "event_log").await;
    assert_eq!(ready(&app.nodes[1]).await.status, 200);
    there.publish("a", &json!("missed")).await;

    app.links[0].log.set(State::Up);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = ws.next().await.expect("the connection stands");
        seen.push(if frame["type"] == "event" {
            frame["payload"].clone()
        } else {
            frame["event_log"].clone()
        });
    }
    assert!(seen.contains(&json!("missed")) && seen.contains(&json!("ok")), "{seen:?}");
    assert_eq!(stream.event().await["payload"], "missed");
    ready_again(&app.nodes[0]).await;
    let all: Vec<Value> = here.replay("a", None).await.iter().map(|event| event["payload"].clone()).collect();
    assert_eq!(all, ["before", "missed"], "what was refused is not in the log");
    ws.close().await;
    drop(stream);
    app.finish().await;
}

/// What does not answer is given up on in time, and soon not asked any more but now and then; health says which it is.
#[tokio::test]
async fn what_does_not_answer_is_given_up_on_and_named() {
    let settings = [
        ("WEIR_DATABASE_CALL_TIMEOUT", "500ms"),
        ("WEIR_DATABASE_ACQUIRE_TIMEOUT", "500ms"),
        ("WEIR_NATS_REQUEST_TIMEOUT", "500ms"),
        ("WEIR_LIMITS_ACCESS_WINDOW", "50s"),
    ];
    let app = TestApp::cluster_over_links(1, &settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("a", &json!("before")).await;

    app.links[0].log.set(State::Dead);
    until("publishes to be refused at once", async || {
        let refused = api.post("/v1/events", &event("unknown")).await;
        refused.refused(503, "EVENT_LOG_UNAVAILABLE");
        app.nodes[0].log().contains("appends of stream").then_some(())
    })
    .await;
    unready(&app.nodes[0], "event_log").await;
    app.links[0].log.set(State::Up);
    until("publishing to work again", async || {
        (api.post("/v1/events", &event("after")).await.status == 201).then_some(())
    })
    .await;
    ready_again(&app.nodes[0]).await;

    app.links[0].database.set(State::Dead);
    until("the database to be asked no more", async || {
        api.get("/v1/admin/keys", &[]).await.refused(503, "DATABASE_UNAVAILABLE");
        unready(&app.nodes[0], "database").await.contains("found no answer").then_some(())
    })
    .await;
    // Who is known needs no database.
    api.publish("a", &json!("without it")).await;
    app.links[0].database.set(State::Up);
    until("administration to work again", async || {
        (api.get("/v1/admin/keys", &[]).await.status == 200).then_some(())
    })
    .await;
    ready_again(&app.nodes[0]).await;
    app.finish().await;
}

/// A session that was just made when its tenant changed is looked at again; that the database is away then ends no connection.
#[tokio::test]
async fn a_session_that_cannot_be_judged_just_now_stays() {
    let settings = [("WEIR_DATABASE_CALL_TIMEOUT", "500ms"), ("WEIR_LIMITS_ACCESS_WINDOW", "50s")];
    let app = TestApp::cluster_over_links(2, &settings).await;
    let tenant = app.tenant().await;
    let key = app.key(&tenant, &[weir_core::Scope::EventsSubscribe]).await;
    let mut known = app.ws(&key.api_key).await;
    // A change of the tenant, and the look-up that it makes necessary finds nobody: whoever comes in between is in doubt.
    let doomed = app.key(&tenant, &[weir_core::Scope::EventsSubscribe]).await;
    let revoke = app
        .api(&tenant.api_key)
        .request(reqwest::Method::DELETE, &format!("/v1/admin/keys/{}", doomed.key_id));
    Answer::of(revoke).await.expect(200);
    app.links[0].database.set(State::Cut);
    let bearer = format!("Bearer {}", key.api_key);
    let opened = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await;
    if let Err((status, body)) = &opened {
        assert_eq!((*status, &body["error"]["code"]), (503, &json!("DATABASE_UNAVAILABLE")));
    }
    app.links[0].database.set(State::Up);
    known.subscribe(&["a"], None).await;
    if let Ok(mut opened) = opened {
        opened.expect("connected").await;
        opened.subscribe(&["a"], None).await;
        opened.close().await;
    }
    known.close().await;
    app.finish().await;
}

/// A stream that is deleted under its readers: each transport says why it ends, and that one should come back.
#[tokio::test]
async fn a_feed_that_breaks_is_told_as_the_end() {
    let mut app = TestApp::cluster_on(1, Default::default(), &[]).await;
    let tenant = app.tenant().await;
    app.api(&tenant.api_key).publish("a", &json!("old")).await;
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    let mut stream = app.sse(&tenant.api_key, "a", None).await;
    app.nats().delete_streams().await.expect("NATS deletes");
    let told = stream.data().await;
    assert_eq!(told.field("event"), Some("error"), "{told:?}");
    assert!(told.field("retry").is_some(), "{told:?}");
    assert_eq!(told.json().expect("data")["error"]["code"], "EVENT_LOG_UNAVAILABLE");
    while stream.next().await.is_some() {}
    let (_, ended) = ws.end().await;
    assert!(ended.code.is_some_and(|code| (4500..4600).contains(&code)), "{ended:?}");
    app.finish().await;
}
