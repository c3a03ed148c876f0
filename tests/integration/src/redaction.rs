//! Secrets are in no log line at any level, in no span, in no metric and in no error: marked ones go through every path,
//! and are then looked for.

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use weir_testkit::{Answer, Behaviour, Collector, Graphql, Receiver, Replicas, TestApp, Ws, now, until};

/// The secrets that were sent, by where they went, and every answer that was given to one.
#[derive(Default)]
struct Canaries {
    sent: Mutex<BTreeMap<&'static str, String>>,
    answers: Mutex<String>,
}

impl Canaries {
    /// A secret that is found if it is shown anywhere.
    fn make(&self, path: &'static str) -> String {
        let secret = format!("canary{:016x}", rand::random::<u64>());
        self.sent.lock().expect("no panic").insert(path, secret.clone());
        secret
    }

    fn take(&self, path: &'static str, secret: &str) {
        self.sent.lock().expect("no panic").insert(path, secret.to_owned());
    }

    fn heard(&self, answer: &str) {
        self.answers.lock().expect("no panic").push_str(answer);
    }

    /// Looks for all of them.
    fn in_none_of(&self, places: &[(&str, String)]) {
        let answers = ("the answers", self.answers.lock().expect("no panic").clone());
        for (path, secret) in &*self.sent.lock().expect("no panic") {
            for (place, text) in places.iter().chain([&answers]) {
                let found = text.find(secret.as_str());
                let around = found.map(|at| {
                    let line = text[..at].rfind('\n').map_or(0, |line| line + 1);
                    text[line..].lines().next().unwrap_or_default().to_owned()
                });
                assert_eq!(around, None, "the secret of `{path}` is shown in {place}");
            }
        }
    }
}

/// Everything that a server is told at the start, with secrets in it.
fn settings(canaries: &Canaries) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("WEIR_TELEMETRY_LOG_LEVEL", "trace".into()),
        pair(
            "WEIR_TELEMETRY_OTLP_HEADERS",
            format!("authorization=Bearer%20{}", canaries.make("OTLP headers")),
        ),
        pair("WEIR_STRIPE_SECRET_KEY", format!("sk_test_{}", canaries.make("Stripe's key"))),
        pair("WEIR_STRIPE_WEBHOOK_SECRETS", format!("whsec_{}", canaries.make("Stripe's webhook secret"))),
        pair("WEIR_STRIPE_PRICE", "price_1".into()),
        pair("WEIR_PUBLIC_URL", "https://weir.test".into()),
        pair("WEIR_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8".into()),
        pair("WEIR_WEBHOOKS_RETRIES", "100ms".into()),
        pair(
            "WEIR_ALERTS_WEBHOOK_SECRET",
            format!("whsec_{}", canaries.make("the secret of the alerts' webhook").repeat(2)),
        ),
        pair("WEIR_ALERTS_WEBHOOK_URL", "http://127.0.0.1:1".into()),
        // Nobody is there: every call fails, and is told of.
        pair("WEIR_STRIPE_API_BASE", "http://127.0.0.1:1".into()),
        pair("WEIR_OIDC_ISSUER", "https://127.0.0.1:1".into()),
        pair("WEIR_OIDC_CLIENT_ID", "weir".into()),
        pair("WEIR_OIDC_CLIENT_SECRET", canaries.make("the OpenID client's secret")),
        pair("WEIR_OIDC_REDIRECT_URL", "https://localhost/back".into()),
    ]
}

#[tokio::test]
async fn secrets_are_shown_nowhere_embedded() {
    let (canaries, collector) = (Canaries::default(), Collector::start());
    let settings = [collector.settings(), settings(&canaries)].concat();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    shown_nowhere(&canaries, &collector, TestApp::start_with(&settings).await).await;
}

#[tokio::test]
async fn secrets_are_shown_nowhere_on_a_cluster() {
    let (canaries, collector) = (Canaries::default(), Collector::start());
    let settings = [collector.settings(), settings(&canaries)].concat();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    shown_nowhere(&canaries, &collector, TestApp::cluster_with(1, Replicas::One, &settings).await).await;
}

