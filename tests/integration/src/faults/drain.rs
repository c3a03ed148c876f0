//! Stopping under load, and coming back all at once.

use super::{Load, Report};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_testkit::{Answer, State, TestApp, Ws, until};

/// Nodes are stopped in order under load, one after the other: nothing is lost, and whoever is connected goes elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_stopped_under_load_lose_nothing() {
    let settings = [("WEIR_LIMITS_DRAIN", "5s"), ("WEIR_LIMITS_DRAIN_SPREAD", "1s")];
    let mut app = TestApp::cluster_with(2, weir_testkit::Replicas::One, &settings).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("stop", "jetstream");
    for cycle in 0..super::long_cycles() * 2 {
        load.progress(50).await;
        app.nodes[cycle % 2].stop().await;
        app.nodes[cycle % 2].restart().await;
        report.cycles += 1;
    }
    load.progress(50).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

/// Closes are spread over the time that is set for it, not sent at once.
#[tokio::test(flavor = "multi_thread")]
async fn closes_are_spread_and_say_when_to_come_back() {
    let settings = [("WEIR_LIMITS_DRAIN", "20s"), ("WEIR_LIMITS_DRAIN_SPREAD", "2s")];
    let mut app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let mut sockets = Vec::new();
    // At most 10 ms are left for each: these take up the two seconds.
    for _ in 0..200 {
        sockets.push(app.ws(&tenant.api_key).await);
    }
    app.nodes[0].tell_to_stop();
    let ends = join_all(sockets.into_iter().map(|mut ws| async move {
        let (frames, ended) = ws.end().await;
        (Instant::now(), frames, ended)
    }))
    .await;
    for (_, frames, ended) in &ends {
        let told =
            frames.iter().find(|frame| frame["type"] == "reconnect").expect("it is told when to come back");
        assert!(told["after_ms"].as_u64().is_some_and(|ms| (100..=2_000).contains(&ms)), "{told}");
        assert!(ended.code.is_some_and(|code| (4500..4600).contains(&code)), "{ended:?}");
    }
    let first = ends.iter().map(|end| end.0).min().expect("ends");
    let last = ends.iter().map(|end| end.0).max().expect("ends");
    assert!(
        last.duration_since(first) > Duration::from_secs(1),
        "all within {:?}",
        last.duration_since(first)
    );
    assert!(app.nodes[0].ends().await.success());
}

/// What a client sent before the stop is answered, and a client that never finishes its request holds nobody up.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_has_begun_and_waits_for_nobody_for_ever() {
    let settings = [
        ("WEIR_LIMITS_DRAIN", "5s"),
        ("WEIR_LIMITS_DRAIN_SPREAD", "1s"),
        ("WEIR_NATS_REQUEST_TIMEOUT", "10s"),
    ];
    let mut app = TestApp::cluster_over_links(1, &settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("a", &json!("first")).await;
    // The event log takes its time: these publishes are under way when the node is told to stop.
    app.links[0].log.set(State::Dead);
    let publishing: Vec<_> = (0..20)
        .map(|n| {
            let event = json!({"topic": "a", "payload": n});
            tokio::spawn(Answer::attempt(api.request(Method::POST, "/v1/events").json(&event)))
        })
        .collect();
    let mut unfinished = tokio::net::TcpStream::connect(app.nodes[0].address()).await.expect("a connection");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        tenant.api_key
    );
    unfinished.write_all(head.as_bytes()).await.expect("half a request is sent");
    // Whatever reached the node before it was told to stop must be answered: an answered request behind them shows that.
    app.links[0].log.held().await;
    for _ in 0..20 {
        app.nodes[0].ops().get("/healthz", &[]).await.expect(200);
    }
    app.nodes[0].tell_to_stop();
    until("the stop to begin", async || app.nodes[0].log().contains("stopping:").then_some(())).await;
    app.links[0].log.set(State::Up);
    for answer in publishing {
        let answer = answer.await.expect("the task ends").expect("every request that had begun is answered");
        answer.expect(201);
    }
    assert!(app.nodes[0].ends().await.success());
    let mut rest = Vec::new();
    let _ = unfinished.read_to_end(&mut rest).await;
    app.nodes[0].restart().await;
    assert_eq!(app.api(&tenant.api_key).replay("a", None).await.len(), 21);
    app.finish().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let settings = [("WEIR_LIMITS_DRAIN", "10m"), ("WEIR_LIMITS_DRAIN_SPREAD", "5m")];
    let mut app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let published = api.publish("a", &json!(1)).await;
    // One connection that is mid-request keeps the stop from ending.
    let mut unfinished = tokio::net::TcpStream::connect(app.nodes[0].address()).await.expect("a connection");
    unfinished
        .write_all(b"POST /v1/events HTTP/1.1\r\nhost: weir\r\ncontent-length: 9\r\n\r\n{")
        .await
        .expect("sent");
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(app.ws(&tenant.api_key).await);
    }
    app.nodes[0].tell_to_stop();
    until("the stop to begin", async || app.nodes[0].log().contains("stopping:").then_some(())).await;
    app.nodes[0].tell_to_stop();
    assert!(app.nodes[0].ends().await.success());
    app.nodes[0].restart().await;
    assert_eq!(api.replay("a", None).await[0]["id"], published["id"]);
    app.finish().await;
}

