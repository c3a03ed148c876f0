//! Log lines: one for a failure, where it leaves the program, with all that is known of whose it was.

use reqwest::Method;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Answer, Collector, TestApp, Ws, until};

/// The lines of a server that are as asked.
fn lines(app: &TestApp, asked: impl Fn(&Value) -> bool) -> Vec<Value> {
    let log = app.nodes[0].log();
    // The last line may be half written.
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| asked(line)).collect()
}

#[tokio::test]
async fn a_failure_is_one_line_that_says_whose_it_was() {
    let collector = Collector::start();
    let settings = collector.settings();
    let mut settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    settings.push(("WEIR_DATABASE_CALL_TIMEOUT", "500ms"));
    let app = TestApp::cluster_with_own_database(1, &settings).await;
    let tenant = app.tenant().await;
    let other = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let bearer = format!("Bearer {}", tenant.api_key);
    let opened = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await;
    let mut ws = opened.expect("an upgrade");
    let connection = ws.expect("connected").await["connection_id"].clone();
    app.api(&tenant.api_key).get("/v1/admin/keys", &[]).await.expect(200);

    app.pause_database();
    let request = app.api(&tenant.api_key).request(Method::GET, "/v1/admin/keys");
    let (answer, refreshed) = tokio::join!(
        Answer::of(request.header("x-request-id", "the-one-that-fails")),
        ws.ask(json!({"type": "refresh", "token": other.api_key}))
    );
    app.resume_database();
    assert_eq!(answer.expect(503)["error"]["code"], "DATABASE_UNAVAILABLE");
    assert_eq!(refreshed["error"]["code"], "DATABASE_UNAVAILABLE", "{refreshed}");

    let of_request = |line: &Value| line["request_id"] == "the-one-that-fails";
    let line = until("the request's line", async || lines(&app, of_request).pop()).await;
    assert_eq!(lines(&app, of_request).len(), 1, "{}", app.nodes[0].log());
    assert_eq!((&line["level"], &line["code"]), (&json!("WARN"), &json!("DATABASE_UNAVAILABLE")));
    assert_eq!(line["tenant"], json!(tenant.tenant_id));
    let message = line["message"].as_str().unwrap_or_default();
    // It reads alone.
    assert!(
        message.contains("the-one-that-fails") && message.contains(line["cause"].as_str().unwrap_or("?")),
        "{line}"
    );
    let span = until("the request's span", async || {
        collector.find(|span| span.text("weir.request_id") == "the-one-that-fails").pop()
    })
    .await;
    assert_eq!((&line["trace_id"], span.status.as_str()), (&json!(span.trace), "ERROR"));

    let of_connection = |line: &Value| line["connection"] == connection;
    let line = until("the connection's line", async || lines(&app, of_connection).pop()).await;
    assert_eq!(lines(&app, of_connection).len(), 1, "{}", app.nodes[0].log());
    assert_eq!((&line["tenant"], &line["project"]), (&json!(tenant.tenant_id), &json!(tenant.project_id)));
    drop(ws);
    until("the node to be ready again", async || {
        (app.nodes[0].ops().get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn lines_for_people_have_no_colours_outside_of_a_terminal() {
    let app = TestApp::start_with(&[("WEIR_TELEMETRY_LOG_FORMAT", "pretty")]).await;
    let log = app.nodes[0].log();
    assert!(log.contains("serving on http://") && !log.contains('\u{1b}') && !log.contains("{\""), "{log}");
    app.finish().await;
}