async fn shown_nowhere(canaries: &Canaries, collector: &Collector, app: TestApp) {
    let tenant = app.tenant().await;
    let secret = |key: &str| key.rsplit('_').next().expect("a secret").to_owned();
    canaries.take("the API key", &secret(&tenant.api_key));
    canaries.take("the signing secret", &tenant.signing_secret);
    over_http(canaries, &app, &tenant).await;
    over_sockets(canaries, &app, &tenant).await;
    people(canaries, &app, &tenant).await;
    payloads(canaries, &app, &tenant).await;
    schemas(canaries, &app, &tenant).await;
    webhooks(canaries, &app, &tenant).await;

    // What was said above has arrived when this has.
    let request =
        app.api(&tenant.api_key).request(Method::GET, "/v1/topics").header("x-request-id", "the-last-one");
    Answer::of(request).await.expect(200);
    until("the last span", async || {
        collector.find(|span| span.text("weir.request_id") == "the-last-one").pop()
    })
    .await;
    let (log, spans) = (app.nodes[0].log(), collector.output());
    // These places show what goes through: what is no secret is there.
    assert!(spans.contains("visible.topic"), "{spans}");
    assert!(spans.contains("POST /v1/auth/login") && spans.contains("INSERT INTO"));
    assert!(log.contains("the settings that hold") && log.contains("cannot be"), "{log}");
    canaries.in_none_of(&[
        ("the log", log),
        ("the spans", spans),
        ("the metrics", app.nodes[0].metrics().await.text().to_owned()),
    ]);
    app.finish().await;
}

