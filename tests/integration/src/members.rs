//! People: invitations, sign-in, roles, and that a change of role holds at once.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_testkit::{Answer, Api, Ended, Tenant, TestApp, Ws};

const PASSWORD: &str = "correct horse battery";
/// A change of role is enforced by the next look at the list of changes, ten times a second.
const SOON: Duration = Duration::from_secs(2);

async fn send(api: &Api, method: Method, path: &str, body: &Value) -> Answer {
    Answer::of(api.request(method, path).json(body)).await
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// Somebody who has signed in.
pub(crate) struct Person {
    pub(crate) id: String,
    email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Person {
    fn of(body: &Value) -> Self {
        Self {
            id: text(&body["user"]["id"]),
            email: text(&body["user"]["email"]),
            access: text(&body["access_token"]),
            refresh: text(&body["refresh_token"]),
        }
    }
}

/// The tenant's first owner, invited from the shell.
pub(crate) async fn owner(app: &TestApp, tenant: &Tenant, email: &str) -> Person {
    let seat = ["--tenant", &tenant.tenant_id, "--role", "owner"];
    let output = app.run(&[&["users", "create", "--email", email], &seat[..]].concat()).await;
    assert!(output.status.success(), "{output:?}");
    let invitation = String::from_utf8(output.stdout).expect("text");
    let accept = json!({"invitation": invitation.trim(), "password": PASSWORD});
    Person::of(&app.api("").post("/v1/auth/accept", &accept).await.expect(200))
}

/// One of the installation's own people, invited from the shell.
pub(crate) async fn operator(app: &TestApp, email: &str) -> Person {
    let output = app.run(&["users", "create", "--email", email, "--operator"]).await;
    assert!(output.status.success(), "{output:?}");
    let invitation = String::from_utf8(output.stdout).expect("text");
    let accept = json!({"invitation": invitation.trim(), "password": PASSWORD});
    let body = app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    assert_eq!((&body["role"], &body["tenant_id"]), (&json!("operator"), &Value::Null));
    Person::of(&body)
}

/// Invites somebody and accepts for them.
pub(crate) async fn member(app: &TestApp, by: &Person, tenant: &Tenant, email: &str, role: &str) -> Person {
    let path = format!("/v1/admin/tenants/{}/members", tenant.tenant_id);
    let invited = app.api(&by.access).post(&path, &json!({"email": email, "role": role})).await.expect(201);
    let accept = json!({"invitation": invited["invitation_token"], "password": PASSWORD});
    let body = app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    assert_eq!((&body["role"], &body["tenant_id"]), (&json!(role), &json!(tenant.tenant_id)));
    Person::of(&body)
}

async fn sign_in(app: &TestApp, email: &str, password: &str) -> Answer {
    let answer = app.api("").post("/v1/auth/login", &json!({"email": email, "password": password})).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"), "no cache keeps a token");
    answer
}

fn member_path(tenant: &Tenant, user: &Person) -> String {
    format!("/v1/admin/tenants/{}/members/{}", tenant.tenant_id, user.id)
}

/// A member's WebSocket on a node, subscribed to everything.
async fn watch(app: &TestApp, node: usize, person: &Person, tenant: &Tenant) -> Ws {
    let bearer = format!("Bearer {}", person.access);
    let headers = [("authorization", bearer.as_str()), ("x-weir-project", tenant.project_id.as_str())];
    let mut ws = Ws::attempt(&app.ws_url(node, ""), &headers).await.expect("a WebSocket");
    ws.expect("connected").await;
    ws.subscribe(&[">"], None).await;
    ws
}

#[tokio::test]
async fn people_are_invited_sign_in_and_are_told_who_they_are() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let owner = owner(&app, &tenant, "Owner@Acme.test").await;
    assert_eq!(owner.email, "owner@acme.test");
    let path = format!("/v1/admin/tenants/{}/members", tenant.tenant_id);
    let wish = json!({"email": "ada@acme.test", "role": "developer", "name": "Ada"});
    let invited = app.api(&owner.access).post(&path, &wish).await.expect(201);
    assert_eq!((&invited["email"], &invited["role"]), (&json!("ada@acme.test"), &json!("developer")));
    let pending = format!("/v1/admin/tenants/{}/invitations", tenant.tenant_id);
    let listed = app.api(&owner.access).get(&pending, &[]).await.expect(200);
    assert_eq!(listed["data"][0]["id"], invited["id"]);
    assert!(listed["data"][0].get("invitation_token").is_none(), "a token is shown once");

    let accept = json!({"invitation": invited["invitation_token"], "password": PASSWORD});
    let answer = app.api("").post("/v1/auth/accept", &accept).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.expect(200);
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(body["user"]["name"], "Ada");
    app.api("").post("/v1/auth/accept", &accept).await.refused(401, "INVALID_TOKEN");
    let listed = app.api(&owner.access).get(&pending, &[]).await.expect(200);
    assert_eq!(listed["data"], json!([]), "it was taken");

    let signed_in = sign_in(&app, " ADA@acme.test", PASSWORD).await.expect(200);
    let me = app.api(&text(&signed_in["access_token"])).get("/v1/auth/me", &[]).await.expect(200);
    assert_eq!((&me["role"], &me["tenant_id"]), (&json!("developer"), &json!(tenant.tenant_id)));
    assert_eq!(me["memberships"][0]["role"], "developer");
    let members = app.api(&owner.access).get(&path, &[("limit", "1")]).await.expect(200);
    assert_eq!((&members["data"][0]["role"], &members["has_more"]), (&json!("owner"), &json!(true)));

    // A withdrawn invitation and a replaced one are no use.
    let wish = json!({"email": "eve@acme.test", "role": "viewer"});
    let first = app.api(&owner.access).post(&path, &wish).await.expect(201);
    let second = app.api(&owner.access).post(&path, &wish).await.expect(201);
    let withdraw = format!("{pending}/{}", text(&second["id"]));
    send(&app.api(&owner.access), Method::DELETE, &withdraw, &json!({})).await.expect(204);
    for invitation in [first, second] {
        let accept = json!({"invitation": invitation["invitation_token"], "password": PASSWORD});
        app.api("").post("/v1/auth/accept", &accept).await.refused(401, "INVALID_TOKEN");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let app = TestApp::start_with(&[("WEIR_AUTH_ATTEMPTS_PER_EMAIL", "5")]).await;
    let tenant = app.tenant().await;
    let owner = owner(&app, &tenant, "owner@acme.test").await;
    let wrong = sign_in(&app, &owner.email, "wrong horse battery").await;
    let unknown = sign_in(&app, "nobody@acme.test", PASSWORD).await;
    wrong.refused(401, "UNAUTHENTICATED");
    unknown.refused(401, "UNAUTHENTICATED");
    let plain = |answer: &Answer| {
        let mut body = answer.body.clone();
        body["error"]["request_id"] = Value::Null;
        body
    };
    assert_eq!(plain(&wrong), plain(&unknown));
    for (email, password) in [("", ""), ("not an address", PASSWORD), (&*owner.email, "")] {
        sign_in(&app, email, password).await.refused(401, "UNAUTHENTICATED");
    }

    // Guessing one person's password runs into a limit, and so does guessing for nobody.
    for email in [&*owner.email, "nobody@acme.test"] {
        let mut refused = None;
        for _ in 0..6 {
            let answer = sign_in(&app, email, "wrong horse battery").await;
            if answer.status == 429 {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("a limit");
        refused.refused(429, "RATE_LIMIT_EXCEEDED");
        let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
        assert!((1..=12).contains(&wait), "{wait}");
    }
    app.finish().await;
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_stolen_one_ends_the_sign_in() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let owner = owner(&app, &tenant, "owner@acme.test").await;
    let api = app.api("");
    let refresh = async |token: &str| api.post("/v1/auth/refresh", &json!({"refresh_token": token})).await;
    let first = refresh(&owner.refresh).await.expect(200);
    app.api(&text(&first["access_token"])).get("/v1/auth/me", &[]).await.expect(200);
    refresh(&owner.refresh).await.refused(401, "INVALID_TOKEN");
    refresh(&text(&first["refresh_token"])).await.refused(401, "INVALID_TOKEN");
    refresh("wrt_1").await.refused(401, "INVALID_TOKEN");

    let again = Person::of(&sign_in(&app, &owner.email, PASSWORD).await.expect(200));
    api.post("/v1/auth/logout", &json!({"refresh_token": again.refresh})).await.expect(204);
    refresh(&again.refresh).await.refused(401, "INVALID_TOKEN");

    // Another password ends everything that was issued, and tokens and passwords are not said aloud.
    let before = Person::of(&sign_in(&app, &owner.email, PASSWORD).await.expect(200));
    let change = json!({"current": PASSWORD, "new": "another horse battery"});
    let wrong = json!({"current": "wrong horse battery", "new": "another horse battery"});
    let person = app.api(&before.access);
    person.post("/v1/auth/password", &wrong).await.refused(401, "UNAUTHENTICATED");
    let short = json!({"current": PASSWORD, "new": "short"});
    person.post("/v1/auth/password", &short).await.refused(400, "INVALID_REQUEST");
    let changed = person.post("/v1/auth/password", &change).await.expect(200);
    assert!(changed["enforced"]["nodes"].as_u64().is_some_and(|nodes| nodes > 0), "{changed}");
    person.get("/v1/auth/me", &[]).await.refused(401, "INVALID_TOKEN");
    refresh(&before.refresh).await.refused(401, "INVALID_TOKEN");
    app.api(&text(&changed["access_token"])).get("/v1/auth/me", &[]).await.expect(200);
    sign_in(&app, &owner.email, PASSWORD).await.refused(401, "UNAUTHENTICATED");
    sign_in(&app, &owner.email, "another horse battery").await.expect(200);
    let secrets = [PASSWORD, "another horse battery", &before.access, &before.refresh];
    for (name, content) in app.data_files() {
        for secret in secrets {
            let leaked = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!leaked, "{name} holds {secret}");
        }
    }
    app.finish().await;
}

async fn a_role_change_is_felt(app: TestApp) {
    let tenant = app.tenant().await;
    let last = app.nodes.len() - 1;
    let owner = owner(&app, &tenant, "owner@acme.test").await;
    let dev = member(&app, &owner, &tenant, "dev@acme.test", "developer").await;
    let viewer = member(&app, &owner, &tenant, "viewer@acme.test", "viewer").await;
    let mut watching = watch(&app, last, &dev, &tenant).await;
    let mut bystander = watch(&app, last, &viewer, &tenant).await;
    let key = json!({"name": "x", "scopes": ["events:publish"], "project_id": tenant.project_id});
    app.api_at(last, &dev.access).post("/v1/admin/keys", &key).await.expect(201);
    app.api_at(last, &viewer.access).post("/v1/admin/keys", &key).await.refused(403, "INSUFFICIENT_SCOPE");

    // A developer publishes, a viewer does not.
    let event = json!({"type": "publish", "topic": "a", "payload": 1});
    assert_eq!(watching.ask(event.clone()).await["type"], "published");
    assert_eq!(bystander.ask(event).await["error"]["code"], "INSUFFICIENT_SCOPE");
    watching.event().await;
    bystander.event().await;

    // Billing reads no events: the subscription ends on the other node, and the issued token administers no keys.
    let begun = Instant::now();
    let path = member_path(&tenant, &dev);
    let changed = send(&app.api(&owner.access), Method::PATCH, &path, &json!({"role": "billing"})).await;
    let changed = changed.expect(200);
    assert_eq!((&changed["role"], &changed["user_id"]), (&json!("billing"), &json!(dev.id)));
    assert!(changed["enforced"]["nodes"].as_u64().is_some_and(|nodes| nodes > 0), "{changed}");
    weir_testkit::until("the token to lose the role", async || {
        let answer = app.api_at(last, &dev.access).post("/v1/admin/keys", &key).await;
        (answer.status == 403).then_some(())
    })
    .await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    let me = app.api_at(last, &dev.access).get("/v1/auth/me", &[]).await.expect(200);
    assert_eq!(me["role"], "billing");
    app.api_at(last, &tenant.api_key).publish("a", &json!("after")).await;
    assert_eq!(bystander.event().await["payload"], "after");
    watching.send(&json!({"type": "ping"})).await;
    let next = watching.next().await.expect("the connection stays");
    assert_ne!(next["type"], "event", "a lost subscription delivers nothing: {next}");

    // Whoever is removed is out, connection and all.
    let begun = Instant::now();
    let removed =
        send(&app.api(&owner.access), Method::DELETE, &member_path(&tenant, &viewer), &json!({})).await;
    removed.expect(200);
    let (_, ended) = bystander.end().await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(ended, Ended { code: Some(4401), reason: "INVALID_TOKEN".into() });
    app.api_at(last, &viewer.access).get("/v1/auth/me", &[]).await.refused(401, "INVALID_TOKEN");
    let refresh = json!({"refresh_token": viewer.refresh});
    app.api("").post("/v1/auth/refresh", &refresh).await.refused(401, "INVALID_TOKEN");
    watching.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_change_of_role_applies_to_issued_tokens_and_open_connections() {
    a_role_change_is_felt(TestApp::start().await).await;
}

#[tokio::test]
async fn a_change_of_role_applies_on_other_nodes() {
    a_role_change_is_felt(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn owners_are_made_by_owners_and_the_last_one_stays() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let one = owner(&app, &tenant, "one@acme.test").await;
    let admin = member(&app, &one, &tenant, "admin@acme.test", "admin").await;
    let api = app.api(&one.access);
    let demote = json!({"role": "viewer"});
    send(&api, Method::PATCH, &member_path(&tenant, &one), &demote).await.refused(409, "CONFLICT");
    send(&api, Method::DELETE, &member_path(&tenant, &one), &json!({})).await.refused(409, "CONFLICT");
    let unknown = send(&api, Method::PATCH, &member_path(&tenant, &admin), &json!({"role": "king"})).await;
    unknown.refused(400, "INVALID_REQUEST");
    assert_eq!(
        unknown.body["error"]["details"]["roles"],
        json!(["owner", "admin", "developer", "billing", "viewer"])
    );
    let promote = json!({"role": "operator"});
    let promoted = send(&api, Method::PATCH, &member_path(&tenant, &admin), &promote).await;
    promoted.refused(400, "INVALID_REQUEST");

    // An admin, and an API key with every scope, keep their hands off owners.
    let members = format!("/v1/admin/tenants/{}/members", tenant.tenant_id);
    for hands in [app.api(&admin.access), app.api(&tenant.api_key)] {
        let refused = send(&hands, Method::PATCH, &member_path(&tenant, &one), &demote).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
        assert_eq!(refused.body["error"]["details"]["missing"], "owners:write");
        send(&hands, Method::DELETE, &member_path(&tenant, &one), &json!({}))
            .await
            .refused(403, "INSUFFICIENT_SCOPE");
        let wish = json!({"email": "x@acme.test", "role": "owner"});
        hands.post(&members, &wish).await.refused(403, "INSUFFICIENT_SCOPE");
        let wish = json!({"email": "x@acme.test", "role": "viewer"});
        hands.post(&members, &wish).await.expect(201);
    }
    let again = json!({"email": one.email, "role": "viewer"});
    api.post(&members, &again).await.refused(409, "CONFLICT");

    // Another tenant's members look like nobody's.
    let stranger = owner(&app, &other, "stranger@bolt.test").await;
    let theirs = send(&api, Method::DELETE, &member_path(&other, &stranger), &json!({})).await;
    theirs.refused(404, "NOT_FOUND");
    let unknown = send(&api, Method::DELETE, &member_path(&tenant, &stranger), &json!({})).await;
    unknown.refused(404, "NOT_FOUND");

    // Whom another tenant knows is invited like anybody, learns it by the invitation, and keeps the password.
    let wish = json!({"email": stranger.email, "role": "viewer"});
    let invited = api.post(&members, &wish).await.expect(201);
    let accept = |password: &str| json!({"invitation": invited["invitation_token"], "password": password});
    app.api("").post("/v1/auth/accept", &accept("somebody else's")).await.refused(401, "UNAUTHENTICATED");
    app.api("").post("/v1/auth/accept", &accept(PASSWORD)).await.expect(200);
    let several = sign_in(&app, &stranger.email, PASSWORD).await;
    several.refused(400, "INVALID_REQUEST");
    assert_eq!(several.body["error"]["details"]["tenants"].as_array().map(Vec::len), Some(2));
    let choice = json!({"email": stranger.email, "password": PASSWORD, "tenant_id": tenant.tenant_id});
    let chosen = app.api("").post("/v1/auth/login", &choice).await.expect(200);
    assert_eq!(chosen["role"], "viewer");
    let nowhere = json!({"email": one.email, "password": PASSWORD, "tenant_id": other.tenant_id});
    app.api("").post("/v1/auth/login", &nowhere).await.refused(404, "NOT_FOUND");
    app.finish().await;
}

#[tokio::test]
async fn a_disabled_user_is_let_in_nowhere() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    let boss = owner(&app, &tenant, "owner@acme.test").await;
    let dev = member(&app, &boss, &tenant, "dev@acme.test", "developer").await;
    let watching = watch(&app, 1, &dev, &tenant).await;
    let begun = Instant::now();
    let disabled = app.run(&["users", "disable", "--email", &dev.email]).await;
    assert!(disabled.status.success(), "{disabled:?}");
    let mut watching = watching;
    let (_, ended) = watching.end().await;
    assert!(begun.elapsed() < SOON + Duration::from_secs(1), "it took {:?}", begun.elapsed());
    assert_eq!(ended.code, Some(4401));
    app.api_at(1, &dev.access).get("/v1/auth/me", &[]).await.refused(401, "INVALID_TOKEN");
    sign_in(&app, &dev.email, PASSWORD).await.refused(401, "UNAUTHENTICATED");
    assert!(app.run(&["users", "disable", "--email", &dev.email, "--no"]).await.status.success());
    let back = Person::of(&sign_in(&app, &dev.email, PASSWORD).await.expect(200));
    app.api(&back.access).get("/v1/auth/me", &[]).await.expect(200);
    app.api(&dev.access).get("/v1/auth/me", &[]).await.refused(401, "INVALID_TOKEN");

    // A forgotten password is set anew with a token from the shell.
    let reset = app.run(&["users", "reset-password", "--email", &dev.email]).await;
    let token = String::from_utf8(reset.stdout).expect("text");
    let accept = json!({"invitation": token.trim(), "password": "another horse battery"});
    app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    sign_in(&app, &dev.email, "another horse battery").await.expect(200);
    sign_in(&app, &dev.email, PASSWORD).await.refused(401, "UNAUTHENTICATED");
    app.finish().await;
}

#[tokio::test]
async fn members_act_in_the_project_that_they_name() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let dev = owner(&app, &tenant, "owner@acme.test").await;
    let api = app.api(&dev.access);
    let event = json!({"topic": "a", "payload": 1});
    let nowhere = api.post("/v1/events", &event).await;
    nowhere.refused(400, "INVALID_REQUEST");
    assert_eq!(nowhere.body["error"]["details"]["field"], "project");
    let publish = async |project: &str| {
        let request = api.request(Method::POST, "/v1/events").header("x-weir-project", project);
        Answer::of(request.json(&event)).await
    };
    publish(&tenant.project_id).await.expect(201);
    publish(&other.project_id).await.refused(404, "NOT_FOUND");
    publish("prj_1").await.refused(400, "INVALID_REQUEST");

    // By the first frame, by the URL, and by a ticket that remembers the project.
    let mut ws = Ws::attempt(&app.ws_url(0, ""), &[]).await.expect("a WebSocket");
    let connect = json!({"type": "connect", "token": dev.access, "project": tenant.project_id});
    ws.send(&connect).await;
    ws.expect("connected").await;
    ws.subscribe(&["a"], None).await;
    let refreshed = ws.ask(json!({"type": "refresh", "token": dev.access})).await;
    assert_eq!(refreshed["type"], "refreshed", "{refreshed}");
    let query = format!("?token={}&project={}", dev.access, tenant.project_id);
    let mut by_url = Ws::attempt(&app.ws_url(0, &query), &[]).await.expect("a WebSocket");
    by_url.expect("connected").await;
    let ticket =
        Answer::of(api.request(Method::POST, "/v1/tickets").header("x-weir-project", &tenant.project_id));
    let ticket = text(&ticket.await.expect(201)["ticket"]);
    let mut by_ticket =
        Ws::attempt(&app.ws_url(0, &format!("?ticket={ticket}")), &[]).await.expect("a WebSocket");
    by_ticket.expect("connected").await;
    by_ticket.subscribe(&["a"], None).await;
    app.api(&tenant.api_key).publish("a", &json!("hello")).await;
    for ws in [&mut ws, &mut by_ticket] {
        assert_eq!(ws.event().await["payload"], "hello");
    }
    for ws in [ws, by_url, by_ticket] {
        ws.close().await;
    }
    app.finish().await;
}

#[tokio::test]
async fn operators_cross_tenants_and_read_no_events() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let operator = operator(&app, "ops@weir.test").await;
    let api = app.api(&operator.access);
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    api.get(&path, &[]).await.expect(200);
    let suspend = json!({"reason": "unpaid"});
    let client = app.api(&tenant.token(&["a"], &["a"]));
    client.publish("a", &json!(1)).await;
    api.post(&format!("{path}/suspend"), &suspend).await.expect(200);
    // Its servers are told why, the people who use its application are not.
    let event = json!({"topic": "a", "payload": 1});
    let told = app.api(&tenant.api_key).post("/v1/events", &event).await;
    told.refused(403, "TENANT_SUSPENDED");
    assert_eq!(told.body["error"]["details"]["reason"], "unpaid");
    let told = client.post("/v1/events", &event).await;
    told.refused(403, "TENANT_SUSPENDED");
    assert!(!told.body.to_string().contains("unpaid"), "{}", told.body);
    api.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    let request = api.request(Method::POST, "/v1/events").header("x-weir-project", &tenant.project_id);
    Answer::of(request.json(&json!({"topic": "a", "payload": 1}))).await.refused(404, "NOT_FOUND");

    let unmade = app.run(&["users", "set-operator", "--email", "ops@weir.test", "--no"]).await;
    assert!(unmade.status.success(), "{unmade:?}");
    api.get(&path, &[]).await.refused(401, "INVALID_TOKEN");
    sign_in(&app, "ops@weir.test", PASSWORD).await.refused(403, "INSUFFICIENT_SCOPE");
    app.finish().await;
}
