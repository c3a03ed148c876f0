//! Signing in at an OpenID provider: a real one, which refuses what providers refuse.

use crate::members;
use serde_json::{Value, json};
use weir_testkit::{Answer, Provider, SentBack, Tenant, TestApp};

/// Begins on the first node and lets a browser sign in; what the last node is then sent.
async fn returned(app: &TestApp, provider: &Provider, person: &Value) -> Value {
    let answer = app.api("").post("/v1/auth/oidc/start", &json!({})).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let started = answer.expect(200);
    assert_eq!(started["expires_in"], 600);
    let url = members::text(&started["authorization_url"]);
    let SentBack { code, state } = provider.browse(&url, person).await.expect("is sent back");
    json!({"flow": started["flow"], "state": state, "code": code})
}

async fn finish(app: &TestApp, returned: &Value) -> Answer {
    app.api_at(app.nodes.len() - 1, "").post("/v1/auth/oidc/callback", returned).await
}

async fn sign_in(app: &TestApp, provider: &Provider, person: &Value) -> Answer {
    let returned = returned(app, provider, person).await;
    finish(app, &returned).await
}

async fn invite(app: &TestApp, owner: &members::Person, tenant: &Tenant, email: &str) -> Value {
    let path = format!("/v1/admin/tenants/{}/members", tenant.tenant_id);
    let wish = json!({"email": email, "role": "developer"});
    app.api(&owner.access).post(&path, &wish).await.expect(201)["invitation_token"].clone()
}

fn ada() -> Value {
    json!({"sub": "ada-1", "email": "Ada@Acme.test", "email_verified": true, "name": "Ada"})
}

#[tokio::test]
async fn somebody_invited_joins_and_signs_in_without_a_password() {
    let provider = Provider::start().await;
    let app = TestApp::cluster_with(2, weir_testkit::Replicas::One, &provider.settings()).await;
    let tenant = app.tenant().await;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;

    // Nobody's identity opens nothing, and somebody else's invitation neither.
    sign_in(&app, &provider, &ada()).await.refused(403, "INSUFFICIENT_SCOPE");
    let others = invite(&app, &owner, &tenant, "eve@acme.test").await;
    let mut wish = returned(&app, &provider, &ada()).await;
    wish["invitation"] = others;
    finish(&app, &wish).await.refused(403, "INSUFFICIENT_SCOPE");
    let invitation = invite(&app, &owner, &tenant, "ada@acme.test").await;
    let unverified = json!({"sub": "ada-1", "email": "ada@acme.test", "email_verified": false});
    let mut wish = returned(&app, &provider, &unverified).await;
    wish["invitation"] = invitation.clone();
    finish(&app, &wish).await.refused(403, "INSUFFICIENT_SCOPE");

    let mut wish = returned(&app, &provider, &ada()).await;
    wish["invitation"] = invitation;
    let joined = finish(&app, &wish).await.expect(200);
    assert_eq!((&joined["role"], &joined["user"]["name"]), (&json!("developer"), &json!("Ada")));
    assert_eq!(joined["user"]["email"], "ada@acme.test");
    let me = app.api(&members::text(&joined["access_token"])).get("/v1/auth/me", &[]).await.expect(200);
    assert_eq!(me["tenant_id"], json!(tenant.tenant_id));
    app.api("")
        .post("/v1/auth/refresh", &json!({"refresh_token": joined["refresh_token"]}))
        .await
        .expect(200);

    // From now on the identity counts, whatever becomes of the address.
    let moved = json!({"sub": "ada-1", "email": "owner@acme.test", "email_verified": true});
    let again = sign_in(&app, &provider, &moved).await.expect(200);
    assert_eq!(again["user"]["id"], joined["user"]["id"]);
    let password = json!({"email": "ada@acme.test", "password": "correct horse battery"});
    app.api("").post("/v1/auth/login", &password).await.refused(401, "UNAUTHENTICATED");
    app.finish().await;
}

