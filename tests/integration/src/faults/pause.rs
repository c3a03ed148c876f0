//! SIGSTOP and SIGCONT: whatever stands still keeps its sockets, and everybody else must not wait for ever.

use super::{Load, Report, long_cycles};
use serde_json::json;
use std::time::Duration;
use weir_testkit::TestApp;

/// A server that stands still is not a server that lost something: its clients go on when it does.
#[tokio::test]
async fn a_paused_server_goes_on_where_it_was() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["a"], None).await;
    app.nodes[0].pause();
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.publish("a", &json!("while paused")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    app.nodes[0].resume();
    waiting.await.expect("the answer comes");
    assert_eq!(ws.event().await["payload"], "while paused");
    ws.close().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_server_that_is_paused_under_load_loses_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("pause", "embedded");
    for _ in 0..long_cycles() {
        load.progress(20).await;
        app.nodes[0].pause();
        tokio::time::sleep(Duration::from_millis(700)).await;
        app.nodes[0].resume();
        report.cycles += 1;
    }
    load.progress(20).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

/// A node, NATS and PostgreSQL, one after the other; the last for longer than the access window, so that nodes stop.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_paused_in_a_cluster_loses_nothing() {
    let settings = [("WEIR_LIMITS_ACCESS_WINDOW", "1s"), ("WEIR_NATS_REQUEST_TIMEOUT", "1s")];
    let mut app = TestApp::cluster_with_own_database(2, &settings).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("pause", "jetstream");
    for _ in 0..long_cycles() {
        load.progress(20).await;
        app.nodes[0].pause();
        tokio::time::sleep(Duration::from_millis(700)).await;
        app.nodes[0].resume();
        load.progress(20).await;
        app.nats().freeze().expect("NATS is stopped");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        app.nats().thaw().expect("NATS goes on");
        load.progress(20).await;
        app.pause_database();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        app.resume_database();
        report.cycles += 3;
    }
    load.progress(20).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}
