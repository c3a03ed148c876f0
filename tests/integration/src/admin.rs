//! `/v1/admin/…` with an API key: tenants, projects, keys.

use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Answer, Api, TestApp, Ws};

async fn send(api: &Api, method: Method, path: &str, body: &Value) -> Answer {
    Answer::of(api.request(method, path).json(body)).await
}

async fn a_key_lives(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let wish = json!({"name": "devices", "scopes": ["events:publish", "events:subscribe"], "rate_limit_per_sec": 100});
    let made = api.post("/v1/admin/keys", &wish).await;
    assert_eq!(made.header("cache-control"), Some("no-store"), "no cache keeps a key");
    let made = made.expect(201);
    let (id, text) = (made["id"].as_str().expect("an id"), made["api_key"].as_str().expect("a key"));
    assert_eq!(made["project_id"], json!(tenant.project_id));
    app.api(text).publish("a", &json!(1)).await;

    let read = api.get(&format!("/v1/admin/keys/{id}"), &[]).await.expect(200);
    assert_eq!((&read["name"], &read["is_active"]), (&json!("devices"), &json!(true)));
    assert!(read.get("api_key").is_none(), "a secret is shown once: {read}");
    let listed = api.get("/v1/admin/keys", &[("limit", "1")]).await.expect(200);
    assert_eq!(listed["has_more"], json!(true));
    let next = listed["next_cursor"].as_str().expect("a cursor");
    let rest = api.get("/v1/admin/keys", &[("cursor", next)]).await.expect(200);
    assert_eq!(rest["data"][0]["id"], json!(id));

    let rotated = api.post(&format!("/v1/admin/keys/{id}/rotate"), &json!({"grace_seconds": 60})).await;
    let rotated = rotated.expect(201);
    let new = rotated["api_key"].as_str().expect("a key");
    app.api(new).publish("a", &json!(2)).await;
    app.api(text).publish("a", &json!("in grace")).await;
    let twice = api.post(&format!("/v1/admin/keys/{id}/rotate"), &json!({})).await;
    twice.refused(409, "CONFLICT");

    let revoked = send(&api, Method::DELETE, &format!("/v1/admin/keys/{id}"), &json!({})).await.expect(200);
    assert_eq!(
        (&revoked["is_active"], &revoked["enforced"]["nodes"]),
        (&json!(false), &json!(app.nodes.len()))
    );
    let late = app.api(text).post("/v1/events", &json!({"topic": "a", "payload": 3})).await;
    late.refused(401, "INVALID_API_KEY");
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_made_rotated_and_revoked() {
    a_key_lives(TestApp::start().await).await;
}

#[tokio::test]
async fn a_key_is_made_rotated_and_revoked_on_a_cluster() {
    a_key_lives(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn a_tenant_sees_itself_and_nobody_else() {
    let app = TestApp::start().await;
    let (mine, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&mine.api_key);
    let all = api.get("/v1/admin/tenants", &[]).await.expect(200);
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(all["data"][0]["id"], json!(mine.tenant_id));
    assert!(all["data"][0]["limits"]["connections"].as_u64().is_some_and(|limit| limit > 0));

    let missing = format!("ten_{}", "0".repeat(32));
    let (theirs, nobodys) =
        (format!("/v1/admin/tenants/{}", other.tenant_id), format!("/v1/admin/tenants/{missing}"));
    for path in ["", "/projects"] {
        let one = api.get(&format!("{theirs}{path}"), &[]).await;
        let two = api.get(&format!("{nobodys}{path}"), &[]).await;
        one.refused(404, "NOT_FOUND");
        assert_eq!(one.body["error"]["message"], two.body["error"]["message"]);
    }
    let their_key = app.key(&other, &[Scope::EventsPublish]).await;
    send(&api, Method::DELETE, &format!("/v1/admin/keys/{}", their_key.key_id), &json!({}))
        .await
        .refused(404, "NOT_FOUND");
    app.api(&their_key.api_key).publish("a", &json!(1)).await;
    let foreign = json!({"name": "x", "scopes": ["events:publish"], "project_id": other.project_id});
    api.post("/v1/admin/keys", &foreign).await.refused(404, "NOT_FOUND");
    app.finish().await;
}

#[tokio::test]
async fn a_key_cannot_give_what_it_does_not_hold() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let admin = app.key(&tenant, &[Scope::AdminRead, Scope::AdminWrite]).await;
    let api = app.api(&admin.api_key);
    let refused = api.post("/v1/admin/keys", &json!({"name": "x", "scopes": ["events:publish"]})).await;
    refused.refused(403, "INSUFFICIENT_SCOPE");
    assert_eq!(refused.body["error"]["details"]["missing"], "events:publish");
    // Nor learn the secret of a stronger key's successor.
    let strong = app.key(&tenant, &[Scope::EventsPublish]).await;
    let rotated = api.post(&format!("/v1/admin/keys/{}/rotate", strong.key_id), &json!({})).await;
    rotated.refused(403, "INSUFFICIENT_SCOPE");
    let weak = app.key(&tenant, &[Scope::EventsPublish]).await;
    app.api(&weak.api_key).get("/v1/admin/keys", &[]).await.refused(403, "INSUFFICIENT_SCOPE");
    let token = tenant.token(&[">"], &[">"]);
    app.api(&token).get("/v1/admin/keys", &[]).await.refused(403, "INSUFFICIENT_SCOPE");
    app.finish().await;
}

#[tokio::test]
async fn bad_wishes_are_refused_one_by_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let before = api.get("/v1/admin/keys", &[]).await.expect(200);
    for wish in [
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["root"]}),
        json!({"name": "", "scopes": ["events:publish"]}),
        json!({"name": "x\ny", "scopes": ["events:publish"]}),
        json!({"name": "x", "scopes": ["events:publish"], "expires_at": "2001-01-01T00:00:00Z"}),
        json!({"name": "x", "scopes": ["events:publish"], "surprise": 1}),
        json!({"name": "x", "scopes": ["events:publish"], "rate_limit_per_sec": -1}),
    ] {
        api.post("/v1/admin/keys", &wish).await.refused(400, "INVALID_REQUEST");
    }
    assert_eq!(api.get("/v1/admin/keys", &[]).await.expect(200), before);
    let key = before["data"][0]["id"].as_str().expect("an id");
    let long = json!({"grace_seconds": 604_801});
    api.post(&format!("/v1/admin/keys/{key}/rotate"), &long).await.refused(400, "INVALID_REQUEST");
    api.get("/v1/admin/keys/nonsense", &[]).await.refused(400, "INVALID_REQUEST");
    api.get("/v1/admin/keys", &[("limit", "0")]).await.refused(400, "INVALID_REQUEST");
    api.post("/v1/admin/tenants", &json!({"name": "x"})).await.refused(403, "INSUFFICIENT_SCOPE");
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    let more = json!({"limits": {"connections": 1_000_000}});
    send(&api, Method::PATCH, &path, &more).await.refused(403, "INSUFFICIENT_SCOPE");
    let renamed = send(&api, Method::PATCH, &path, &json!({"name": "another name"})).await.expect(200);
    assert_eq!(renamed["name"], "another name");
    app.finish().await;
}