async fn over_http(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let hear = async |request: reqwest::RequestBuilder, status: u16| {
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        canaries.heard(&answer.body.to_string());
    };
    let api = app.nodes[0].api();
    let get = |path: &str| api.request(Method::GET, path);
    // The key as it is, and keys and tokens that are none, wherever one may stand.
    hear(get("/v1/topics").bearer_auth(&tenant.api_key), 200).await;
    hear(get("/v1/topics").header("x-api-key", &tenant.api_key), 200).await;
    hear(get("/v1/topics").bearer_auth(canaries.make("Authorization")), 401).await;
    hear(get("/v1/topics").header("authorization", format!("Basic {}", canaries.make("Basic"))), 401).await;
    hear(get("/v1/topics").header("x-api-key", canaries.make("X-API-Key")), 401).await;
    let wrong = format!("{}{}", &tenant.api_key[..tenant.api_key.len() - 30], canaries.make("a wrong key"));
    hear(get("/v1/topics").bearer_auth(wrong), 401).await;
    let token = tenant.sign(&json!({"sub": "u", "exp": now() - 3600, "subscribe": ["a"]}));
    canaries.take("an expired token", token.rsplit('.').next().expect("a signature"));
    hear(get("/v1/topics").bearer_auth(&token), 401).await;
    for (name, path) in [("?token=", "/sse?topics=a&token="), ("?ticket=", "/v1/sse?topics=a&ticket=")] {
        hear(get(&format!("{path}{}", canaries.make(name))), 401).await;
    }
    hear(get(&format!("/nowhere?token={}", canaries.make("?token= of nothing"))), 404).await;
    hear(get(&format!("/v1/topics?token={}", canaries.make("?token= where none may stand"))), 401).await;
    // A ticket and a token that are good.
    let ticket = app.api(&tenant.api_key).ticket().await;
    canaries.take("a good ticket", &ticket);
    let opened = Ws::attempt(&app.ws_url(0, &format!("?ticket={ticket}")), &[]).await;
    opened.expect("the ticket is good").close().await;
    let good = tenant.token(&["a"], &[]);
    canaries.take("a good token", good.rsplit('.').next().expect("a signature"));
    let opened = Ws::attempt(&app.ws_url(0, &format!("?token={good}")), &[]).await;
    opened.expect("the token is good").close().await;
    // A secret that a tenant registers, and one that a webhook is signed with.
    let wish = json!({"name": "mine", "algorithm": "HS256", "secret": canaries.make("a registered secret").repeat(2),
        "project_id": tenant.project_id});
    let answer =
        Answer::of(app.api(&tenant.api_key).request(Method::POST, "/v1/admin/signing-keys").json(&wish))
            .await;
    assert!(answer.status < 500, "{answer:?}");
    let signed = format!("t=1,v1={}", canaries.make("a webhook's signature"));
    let request = api.request(Method::POST, "/v1/billing/stripe/webhook").header("stripe-signature", signed);
    let answer =
        Answer::of(request.body(format!(r#"{{"id":"{}"}}"#, canaries.make("a webhook's body")))).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    canaries.heard(&answer.body.to_string());
}

async fn over_sockets(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let open = async || Ws::attempt(&app.ws_url(0, ""), &[]).await.expect("an upgrade");
    for frame in [
        json!({"type": "connect", "token": canaries.make("a connect frame")}),
        json!({"type": "subscribe", "token": canaries.make("a frame too early"), "id": "1", "topics": ["a"]}),
    ] {
        let mut ws = open().await;
        ws.send(&frame).await;
        canaries.heard(&ws.expect("error").await.to_string());
    }
    let mut ws = open().await;
    ws.send(&json!({"type": "connect", "token": tenant.api_key})).await;
    canaries.heard(&ws.expect("connected").await.to_string());
    let broken = format!(r#"{{"type":"publish","payload":"{}"#, canaries.make("a broken frame"));
    ws.send_raw(Message::text(broken)).await;
    canaries.heard(&ws.expect("error").await.to_string());
    ws.send(&json!({"type": "refresh", "id": "r", "token": canaries.make("a refresh frame")})).await;
    canaries.heard(&ws.expect("error").await.to_string());
    ws.close().await;
    let refused = Graphql::attempt(&app.graphql_url(0, ""), &canaries.make("connection_init")).await;
    canaries.heard(&refused.err().expect("the token is none"));
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    let query = "mutation($input: EventInput!) { publishEvent(input: $input) { id } }";
    let payload = json!({"topic": "a..b", "payload": canaries.make("a variable of GraphQL")});
    graphql.begin("1", query, json!({"input": payload})).await;
    canaries.heard(&graphql.expect("next", "1").await.to_string());
    graphql.0.close().await;
}

async fn people(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let api = app.nodes[0].api();
    let post = async |path: &str, body: Value, status: u16| {
        let answer = api.post(path, &body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        answer.body
    };
    let created =
        ["users", "create", "--email", "a@acme.test", "--tenant", &tenant.tenant_id, "--role", "owner"];
    let made = app.run(&created).await;
    assert!(made.status.success(), "{made:?}");
    let invitation = String::from_utf8(made.stdout).expect("text").trim().to_owned();
    canaries.take("an invitation", &invitation);
    let password = canaries.make("a password");
    let accepted =
        post("/v1/auth/accept", json!({"invitation": invitation, "password": password}), 200).await;
    let signed_in = post("/v1/auth/login", json!({"email": "a@acme.test", "password": password}), 200).await;
    for (name, answer) in [("tokens of an invited one", &accepted), ("tokens of a sign-in", &signed_in)] {
        let refresh = answer["refresh_token"].as_str().expect("a token");
        canaries.take(name, refresh);
    }
    let access = signed_in["access_token"].as_str().expect("a token");
    canaries.take("an access token", access.rsplit('.').next().expect("its last part"));
    api.with_key(access).get("/v1/auth/me", &[]).await.expect(200);
    // The provider cannot be reached, with its key.
    let answer = api.with_key(access).post("/v1/billing/checkout", &json!({})).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    canaries.heard(&answer.body.to_string());
    let heard = async |path: &str, body: Value, status: u16| {
        canaries.heard(&post(path, body, status).await.to_string());
    };
    let wrong = canaries.make("a wrong password");
    heard("/v1/auth/login", json!({"email": "a@acme.test", "password": wrong}), 401).await;
    heard(
        "/v1/auth/login",
        json!({"email": "b@acme.test", "password": canaries.make("a stranger's password")}),
        401,
    )
    .await;
    heard(
        "/v1/auth/login",
        json!({"email": 1, "password": canaries.make("a password beside a mistake")}),
        400,
    )
    .await;
    heard("/v1/auth/refresh", json!({"refresh_token": canaries.make("a refresh token")}), 401).await;
    let again = signed_in["refresh_token"].clone();
    let refreshed = post("/v1/auth/refresh", json!({"refresh_token": again}), 200).await;
    canaries.take("a refreshed token", refreshed["refresh_token"].as_str().expect("a token"));
    // Used twice: that is a line in the log.
    heard("/v1/auth/refresh", json!({"refresh_token": again}), 401).await;
    let answer =
        api.post("/v1/auth/oidc/callback", &json!({"state": "s", "code": canaries.make("a code")})).await;
    assert!(answer.status >= 400, "{answer:?}");
    canaries.heard(&answer.body.to_string());
    let answer = api.post("/v1/auth/oidc/start", &json!({})).await;
    canaries.heard(&answer.body.to_string());
}

async fn payloads(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let api = app.api(&tenant.api_key);
    api.publish("visible.topic", &json!(canaries.make("a payload"))).await;
    let schema = json!({"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}});
    let set = api.request(Method::PUT, "/v1/topics/typed/schema").json(&schema);
    let answer = Answer::of(set).await;
    assert!(answer.status < 300, "{answer:?}");
    let misfit = json!({"topic": "typed", "payload": {"n": canaries.make("a payload that does not fit")}});
    canaries.heard(&api.post("/v1/events", &misfit).await.body.to_string());
    let large = format!("{}{}", canaries.make("a payload that is too large"), "x".repeat(300 << 10));
    canaries.heard(&api.post("/v1/events", &json!({"topic": "a", "payload": large})).await.body.to_string());
    let broken =
        format!(r#"{{"topic":"a","payload":{{"x":"{}"}},}}"#, canaries.make("a body that is broken"));
    let request =
        api.request(Method::POST, "/v1/events").header("content-type", "application/json").body(broken);
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    canaries.heard(&answer.body.to_string());
}

/// Schemas are their tenants' own: who publishes is told what does not fit, and nobody else anything.
async fn schemas(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let api = app.api(&tenant.api_key);
    let set = async |schema: Value| {
        let request = api.request(Method::PUT, "/v1/topics/sealed/schema").json(&json!({ "schema": schema }));
        Answer::of(request).await
    };
    let title = canaries.make("a schema's title");
    let word = canaries.make("a word that a schema asks for");
    let good = json!({
        "title": title,
        "type": "object",
        "required": ["n"],
        "properties": {
            "n": {"const": word},
            "m": {"pattern": format!("^{}$", canaries.make("a schema's pattern"))},
        },
    });
    let answer = set(good).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for payload in [json!({}), json!({"n": 1}), json!({"n": "other", "m": "other"}), json!([])] {
        let answer = api.post("/v1/events", &json!({"topic": "sealed", "payload": payload})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        // The publisher is told what was asked of it, and nothing else of the schema or of its own payload.
        assert!(!answer.body.to_string().contains(&title), "{answer:?}");
    }
    for bad in [
        json!({"type": canaries.make("a type of a schema that is none")}),
        json!({"type": "object", "properties": {"n": {"type": "integer", "title": canaries.make("a schema that does not go on")}}}),
        json!({"$ref": format!("https://{}.test/schema", canaries.make("a schema elsewhere"))}),
        json!({"pattern": format!("(((({}", canaries.make("a pattern that is none"))}),
    ] {
        // Its author is told what is wrong with it, in the words of the schema.
        let answer = set(bad).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
}

/// What Weir signs with is told once, to who made it or has it changed; with it are what it sends, and to where.
async fn webhooks(canaries: &Canaries, app: &TestApp, tenant: &weir_testkit::Tenant) {
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let bare = |secret: &Value| {
        let secret = secret.as_str().and_then(|secret| secret.strip_prefix("whsec_"));
        secret.expect("a secret of Standard Webhooks").to_owned()
    };
    let url = format!("{}/{}", receiver.url(), canaries.make("the path of a webhook's URL"));
    let wish = json!({ "url": url, "topics": ["hooked.>"] });
    let made = api.post("/v1/admin/webhooks", &wish).await.expect(201);
    let path = format!("/v1/admin/webhooks/{}", made["id"].as_str().expect("an id"));
    let first = bare(&made["secret"]);
    let rotated = api.post(&format!("{path}/rotate"), &json!({ "grace_seconds": 3600 })).await.expect(201);
    let second = bare(&rotated["secret"]);
    assert_ne!(first, second);
    // Taken once, dead once: refused with words of the endpoint's own.
    api.publish("hooked.taken", &json!(canaries.make("a payload that is sent on"))).await;
    receiver.took("the event", |taken| taken.len() == 1).await;
    let words = canaries.make("what an endpoint answers");
    receiver.always(Behaviour::With(500, "x-words", words));
    api.publish("hooked.dead", &json!(canaries.make("a payload that is dead"))).await;
    until("the message to be dead", async || {
        let list = api.get("/v1/admin/dead-letters", &[]).await.expect(200);
        (list["data"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    receiver.always(Behaviour::Status(204));
    let signed: Vec<String> =
        receiver.came().iter().map(|one| one.headers["webhook-signature"].clone()).collect();
    for signature in signed.iter().flat_map(|all| all.split(' ')) {
        canaries.take("a signature of an outgoing webhook", signature.trim_start_matches("v1,"));
    }
    canaries.heard(&api.get(&format!("{path}/attempts"), &[]).await.expect(200).to_string());
    // Who may look at webhooks and letters is shown where they go and what they are, and never the secret.
    let shown = [
        api.get("/v1/admin/webhooks", &[]).await.expect(200),
        api.get(&path, &[]).await.expect(200),
        api.get("/v1/admin/dead-letters", &[]).await.expect(200),
        api.get("/v1/admin/audit", &[]).await.expect(200),
    ];
    for secret in [&first, &second] {
        assert!(shown.iter().all(|answer| !answer.to_string().contains(secret.as_str())));
        assert_eq!(app.places_with(secret), Vec::<String>::new(), "the secret is kept sealed");
    }
    canaries.take("a webhook's first secret", &first);
    canaries.take("a webhook's second secret", &second);
}

#[tokio::test]
async fn a_password_in_a_url_is_not_shown_when_its_server_is_not_there() {
    let canaries = Canaries::default();
    let app = TestApp::start().await;
    let url = |scheme: &str, name| format!("{scheme}://weir:{}@127.0.0.1:1/weir", canaries.make(name));
    for (command, variable, value) in [
        ("serve", "WEIR_DATABASE_URL", url("postgres", "a database's password")),
        ("doctor", "WEIR_DATABASE_URL", url("postgres", "a database's password, for doctor")),
        ("serve", "WEIR_NATS_URL", url("nats", "a NATS password")),
        ("serve", "WEIR_TELEMETRY_OTLP_HEADERS", canaries.make("headers that cannot be read")),
    ] {
        let settings = [(variable, value.as_str()), ("WEIR_TELEMETRY_LOG_LEVEL", "trace")];
        let output = app.run_with(&[command], &settings).await;
        assert!(!output.status.success(), "{command} {variable}");
        canaries.heard(&format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    canaries.in_none_of(&[]);
    app.finish().await;
}
