//! `/v1/admin/alerts`, and who is told: a webhook, a real Alertmanager.

use crate::members;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Alertmanager, Api, Endpoint, Tenant, TestApp, until};

/// Quick looks and low limits.
pub const QUICK: [(&str, &str); 9] = [
    ("WEIR_ALERTS_INTERVAL", "100ms"),
    ("WEIR_ALERTS_HOLD", "1s"),
    ("WEIR_ALERTS_WINDOW", "2s"),
    ("WEIR_ALERTS_RESEND", "500ms"),
    ("WEIR_ALERTS_AUTH_FAILURES_PROJECT", "5"),
    ("WEIR_ALERTS_AUTH_FAILURES", "100000"),
    ("WEIR_ALERTS_VERSION_SKEW", "0s"),
    // However full this machine's disk is.
    ("WEIR_ALERTS_STORAGE_FREE_PERCENT", "1"),
    ("WEIR_AUTH_ATTEMPTS_PER_ADDRESS", "0"),
];

/// Makes a key, revokes it, and goes on to use it.
pub async fn use_a_revoked_key(app: &TestApp, tenant: &Tenant, node: usize, times: usize) {
    let key = app.key(tenant, &[Scope::EventsSubscribe]).await;
    let path = format!("/v1/admin/keys/{}", key.key_id);
    let revoke = app.api(&tenant.api_key).request(reqwest::Method::DELETE, &path);
    weir_testkit::Answer::of(revoke).await.expect(200);
    for _ in 0..times {
        app.api_at(node, &key.api_key).get("/v1/topics", &[]).await.refused(401, "INVALID_API_KEY");
    }
}

async fn alerts(api: &Api, query: &[(&str, &str)]) -> Vec<Value> {
    let page = api.get("/v1/admin/alerts", query).await.expect(200);
    page["data"].as_array().expect("a list").clone()
}

/// Waits until an open alert of this condition is seen, and gives it.
pub async fn open(api: &Api, condition: &str) -> Value {
    until("the alert to be raised", async || {
        alerts(api, &[("state", "open")]).await.into_iter().find(|alert| alert["condition"] == condition)
    })
    .await
}

#[tokio::test]
async fn a_tenants_alert_is_raised_once_seen_by_its_own_acknowledged_and_resolved() {
    let app = TestApp::cluster_with(2, weir_testkit::Replicas::One, &QUICK).await;
    let (tenant, rival) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    // Both nodes see it.
    use_a_revoked_key(&app, &tenant, 0, 6).await;
    use_a_revoked_key(&app, &tenant, 1, 6).await;
    let raised = open(&api, "auth-failures").await;
    assert_eq!((&raised["severity"], &raised["state"]), (&json!("warning"), &json!("raised")));
    assert_eq!((&raised["subject"], &raised["limit"]), (&json!(tenant.project_id), &json!("5")));
    assert_eq!(raised["tenant_id"], json!(tenant.tenant_id));
    assert_eq!(raised["runbook"], "docs/runbooks.md#auth-failures");
    assert!(raised["message"].as_str().is_some_and(|text| text.contains(&tenant.project_id)), "{raised}");
    assert!(raised["fix"].as_str().is_some_and(|text| !text.is_empty()));

    // The project that it is about hears of it, as of its events.
    let told = async |topic: &'static str| {
        until("the system event", async || api.replay(topic, None).await.pop()).await
    };
    let event = told("@weir.alert.raised").await;
    assert_eq!((&event["payload"]["id"], &event["payload"]["severity"]), (&raised["id"], &json!("warning")));

    // Others do not, and cannot touch it; operators do.
    assert_eq!(alerts(&app.api(&rival.api_key), &[]).await, Vec::<Value>::new());
    let theirs = [("tenant_id", tenant.tenant_id.as_str())];
    app.api(&rival.api_key).get("/v1/admin/alerts", &theirs).await.refused(404, "NOT_FOUND");
    let path = format!("/v1/admin/alerts/{}/acknowledge", raised["id"].as_str().expect("an id"));
    app.api(&rival.api_key).post(&path, &json!({})).await.refused(404, "NOT_FOUND");
    let operator = app.api(&members::operator(&app, "ops@weir.test").await.access);
    assert_eq!(alerts(&operator, &theirs).await.len(), 1, "one row, whichever nodes saw it");
    assert_eq!(alerts(&operator, &[("severity", "critical")]).await.len(), 0);
    operator.get("/v1/admin/alerts", &[("state", "shut")]).await.refused(400, "INVALID_REQUEST");

    let graphql = json!({"query": "{ alerts(state: open) { edges { node { id condition severity state tenant_id } } } }"});
    let answer = api.post("/graphql", &graphql).await.expect(200);
    assert_eq!(answer["data"]["alerts"]["edges"][0]["node"]["id"], raised["id"], "{answer}");

    // Whether it is over by now is a matter of time; either answer is right, and nothing else is.
    let taken = api.post(&path, &json!({})).await;
    assert!([200, 409].contains(&taken.status), "{}", taken.body);
    let over = until("the alert to be over", async || {
        let found = alerts(&api, &[("state", "resolved")]).await;
        found.into_iter().find(|alert| alert["id"] == raised["id"])
    })
    .await;
    assert!(over["resolved_at"].is_string());
    assert_eq!(over["acknowledged_at"].is_string(), taken.status == 200);
    api.post(&path, &json!({})).await.refused(409, "CONFLICT");
    assert_eq!(told("@weir.alert.resolved").await["payload"]["resolved_at"], over["resolved_at"]);
    app.finish().await;
}