async fn connections_are_listed_and_ended(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    let last = app.nodes.len() - 1;
    let mut stays = app.ws_at(0, &tenant.api_key).await;
    stays.subscribe(&["a.*"], None).await;
    let token = tenant.token(&["a.*"], &[]);
    let mut goes = app.ws_at(last, &token).await;
    goes.subscribe(&["a.b", "a.c"], None).await;
    let foreign = app.ws_at(last, &other.api_key).await;

    let listed = api.get("/v1/admin/connections", &[]).await.expect(200);
    let nodes = app.nodes.len();
    assert_eq!(listed["nodes"], json!({"answered": nodes, "of": nodes}));
    let data = listed["data"].as_array().expect("a list");
    assert_eq!(data.len(), 2, "{listed}");
    let found = data.iter().find(|connection| connection["user"] == "user-1").expect("the device");
    assert_eq!(found["topics"], json!(["a.b", "a.c"]));
    assert_eq!(
        (&found["project_id"], &found["credential"]),
        (&json!(tenant.project_id), &json!(tenant.signing_key_id))
    );
    let id = found["id"].as_str().expect("an id");

    let first = api.get("/v1/admin/connections", &[("limit", "1")]).await.expect(200);
    let next = first["next_cursor"].as_str().expect("there is a second");
    let second = api.get("/v1/admin/connections", &[("cursor", next)]).await.expect(200);
    assert_ne!(first["data"][0]["id"], second["data"][0]["id"]);
    assert_eq!(second["has_more"], json!(false));

    let path = format!("/v1/admin/connections/{id}");
    send(&app.api(&other.api_key), Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    let ended = send(&api, Method::DELETE, &path, &json!({})).await.expect(200);
    assert_eq!(ended["enforced"], json!({"nodes": nodes, "of": nodes, "connections_closed": 1}));
    let (frames, close) = goes.end().await;
    assert_eq!(close.code, Some(4410));
    assert_eq!(frames.last().map(|frame| frame["error"]["code"].clone()), Some(json!("CONNECTION_ENDED")));
    send(&api, Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    api.publish("a.b", &json!("still there")).await;
    assert_eq!(stays.event().await["payload"], "still there");
    stays.close().await;
    foreign.close().await;
    app.finish().await;
}

#[tokio::test]
async fn live_connections_are_listed_and_ended() {
    connections_are_listed_and_ended(TestApp::start().await).await;
}

#[tokio::test]
async fn live_connections_are_listed_and_ended_on_every_node() {
    connections_are_listed_and_ended(TestApp::cluster(2).await).await;
}

async fn what_is_deleted_is_gone(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let last = app.nodes.len() - 1;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    let api = app.api(&owner.access);
    let projects = format!("/v1/admin/tenants/{}/projects", tenant.tenant_id);
    let made = api.post(&projects, &json!({"name": "short-lived"})).await.expect(201);
    let project = members::text(&made["id"]);
    let wish = json!({"name": "x", "scopes": ["events:publish", "events:subscribe"], "project_id": project});
    let key = members::text(&api.post("/v1/admin/keys", &wish).await.expect(201)["api_key"]);
    let mut doomed = app.ws_at(last, &key).await;
    let mut spared = app.ws_at(last, &tenant.api_key).await;
    let path = format!("/v1/admin/projects/{project}");

    // Another tenant's project looks like nobody's.
    let stranger = app.api(&other.api_key);
    send(&stranger, Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    let deleted = send(&api, Method::DELETE, &path, &json!({})).await.expect(200);
    assert_eq!((&deleted["name"], &deleted["deleted"]), (&json!("short-lived"), &json!(true)));
    let enforced = json!({"nodes": app.nodes.len(), "of": app.nodes.len(), "connections_closed": 1});
    assert_eq!(deleted["enforced"], enforced);
    assert_eq!(doomed.end().await.1.code, Some(4401));
    let late = app.api_at(last, &key).post("/v1/events", &json!({"topic": "a", "payload": 3})).await;
    late.refused(401, "INVALID_API_KEY");
    api.get(&path, &[]).await.refused(404, "NOT_FOUND");
    send(&api, Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    api.post("/v1/admin/keys", &wish).await.refused(404, "NOT_FOUND");
    let left = api.get(&projects, &[]).await.expect(200);
    assert_eq!(left["data"].as_array().map(Vec::len), Some(1), "{left}");
    api.post(&projects, &json!({"name": "short-lived"})).await.expect(201);
    spared.subscribe(&["a"], None).await;

    // The tenant: not by its keys, not by a stranger, but by an owner.
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    let (keys, stranger) = (app.api(&tenant.api_key), members::owner(&app, &other, "eve@bolt.test").await);
    send(&keys, Method::DELETE, &path, &json!({})).await.refused(403, "INSUFFICIENT_SCOPE");
    send(&app.api(&stranger.access), Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    let deleted = send(&api, Method::DELETE, &path, &json!({})).await.expect(200);
    assert_eq!((&deleted["id"], &deleted["enforced"]), (&json!(tenant.tenant_id), &enforced));
    assert_eq!(spared.end().await.1.code, Some(4401));
    keys.get("/v1/topics", &[]).await.refused(401, "INVALID_API_KEY");
    let token = app.api_at(last, &tenant.token(&[">"], &[">"]));
    token.get("/v1/topics", &[]).await.refused(401, "INVALID_TOKEN");
    api.get("/v1/auth/me", &[]).await.refused(401, "INVALID_TOKEN");
    let refresh = json!({"refresh_token": owner.refresh});
    app.api("").post("/v1/auth/refresh", &refresh).await.refused(401, "INVALID_TOKEN");
    let operator = app.api(&members::operator(&app, "ops@weir.test").await.access);
    operator.get(&path, &[]).await.refused(404, "NOT_FOUND");
    send(&operator, Method::DELETE, &path, &json!({})).await.refused(404, "NOT_FOUND");
    let trail = operator.get("/v1/admin/audit", &[("tenant_id", &tenant.tenant_id)]).await.expect(200);
    let actions: Vec<_> =
        trail["data"].as_array().expect("entries").iter().map(|one| &one["action"]).collect();
    assert_eq!(actions.last(), Some(&&json!("tenant.delete")), "its trail stays");
    app.api(&other.api_key).publish("a", &json!("others go on")).await;
    app.finish().await;
}

#[tokio::test]
async fn projects_and_tenants_are_deleted() {
    what_is_deleted_is_gone(TestApp::start().await).await;
}

#[tokio::test]
async fn projects_and_tenants_are_deleted_on_every_node() {
    what_is_deleted_is_gone(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn limits_above_the_plan_are_refused_one_by_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let operator = app.api(&members::operator(&app, "ops@weir.test").await.access);
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    let plan = json!({"plan": "pro", "limits": {"requests_per_second": 500}});
    send(&operator, Method::PATCH, &path, &plan).await.expect(200);

    let project = format!("/v1/admin/projects/{}", tenant.project_id);
    for (limits, field, limit) in [
        (json!({"connections": 10_001}), "limits.connections", 10_000),
        (json!({"connections": 10, "requests_per_second": 501}), "limits.requests_per_second", 500),
    ] {
        let refused = send(&api, Method::PATCH, &project, &json!({"name": "x", "limits": limits})).await;
        refused.refused(403, "LIMIT_ABOVE_PLAN");
        let details = &refused.body["error"]["details"];
        assert_eq!((&details["field"], &details["limit"]), (&json!(field), &json!(limit)));
    }
    let key = json!({"name": "x", "scopes": ["events:publish"], "rate_limit_per_sec": 501});
    let refused = api.post("/v1/admin/keys", &key).await;
    refused.refused(403, "LIMIT_ABOVE_PLAN");
    assert_eq!(refused.body["error"]["details"]["field"], "rate_limit_per_sec");
    let more = json!({"limits": {"requests_per_second": 501}});
    let refused = send(&api, Method::PATCH, &path, &more).await;
    refused.refused(403, "INSUFFICIENT_SCOPE");
    assert_eq!(refused.body["error"]["details"]["missing"], "tenants:manage");
    for limits in [json!({"connections": -1}), json!({"connections": "9"}), json!({"payload_bytes": 1})] {
        let refused = send(&api, Method::PATCH, &project, &json!({"limits": limits})).await;
        refused.refused(400, "INVALID_REQUEST");
    }
    let read = api.get(&project, &[]).await.expect(200);
    assert_eq!((&read["limits"], read["name"] == "x"), (&json!({}), false), "nothing was changed: {read}");

    // Within the plan they hold at once.
    let change = json!({"name": "renamed", "limits": {"connections": 1, "requests_per_second": 500}});
    let changed = send(&api, Method::PATCH, &project, &change).await.expect(200);
    assert_eq!((&changed["name"], &changed["limits"]), (&change["name"], &change["limits"]));
    assert_eq!(changed["enforced"]["nodes"], 1);
    let only = app.ws(&tenant.api_key).await;
    let bearer = format!("Bearer {}", tenant.api_key);
    let second = Ws::attempt(&app.ws_url(0, ""), &[("authorization", &bearer)]).await;
    let (frames, _) = second.map_err(drop).expect("an upgrade").end().await;
    let last = frames.last().map(|frame| frame["error"]["code"].clone());
    assert_eq!(last, Some(json!("PROJECT_LIMIT_EXCEEDED")), "one connection is all");
    only.close().await;
    app.finish().await;
}

#[tokio::test]
async fn keys_are_rotated_from_the_shell() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let old = app.key(&tenant, &[Scope::EventsPublish]).await;
    let rotate = async |grace: &str| {
        let old = ["--tenant", &tenant.tenant_id, "--key", &old.key_id];
        app.run(&[&["keys", "rotate", "--grace-seconds", grace], &old[..]].concat()).await
    };
    assert!(!rotate("604801").await.status.success(), "more than 7 days");
    let output = rotate("0").await;
    assert!(output.status.success(), "{output:?}");
    let new = String::from_utf8(output.stdout).expect("text");
    app.api(new.trim()).publish("a", &json!(1)).await;
    let event = json!({"topic": "a", "payload": 1});
    app.api(&old.api_key).post("/v1/events", &event).await.refused(401, "EXPIRED_API_KEY");
    assert!(!rotate("0").await.status.success(), "it was rotated before");
    app.finish().await;
}
