//! Client tokens: `/v1/admin/signing-keys`, what their tokens may do, and what ends them.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_core::Scope;
use weir_testkit::{Answer, KeyServer, Pair, Replicas, Tenant, TestApp, now, sign, until};

const PATH: &str = "/v1/admin/signing-keys";
/// Key servers of tests are on this machine, where nothing is fetched from otherwise.
const HERE: (&str, &str) = ("WEIR_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8");
/// Fetching again is tested with the least times that the settings take.
const BRISK: [(&str, &str); 3] =
    [HERE, ("WEIR_OUTBOUND_KEY_SET_INTERVAL", "1s"), ("WEIR_OUTBOUND_KEY_SET_REFRESH", "1s")];

fn claims(tenant: &Tenant) -> Value {
    json!({ "sub": "ada", "aud": tenant.project_id, "exp": now() + 600, "subscribe": ["a.>"], "publish": ["a.>"] })
}

async fn make(app: &TestApp, tenant: &Tenant, wish: &Value) -> Value {
    app.api(&tenant.api_key).post(PATH, wish).await.expect(201)
}

async fn revoke(app: &TestApp, tenant: &Tenant, id: &Value) -> Value {
    let path = format!("{PATH}/{}", id.as_str().expect("an id"));
    Answer::of(app.api(&tenant.api_key).request(Method::DELETE, &path)).await.expect(200)
}

async fn publish(app: &TestApp, token: &str) -> Answer {
    app.api(token).post("/v1/events", &json!({ "topic": "a.b", "payload": 1 })).await
}

#[tokio::test]
async fn secrets_and_public_keys_sign_tokens() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let claims = claims(&tenant);
    let generated = make(&app, &tenant, &json!({ "name": "ours" })).await;
    let secret = generated["secret"].as_str().expect("shown once").as_bytes();
    let id = generated["id"].as_str().expect("an id");
    publish(&app, &sign(id, secret, &claims)).await.expect(201);
    let given = "x".repeat(32);
    let made = make(&app, &tenant, &json!({ "secret": given })).await;
    assert_eq!(
        (&made["kind"], &made["algorithm"], made.get("secret")),
        (&json!("secret"), &json!("HS256"), None)
    );
    publish(&app, &sign(made["id"].as_str().expect("an id"), given.as_bytes(), &claims)).await.expect(201);
    for (pair, algorithm) in [(Pair::rsa(), "RS256"), (Pair::p256(), "ES256"), (Pair::ed25519(), "EdDSA")] {
        for key in [json!(pair.pem), pair.jwk("any")] {
            let made = make(&app, &tenant, &json!({ "public_key": key })).await;
            assert_eq!((&made["kind"], &made["algorithm"]), (&json!("public_key"), &json!(algorithm)));
            let token = pair.sign(made["id"].as_str().expect("an id"), &claims);
            publish(&app, &token).await.expect(201);
            let mut ws = app.ws(&token).await;
            ws.subscribe(&["a.b"], None).await;
            ws.close().await;
        }
    }
    let listed = app.api(&tenant.api_key).get(PATH, &[]).await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(9), "with the first one of bootstrap");
    let text = listed.to_string();
    assert!(!text.contains(&given) && !text.contains(generated["secret"].as_str().expect("text")), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn what_verifies_nothing_is_not_registered() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let before = api.get(PATH, &[]).await.expect(200);
    let rsa = Pair::rsa();
    for wish in [
        json!({ "secret": "x".repeat(31) }),
        json!({ "secret": "x".repeat(32), "jwks": { "keys": [] } }),
        json!({ "public_key": "no key" }),
        json!({ "public_key": rsa.pem, "algorithm": "HS256" }),
        json!({ "public_key": rsa.pem, "algorithm": "ES256" }),
        json!({ "public_key": rsa.pem, "algorithm": "none" }),
        json!({ "algorithm": "RS256" }),
        json!({ "public_key": 7 }),
        json!({ "public_key": { "kty": "oct", "k": "c2VjcmV0" } }),
        json!({ "jwks": { "keys": [] } }),
        json!({ "jwks": "x".repeat(70_000) }),
        json!({ "jwks_url": "http://example.com/keys" }),
        json!({ "jwks_url": "https://127.0.0.1/keys" }),
        json!({ "jwks_url": "https://[::ffff:169.254.169.254]/latest" }),
        json!({ "jwks_url": "https://user:password@example.com/keys" }),
        json!({ "jwks_url": "file:///etc/passwd" }),
        json!({ "topics": { "subscribe": ["user..{sub}"] } }),
        json!({ "topics": { "subscribe": ["user.{id}"] } }),
        json!({ "name": "x\ny" }),
        json!({ "surprise": 1 }),
    ] {
        let answer = api.post(PATH, &wish).await;
        answer.refused(400, "INVALID_REQUEST");
        assert!(!answer.body.to_string().contains("password@"), "{}", answer.body);
    }
    assert_eq!(api.get(PATH, &[]).await.expect(200), before);
    app.finish().await;
}