#[tokio::test]
async fn alertmanager_is_told_of_beginning_and_end() {
    let manager = Alertmanager::start().await;
    let mut settings = QUICK.to_vec();
    settings.push(("WEIR_ALERTS_ALERTMANAGER_URLS", manager.url()));
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    use_a_revoked_key(&app, &tenant, 0, 60).await;
    let subject = tenant.project_id.as_str();
    let told = until("Alertmanager to know", async || manager.active("subject", subject).await.pop()).await;
    let labels = &told["labels"];
    assert_eq!(labels["alertname"], "WeirAuthFailures");
    assert_eq!((&labels["tenant_id"], &labels["service"]), (&json!(tenant.tenant_id), &json!("weir")));
    assert_eq!(told["annotations"]["runbook_url"], "docs/runbooks.md#auth-failures");
    until("Alertmanager to know the end", async || {
        manager.active("subject", subject).await.is_empty().then_some(())
    })
    .await;
    // Its own words agree: the alert is over here too.
    let ended = alerts(&app.api(&tenant.api_key), &[("state", "resolved")]).await;
    assert_eq!(ended.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_node_without_its_database_tells_alertmanager_itself() {
    let manager = Alertmanager::start().await;
    let mut settings = QUICK.to_vec();
    settings.push(("WEIR_ALERTS_ALERTMANAGER_URLS", manager.url()));
    settings.push(("WEIR_DATABASE_CALL_TIMEOUT", "1s"));
    // What a busy machine says late must not be over meanwhile: both nodes' words have to stand at once.
    settings.push(("WEIR_ALERTS_RESEND", "2s"));
    let app = TestApp::cluster_with_own_database(2, &settings).await;
    app.pause_database();
    let told = until("Alertmanager to know", async || {
        manager.active("condition", "database-unavailable").await.pop()
    })
    .await;
    assert_eq!(told["labels"]["severity"], "critical");
    until("Alertmanager to know of the nodes", async || {
        (manager.active("condition", "access-stale").await.len() == 2).then_some(())
    })
    .await;
    until("Alertmanager to know that the database is not asked", async || {
        manager.active("subject", "database").await.pop()
    })
    .await;
    app.resume_database();
    until("all to be over", async || {
        let still = manager.active("service", "weir").await;
        (!still.iter().any(|alert| alert["labels"]["severity"] == "critical")).then_some(())
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn the_operators_webhook_is_told_until_it_listens() {
    let endpoint = Endpoint::start().await;
    endpoint.answer(500);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut settings = QUICK.to_vec();
    settings
        .extend([("WEIR_ALERTS_WEBHOOK_URL", endpoint.url.as_str()), ("WEIR_ALERTS_WEBHOOK_SECRET", secret)]);
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    use_a_revoked_key(&app, &tenant, 0, 6).await;
    until("the first attempt", async || (!endpoint.taken().is_empty()).then_some(())).await;
    endpoint.answer(204);
    let of = |kind: &str| {
        let is = |one: &&weir_testkit::Taken| {
            one.body.contains(&format!("\"type\":\"{kind}\"")) && one.body.contains(&tenant.project_id)
        };
        endpoint.taken().iter().filter(is).cloned().collect::<Vec<_>>()
    };
    until("the end to be told", async || (!of("alert.resolved").is_empty()).then_some(())).await;
    let raised = of("alert.raised");
    assert!(raised.len() >= 2, "tried again: {raised:?}");
    assert_eq!(raised[0].headers["webhook-id"], raised[1].headers["webhook-id"]);
    assert_eq!(raised[0].body, raised[1].body);
    let body: Value = serde_json::from_str(&raised[0].body).expect("JSON");
    assert_eq!(body["data"]["condition"], "auth-failures");
    assert!(raised[0].headers["webhook-signature"].starts_with("v1,"));
    assert_ne!(of("alert.resolved")[0].headers["webhook-id"], raised[0].headers["webhook-id"]);
    assert!(!app.nodes[0].log().contains(secret));
    app.finish().await;
}

#[tokio::test]
async fn that_the_log_is_not_asked_any_more_is_an_alert() {
    let settings = [&QUICK[..], &[("WEIR_NATS_REQUEST_TIMEOUT", "500ms")]].concat();
    let mut app = TestApp::cluster_with(1, weir_testkit::Replicas::One, &settings).await;
    let tenant = app.tenant().await;
    let operator = app.api(&members::operator(&app, "ops@weir.test").await.access);
    app.api(&tenant.api_key).publish("a", &json!(1)).await;
    app.nats().freeze().expect("NATS is stopped");
    let raised = until("the alert to be raised", async || {
        let event = json!({"topic": "a", "payload": 2});
        app.api(&tenant.api_key).post("/v1/events", &event).await.refused(503, "EVENT_LOG_UNAVAILABLE");
        let open = alerts(&operator, &[("state", "open")]).await;
        open.into_iter().find(|alert| alert["condition"] == "breaker-open")
    })
    .await;
    assert_eq!((&raised["subject"], &raised["severity"]), (&json!("log_append"), &json!("warning")));
    assert_eq!(
        (&raised["tenant_id"], &raised["runbook"]),
        (&Value::Null, &json!("docs/runbooks.md#breaker-open"))
    );
    app.nats().thaw().expect("NATS goes on");
    until("the alert to be over", async || {
        let over = alerts(&operator, &[("state", "resolved")]).await;
        over.into_iter().find(|alert| alert["id"] == raised["id"])
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_whose_room_for_events_is_full_is_told() {
    let app = TestApp::start_with(&QUICK).await;
    let (tenant, rival) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    for owner in [&tenant, &rival] {
        for n in 0..20 {
            app.api(&owner.api_key).publish("a", &json!(n)).await;
        }
    }
    let bytes = until("all to be counted", async || {
        let total = api.get("/v1/billing/storage", &[]).await.expect(200)["total"].clone();
        (total["events"] == 20).then(|| total["bytes"].as_u64().expect("a number"))
    })
    .await;
    let full = async || app.nodes[0].metrics().await.sum("weir_retention_full_tenants", &[]);
    until("the first look", async || (full().await == Some(0.0)).then_some(())).await;
    // The rival has no bound.
    app.set_limits(&tenant, &json!({ "retention_bytes": bytes * 100 / 85 })).await;
    let raised = open(&api, "retention-full").await;
    assert_eq!((&raised["severity"], &raised["subject"]), (&json!("info"), &json!(tenant.tenant_id)));
    assert_eq!(
        (&raised["value"], &raised["limit"]),
        (&json!(bytes.to_string()), &json!((bytes * 100 / 85).to_string()))
    );
    app.set_limits(&tenant, &json!({ "retention_bytes": bytes })).await;
    until("it to be worse", async || {
        let still = open(&api, "retention-full").await;
        (still["severity"] == "warning").then(|| assert_eq!(still["id"], raised["id"]))
    })
    .await;
    assert_eq!(full().await, Some(1.0));
    assert_eq!(alerts(&app.api(&rival.api_key), &[]).await, Vec::<Value>::new());
    app.set_limits(&tenant, &json!({ "retention_bytes": bytes * 10 })).await;
    until("it to be over", async || {
        let over = alerts(&api, &[("state", "resolved")]).await;
        over.into_iter().find(|alert| alert["id"] == raised["id"])
    })
    .await;
    assert_eq!(full().await, Some(0.0));
    app.finish().await;
}