/// A node takes so many new connections a second; the others are told to come back, not all at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn more_new_connections_than_a_node_takes_are_spread() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "5")]).await;
    let tenant = app.tenant().await;
    let bearer = format!("Bearer {}", tenant.api_key);
    let (url, headers) = (app.ws_url(0, ""), [("authorization", bearer.as_str())]);
    let attempts = join_all((0..60).map(|_| Ws::attempt(&url, &headers))).await;
    let refused: Vec<_> = attempts.iter().filter_map(|attempt| attempt.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < 60, "{} of 60 were refused", refused.len());
    for (status, body) in refused {
        assert_eq!((*status, &body["error"]["code"]), (503, &json!("OVERLOADED")), "{body}");
    }
    let waits = join_all((0..40).map(|_| async {
        let request = app.api(&tenant.api_key).request(Method::GET, "/sse?topics=a");
        let answer = request.send().await.expect("an answer");
        let wait = answer.headers().get("retry-after")?.to_str().ok()?.parse::<u64>().ok();
        drop(answer);
        wait
    }))
    .await;
    let waits: std::collections::BTreeSet<u64> = waits.into_iter().flatten().collect();
    assert!(waits.len() > 1 && waits.iter().all(|wait| (1..=4).contains(wait)), "{waits:?}");
    drop(attempts);
    app.finish().await;
}

/// Everybody comes back at once, with a cursor, and the database is asked nothing: it stands still while they do.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_costs_the_database_nothing() {
    let settings =
        [("WEIR_LIMITS_ACCESS_WINDOW", "50s"), ("WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND", "10000")];
    let app = TestApp::cluster_with_own_database(1, &settings).await;
    let tenant = app.tenant().await;
    let cursor = app.api(&tenant.api_key).publish("a", &json!(0)).await["cursor"].clone();
    let cursor = cursor.as_str().expect("a cursor").to_owned();
    let (there, key, cursor) = (&app, &tenant.api_key, &cursor);
    let connect = || async move {
        let mut ws = there.ws(key).await;
        ws.subscribe(&["a"], Some(cursor)).await;
        ws
    };
    let first = join_all((0..200).map(|_| connect())).await;
    // The node keeps the places of its tenant's connections for a while: they are torn off, and come back.
    drop(first);
    app.pause_database();
    let again = join_all((0..200).map(|_| connect())).await;
    app.api(&tenant.api_key).publish("a", &json!(1)).await;
    for mut ws in again {
        assert_eq!(ws.event().await["payload"], 1);
        ws.close().await;
    }
    app.resume_database();
    app.finish().await;
}
