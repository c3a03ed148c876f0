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
async fn use_a_revoked_key(app: &TestApp, tenant: &Tenant, node: usize, times: usize) {
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
async fn open(api: &Api, condition: &str) -> Value {
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