#[tokio::test]
async fn signing_keys_are_for_those_who_may_and_stay_in_their_tenant() {
    let app = TestApp::start().await;
    let (mine, other) = (app.tenant().await, app.tenant().await);
    let admin = app.key(&mine, &[Scope::AdminRead, Scope::AdminWrite]).await;
    // Its tokens could publish, which the key itself may not.
    app.api(&admin.api_key).post(PATH, &json!({})).await.refused(403, "INSUFFICIENT_SCOPE");
    let viewer = app.key(&mine, &[Scope::AdminRead, Scope::EventsPublish, Scope::EventsSubscribe]).await;
    app.api(&viewer.api_key).post(PATH, &json!({})).await.refused(403, "INSUFFICIENT_SCOPE");
    let subscriber = app.key(&mine, &[Scope::AdminWrite, Scope::EventsSubscribe]).await;
    let topics = json!({ "topics": { "subscribe": ["user.{sub}.>"] } });
    app.api(&subscriber.api_key).post(PATH, &topics).await.expect(201);

    let api = app.api(&mine.api_key);
    api.post(PATH, &json!({ "project_id": other.project_id })).await.refused(404, "NOT_FOUND");
    api.get(PATH, &[("project_id", &other.project_id)]).await.refused(404, "NOT_FOUND");
    let theirs = format!("{PATH}/{}", other.signing_key_id);
    Answer::of(api.request(Method::DELETE, &theirs)).await.refused(404, "NOT_FOUND");
    publish(&app, &other.sign(&claims(&other))).await.expect(201);
    // Nor does a key of one tenant open another's project, whatever the token says.
    let pair = Pair::ed25519();
    make(&app, &mine, &json!({ "jwks": { "keys": [pair.jwk("k")] } })).await;
    publish(&app, &pair.sign("k", &claims(&mine))).await.expect(201);
    publish(&app, &pair.sign("k", &claims(&other))).await.refused(401, "INVALID_TOKEN");
    app.finish().await;
}