#[tokio::test]
async fn a_user_is_linked_by_a_verified_address_and_to_one_identity() {
    let provider = Provider::start().await;
    let app = TestApp::start_with(&provider.settings()).await;
    let tenant = app.tenant().await;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    let identity = |sub: &str, verified: bool| json!({"sub": sub, "email": "owner@acme.test", "email_verified": verified});
    sign_in(&app, &provider, &identity("o-1", false)).await.refused(403, "INSUFFICIENT_SCOPE");
    let linked = sign_in(&app, &provider, &identity("o-1", true)).await.expect(200);
    assert_eq!((&linked["user"]["id"], &linked["role"]), (&json!(owner.id), &json!("owner")));
    // The provider gave the address to somebody else.
    sign_in(&app, &provider, &identity("o-2", true)).await.refused(409, "CONFLICT");
    sign_in(&app, &provider, &identity("o-1", false)).await.expect(200);

    let disabled = app.run(&["users", "disable", "--email", "owner@acme.test"]).await;
    assert!(disabled.status.success(), "{disabled:?}");
    sign_in(&app, &provider, &identity("o-1", true)).await.refused(401, "UNAUTHENTICATED");
    app.finish().await;
}

#[tokio::test]
async fn what_does_not_belong_together_signs_nobody_in() {
    let provider = Provider::start().await;
    let app = TestApp::start_with(&provider.settings()).await;
    let tenant = app.tenant().await;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    let person = json!({"sub": "o-1", "email": "owner@acme.test", "email_verified": true});
    let (mine, other) = (returned(&app, &provider, &person).await, returned(&app, &provider, &person).await);
    // An attacker's code in a victim's browser, and the other way round.
    for (flow, state, code) in [(&mine, &other, &other), (&other, &mine, &other), (&mine, &mine, &other)] {
        let mixed = json!({"flow": flow["flow"], "state": state["state"], "code": code["code"]});
        finish(&app, &mixed).await.refused(401, "INVALID_TOKEN");
    }
    finish(&app, &mine).await.expect(200);
    finish(&app, &mine).await.refused(401, "INVALID_TOKEN");
    for field in ["flow", "state", "code"] {
        let mut bad = returned(&app, &provider, &person).await;
        bad[field] = json!("x");
        finish(&app, &bad).await.refused(401, "INVALID_TOKEN");
    }

    // Tokens that are meant for others, or old.
    for (claim, value) in [
        ("iss", json!("https://other.test")),
        ("aud", json!("other")),
        ("nonce", json!("other")),
        ("exp", json!(1_700_000_000)),
    ] {
        let mut bad = person.clone();
        bad[claim] = value;
        sign_in(&app, &provider, &bad).await.refused(401, "INVALID_TOKEN");
    }

    // Another key under the old name is not believed before the set is fetched again; a provider that is away is said so.
    provider.change_key();
    sign_in(&app, &provider, &person).await.refused(401, "INVALID_TOKEN");
    let late = returned(&app, &provider, &person).await;
    provider.fail(true);
    finish(&app, &late).await.refused(503, "IDENTITY_PROVIDER_UNAVAILABLE");
    app.api("").post("/v1/auth/oidc/start", &json!({})).await.expect(200);

    // Nothing of it is written anywhere.
    for (name, content) in app.data_files() {
        for secret in [&mine["flow"], &mine["code"], &json!(owner.access)] {
            let secret = members::text(secret);
            let leaked = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!leaked, "{name} holds {secret}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn without_a_provider_there_is_none_and_one_that_is_away_is_said_so() {
    let app = TestApp::start().await;
    app.api("").post("/v1/auth/oidc/start", &json!({})).await.refused(404, "NOT_FOUND");
    app.finish().await;
    let provider = Provider::start().await;
    provider.fail(true);
    let app = TestApp::start_with(&provider.settings()).await;
    let start = app.api("").post("/v1/auth/oidc/start", &json!({})).await;
    start.refused(503, "IDENTITY_PROVIDER_UNAVAILABLE");
    assert!(start.header("retry-after").is_some());
    provider.fail(false);
    sign_in(&app, &provider, &ada()).await.refused(403, "INSUFFICIENT_SCOPE");
    app.finish().await;
}