/// The ways in which a token can be wrong, each refused with its code; none of them leaves an event.
#[tokio::test]
async fn wrong_tokens_are_refused_each_with_its_code() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let rsa = Pair::rsa();
    let made = make(&app, &tenant, &json!({ "public_key": rsa.pem })).await;
    let id = made["id"].as_str().expect("an id");
    make(&app, &tenant, &json!({ "jwks": { "keys": [rsa.jwk("k1")] } })).await;
    let good = claims(&tenant);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let mut endless = good.clone();
    endless.as_object_mut().expect("claims").remove("exp");
    let strangers = Pair::rsa();
    for (token, code) in [
        (rsa.sign(id, &with("exp", json!(format!("{}", now() + 600)))), "INVALID_TOKEN"),
        (rsa.sign(id, &endless), "INVALID_TOKEN"),
        (rsa.sign(id, &with("exp", json!(now() - 60))), "EXPIRED_TOKEN"),
        (rsa.sign(id, &with("nbf", json!(now() + 600))), "INVALID_TOKEN"),
        (rsa.sign(id, &with("aud", json!("prj_00000000000000000000000000000000"))), "INVALID_TOKEN"),
        (rsa.sign(id, &with("sub", json!("x".repeat(4096)))), "INVALID_TOKEN"),
        // The public key taken for a secret.
        (sign(id, rsa.pem.as_bytes(), &good), "INVALID_TOKEN"),
        (sign(id, rsa.pem.trim().as_bytes(), &good), "INVALID_TOKEN"),
        (sign("k1", rsa.pem.as_bytes(), &good), "INVALID_TOKEN"),
        (strangers.sign(id, &good), "INVALID_TOKEN"),
        (strangers.sign("k1", &good), "INVALID_TOKEN"),
        (rsa.sign("k2", &good), "INVALID_TOKEN"),
        (rsa.sign("sig_00000000000000000000000000000000", &good), "INVALID_TOKEN"),
        (rsa.sign("", &good), "INVALID_TOKEN"),
        (rsa.sign("k1", &with("aud", json!(null))), "INVALID_TOKEN"),
    ] {
        publish(&app, &token).await.refused(401, code);
    }
    publish(&app, &rsa.sign(id, &good)).await.expect(201);
    publish(&app, &rsa.sign("k1", &good)).await.expect(201);
    assert_eq!(app.api(&tenant.api_key).replay(">", None).await.len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn topics_of_a_signing_key_take_the_place_of_claims() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let pair = Pair::p256();
    let topics = json!({ "subscribe": ["user.{sub}.>"], "publish": ["inbox.{sub}"] });
    make(&app, &tenant, &json!({ "jwks": { "keys": [pair.jwk("k")] }, "topics": topics })).await;
    // It does not matter what the token asks for.
    let mut said = claims(&tenant);
    let mut ws = app.ws(&pair.sign("k", &said)).await;
    ws.subscribe(&["user.ada.>"], None).await;
    for (topic, allowed) in [("inbox.ada", true), ("inbox.bob", false), ("a.b", false)] {
        let answer = ws.ask(json!({ "type": "publish", "topic": topic, "payload": 1 })).await;
        assert_eq!(answer["type"] == "published", allowed, "{topic}: {answer}");
    }
    let refused = ws.ask(json!({ "type": "subscribe", "topics": ["user.*.>"] })).await;
    assert_eq!(refused["error"]["code"], "INSUFFICIENT_SCOPE");
    for sub in [json!("*"), json!(">"), json!("ada.x"), json!("a b"), json!(""), json!(null)] {
        said["sub"] = sub;
        publish(&app, &pair.sign("k", &said)).await.refused(401, "INVALID_TOKEN");
    }
    ws.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_key_set_is_fetched_seldom_and_once_for_all() {
    let app = TestApp::start_with(&[HERE]).await;
    let tenant = app.tenant().await;
    let (one, two) = (Pair::ed25519(), Pair::p256());
    let server = KeyServer::start(&[one.jwk("one")]).await;
    make(&app, &tenant, &json!({ "jwks_url": server.url })).await;
    assert_eq!(server.fetches(), 0, "not before a token needs it");
    let token = one.sign("one", &claims(&tenant));
    let answers = futures::future::join_all((0..20).map(|_| publish(&app, &token))).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    // Unknown names within the interval: neither a fetch nor a wait.
    server.list(&[one.jwk("one"), two.jwk("two")]);
    let begun = Instant::now();
    for n in 0..50 {
        let token = two.sign(&format!("name-{n}"), &claims(&tenant));
        publish(&app, &token).await.refused(401, "INVALID_TOKEN");
    }
    publish(&app, &two.sign("two", &claims(&tenant))).await.refused(401, "INVALID_TOKEN");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(server.fetches(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_key_set_that_cannot_be_fetched_is_told_apart_from_a_bad_token() {
    let app = TestApp::start_with(&BRISK).await;
    let tenant = app.tenant().await;
    let pair = Pair::ed25519();
    let server = KeyServer::start(&[pair.jwk("k")]).await;
    server.fail();
    make(&app, &tenant, &json!({ "jwks_url": server.url })).await;
    let token = pair.sign("k", &claims(&tenant));
    let answer = publish(&app, &token).await;
    answer.refused(503, "KEY_SET_UNAVAILABLE");
    assert!(answer.header("retry-after").is_some());
    server.list(&[pair.jwk("k")]);
    until("the key set comes back", async || (publish(&app, &token).await.status == 201).then_some(())).await;
    // Once it is there, an outage of the provider changes nothing.
    server.fail();
    let fetches = server.fetches();
    until("it is fetched again", async || (server.fetches() > fetches + 1).then_some(())).await;
    publish(&app, &token).await.expect(201);
    app.finish().await;
}

/// Networks that are not public are reached only where the operator says so, also by name.
#[tokio::test]
async fn key_sets_are_not_fetched_from_inside() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let pair = Pair::ed25519();
    let server = KeyServer::start(&[pair.jwk("k")]).await;
    let api = app.api(&tenant.api_key);
    api.post(PATH, &json!({ "jwks_url": server.url })).await.refused(400, "INVALID_REQUEST");
    let named = server.url.replace("http://127.0.0.1", "https://localhost");
    make(&app, &tenant, &json!({ "jwks_url": named })).await;
    publish(&app, &pair.sign("k", &claims(&tenant))).await.refused(503, "KEY_SET_UNAVAILABLE");
    assert_eq!(server.fetches(), 0);
    app.finish().await;
}

async fn a_lost_key_ends_sessions(app: TestApp) {
    let tenant = app.tenant().await;
    let last = app.nodes.len() - 1;
    let (old, new) = (Pair::ed25519(), Pair::ed25519());
    let server = KeyServer::start(&[old.jwk("old"), new.jwk("new")]).await;
    let made = make(&app, &tenant, &json!({ "jwks_url": server.url })).await;
    let mut victim = app.ws_at(last, &old.sign("old", &claims(&tenant))).await;
    let mut bystander = app.ws_at(last, &new.sign("new", &claims(&tenant))).await;
    // A ticket stands for a token, and what ends the one ends the other.
    let ticket = app.api(&old.sign("old", &claims(&tenant))).ticket().await;
    let mut by_ticket = weir_testkit::Ws::attempt(&app.ws_url(last, &format!("?ticket={ticket}")), &[])
        .await
        .expect("a ticket");
    by_ticket.expect("connected").await;
    for ws in [&mut victim, &mut bystander, &mut by_ticket] {
        ws.subscribe(&["a.b"], None).await;
    }
    // The provider withdraws a key, also under another name.
    server.list(&[new.jwk("renamed")]);
    for mut ws in [victim, by_ticket] {
        let (_, ended) = ws.end().await;
        assert_eq!((ended.code, ended.reason.as_str()), (Some(4401), "INVALID_TOKEN"));
    }
    app.api(&tenant.api_key).publish("a.b", &json!(1)).await;
    assert_eq!(bystander.event().await["payload"], 1);
    // The set itself is revoked.
    let revoked = revoke(&app, &tenant, &made["id"]).await;
    assert_eq!(revoked["is_active"], false);
    let (_, ended) = bystander.end().await;
    assert_eq!((ended.code, ended.reason.as_str()), (Some(4401), "INVALID_TOKEN"));
    publish(&app, &new.sign("renamed", &claims(&tenant))).await.refused(401, "INVALID_TOKEN");
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_no_longer_listed_ends_its_sessions() {
    a_lost_key_ends_sessions(TestApp::start_with(&BRISK).await).await;
}

#[tokio::test]
async fn a_key_that_is_no_longer_listed_ends_its_sessions_on_every_node() {
    a_lost_key_ends_sessions(TestApp::cluster_with(2, Replicas::One, &BRISK).await).await;
}

#[tokio::test]
async fn revoking_a_signing_key_ends_its_sessions_and_no_others() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let pair = Pair::p256();
    let made = make(&app, &tenant, &json!({ "public_key": pair.pem })).await;
    let token = pair.sign(made["id"].as_str().expect("an id"), &claims(&tenant));
    let mut victim = app.ws(&token).await;
    let mut stream = app.sse(&token, "a.b", None).await;
    let mut bystander = app.ws(&tenant.sign(&claims(&tenant))).await;
    bystander.subscribe(&["a.b"], None).await;
    revoke(&app, &tenant, &made["id"]).await;
    let (_, ended) = victim.end().await;
    assert_eq!((ended.code, ended.reason.as_str()), (Some(4401), "INVALID_TOKEN"));
    let last = stream.data().await;
    assert_eq!(last.json().expect("JSON")["error"]["code"], "INVALID_TOKEN");
    publish(&app, &token).await.refused(401, "INVALID_TOKEN");
    app.api(&tenant.api_key).publish("a.b", &json!(1)).await;
    assert_eq!(bystander.event().await["payload"], 1);
    bystander.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_connection_is_asked_for_a_new_token_before_it_ends() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_JWT_LEEWAY", "8s")]).await;
    let tenant = app.tenant().await;
    let short = |seconds: u64| {
        let mut claims = claims(&tenant);
        claims["exp"] = json!(now() + seconds);
        tenant.sign(&claims)
    };
    let mut kept = app.ws(&short(4)).await;
    let mut left = app.ws(&short(4)).await;
    let mut stream = app.sse(&short(4), "a.b", None).await;
    for ws in [&mut kept, &mut left] {
        ws.subscribe(&["a.b"], None).await;
        let asked = ws.expect("error").await;
        assert_eq!(asked["error"]["code"], "EXPIRED_TOKEN");
        let within = asked["error"]["details"]["refresh_within_ms"].as_u64().expect("a time");
        assert!((1..=8_000).contains(&within), "{asked}");
        // Still live, and still receiving.
        assert_eq!(ws.ask(json!({ "type": "ping" })).await["type"], "pong");
    }
    let answer = kept.ask(json!({ "type": "refresh", "token": short(60) })).await;
    assert_eq!(answer["type"], "refreshed", "{answer}");
    let (frames, ended) = left.end().await;
    assert_eq!((ended.code, ended.reason.as_str()), (Some(4407), "EXPIRED_TOKEN"));
    assert_eq!(frames.last().map(|frame| frame["error"]["code"].clone()), Some(json!("EXPIRED_TOKEN")));
    let last = stream.data().await;
    assert_eq!(
        (last.field("event"), last.json().expect("JSON")["error"]["code"].as_str()),
        (Some("error"), Some("EXPIRED_TOKEN"))
    );
    assert!(
        last.json().expect("JSON")["error"]["details"].get("refresh_within_ms").is_none(),
        "streams cannot refresh"
    );
    app.api(&tenant.api_key).publish("a.b", &json!(1)).await;
    assert_eq!(kept.event().await["payload"], 1);
    kept.close().await;
    app.finish().await;
}
