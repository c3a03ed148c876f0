//! `/v1/topics/{topic}/schema` and `/v1/schemas`, and what they do to publishing on every path.

use crate::members;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Answer, Api, Replicas, Tenant, TestApp};

/// Orders with a total.
fn order() -> Value {
    json!({ "type": "object", "properties": { "total": { "type": "integer" } }, "required": ["total"] })
}

fn path(pattern: &str) -> String {
    format!("/v1/topics/{}/schema", pattern.replace('>', "%3E"))
}

async fn put(api: &Api, pattern: &str, body: &Value) -> Answer {
    Answer::of(api.request(Method::PUT, &path(pattern)).json(body)).await
}

/// Sets a schema, which must be taken; gives the answer's body.
async fn set(app: &TestApp, api: &Api, pattern: &str, schema: &Value) -> Value {
    let set = put(api, pattern, &json!({ "schema": schema })).await.expect(200);
    assert_eq!(enforced(&set), app.nodes.len(), "{set}");
    assert_eq!(set["enforced"]["nodes"], set["enforced"]["of"], "{set}");
    set
}

/// How many nodes a change holds on.
fn enforced(changed: &Value) -> usize {
    usize::try_from(changed["enforced"]["nodes"].as_u64().expect("a number")).expect("few")
}

async fn remove(api: &Api, pattern: &str) -> Answer {
    Answer::of(api.request(Method::DELETE, &path(pattern))).await
}

fn event(topic: &str, payload: &Value) -> Value {
    json!({ "topic": topic, "payload": payload })
}

async fn lives(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("orders.eu", &json!("anything")).await;
    let first = set(&app, &api, "orders.*", &order()).await;
    assert_eq!((&first["pattern"], &first["version"]), (&json!("orders.*"), &json!(1)));
    assert_eq!((&first["schema"], &first["forced"]), (&order(), &json!(false)));
    assert!(first["created_by"].as_str().is_some_and(|by| by.starts_with("key:key_")), "{first}");

    // From the answer on no node takes what does not fit.
    for node in 0..enforced(&first) {
        let api = app.api_at(node, &tenant.api_key);
        let refused = api.post("/v1/events", &event("orders.eu", &json!({ "total": "1" }))).await;
        refused.refused(400, "INVALID_EVENT_PAYLOAD");
        let details = &refused.body["error"]["details"];
        assert_eq!(details["topic"], "orders.eu");
        assert_eq!(details["schema"], json!({ "pattern": "orders.*", "version": 1 }));
        assert_eq!(details["errors"][0]["instance_path"], "/total");
        assert_eq!(details["errors"][0]["schema_path"], "/properties/total/type");
        api.publish("orders.eu", &json!({ "total": 1 })).await;
        api.publish("orders.eu.de", &json!("not selected")).await;
    }

    // The same again is no new version; what says more is one.
    let again = put(&api, "orders.*", &json!({ "schema": order() })).await.expect(200);
    assert_eq!((&again["version"], again.get("enforced")), (&json!(1), None));
    let mut narrow = order();
    narrow["properties"]["total"]["minimum"] = json!(0);
    assert_eq!(set(&app, &api, "orders.*", &narrow).await["version"], 2);

    // What accepts more is refused, unless it is meant.
    let wide = put(&api, "orders.*", &json!({ "schema": order() })).await;
    wide.refused(409, "CONFLICT");
    let details = &wide.body["error"]["details"];
    assert_eq!(details["version"], 2);
    assert_eq!(details["incompatible"][0]["path"], "/properties/total/minimum");
    let forced = put(&api, "orders.*", &json!({ "schema": order(), "force": true })).await;
    assert_eq!(forced.header("etag"), Some("\"3\""));
    let forced = forced.expect(200);
    assert_eq!((&forced["version"], &forced["forced"]), (&json!(3), &json!(true)));

    // Only what is still in force is replaced, where the caller says so.
    let stale = api.request(Method::PUT, &path("orders.*")).header("if-match", "\"2\"");
    Answer::of(stale.json(&json!({ "schema": true, "force": true }))).await.refused(409, "CONFLICT");
    let second = api.request(Method::PUT, &path("orders.*")).header("if-none-match", "*");
    Answer::of(second.json(&json!({ "schema": true, "force": true }))).await.refused(409, "CONFLICT");

    let read = api.get(&path("orders.*"), &[]).await;
    assert_eq!(read.header("etag"), Some("\"3\""));
    assert_eq!(read.expect(200)["schema"], order());
    assert_eq!(api.get(&path("orders.*"), &[("version", "2")]).await.expect(200)["schema"], narrow);
    api.get(&path("orders.*"), &[("version", "9")]).await.refused(404, "NOT_FOUND");
    api.get(&path("orders.eu"), &[]).await.refused(404, "NOT_FOUND");

    let removed = remove(&api, "orders.*").await.expect(200);
    assert_eq!(removed["version"], json!(3));
    remove(&api, "orders.*").await.refused(404, "NOT_FOUND");
    for node in 0..enforced(&removed) {
        app.api_at(node, &tenant.api_key).publish("orders.eu", &json!("anything")).await;
    }
    let versions = format!("{}/versions", path("orders.*"));
    let page = api.get(&versions, &[("limit", "2")]).await.expect(200);
    assert_eq!((&page["data"][1]["version"], &page["has_more"]), (&json!(2), &json!(true)));
    let next = page["next_cursor"].as_str().expect("a cursor");
    let page = api.get(&versions, &[("cursor", next)]).await.expect(200);
    assert_eq!((&page["data"][0]["version"], &page["has_more"]), (&json!(3), &json!(false)));
    assert_eq!(set(&app, &api, "orders.*", &json!(true)).await["version"], 4);
    app.finish().await;
}

#[tokio::test]
async fn a_schema_is_set_enforced_changed_and_removed() {
    lives(TestApp::start().await).await;
}

#[tokio::test]
async fn a_schema_is_set_enforced_changed_and_removed_on_a_cluster() {
    lives(TestApp::cluster(2).await).await;
}

/// Batches, CloudEvents, WebSockets that were open before, client tokens: all of them are held to it.
async fn every_path(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let last = app.nodes.len() - 1;
    let mut ws = app.ws_at(last, &tenant.api_key).await;
    let mut device = app.ws_at(last, &tenant.token(&[], &["orders.>"])).await;
    let publish = |payload: Value| json!({ "type": "publish", "topic": "orders.eu", "payload": payload });
    assert_eq!(ws.ask(publish(json!("before"))).await["type"], "published");
    set(&app, &api, "orders.>", &order()).await;
    set(&app, &api, "orders.eu", &json!({ "maxProperties": 1 })).await;

    for ws in [&mut ws, &mut device] {
        let refused = ws.ask(publish(json!({ "total": "secret" }))).await;
        assert_eq!(refused["error"]["code"], "INVALID_EVENT_PAYLOAD");
        assert_eq!(refused["error"]["details"]["errors"][0]["instance_path"], "/total");
        assert!(!refused.to_string().contains("secret"), "{refused}");
        // Both schemas select the topic, and both hold.
        let refused = ws.ask(publish(json!({ "total": 1, "more": 2 }))).await;
        assert_eq!(refused["error"]["details"]["schema"]["pattern"], "orders.eu");
        assert_eq!(ws.ask(publish(json!({ "total": 1 }))).await["type"], "published");
    }

    let events =
        [json!({ "total": 1 }), json!({}), json!({ "total": 2 })].map(|payload| event("orders.us", &payload));
    let batch = api.post("/v1/events/batch", &json!({ "events": events })).await.expect(207);
    assert!(batch["results"][0]["sequence"].is_u64() && batch["results"][2]["sequence"].is_u64(), "{batch}");
    assert_eq!(batch["results"][1]["error"]["code"], "INVALID_EVENT_PAYLOAD");
    assert_eq!(batch["results"][1]["error"]["details"]["errors"][0]["schema_path"], "/required");

    let cloud = |data: Value| {
        let body = json!({ "specversion": "1.0", "id": data.to_string(), "source": "/s", "type": "t", "subject": "orders.us", "data": data });
        api.request(Method::POST, "/v1/events")
            .header("content-type", "application/cloudevents+json")
            .body(body.to_string())
    };
    Answer::of(cloud(json!({ "total": 1.5 }))).await.refused(400, "INVALID_EVENT_PAYLOAD");
    Answer::of(cloud(json!({ "total": 3 }))).await.expect(201);
    ws.close().await;
    device.close().await;
    app.finish().await;
}

#[tokio::test]
async fn every_way_to_publish_is_held_to_it() {
    every_path(TestApp::start().await).await;
}

#[tokio::test]
async fn every_way_to_publish_is_held_to_it_on_a_cluster() {
    every_path(TestApp::cluster(2).await).await;
}

/// A second project of the tenant, with a key of its own.
async fn second_project(api: &Api, tenant: &Tenant) -> (String, String) {
    let projects = format!("/v1/admin/tenants/{}/projects", tenant.tenant_id);
    let project = api.post(&projects, &json!({ "name": "second" })).await.expect(201);
    let id = project["id"].as_str().expect("an id").to_owned();
    let wish = json!({ "project_id": id, "name": "k", "scopes": Scope::ALL.map(Scope::as_str) });
    let key = api.post("/v1/admin/keys", &wish).await.expect(201);
    (id, key["api_key"].as_str().expect("a key").to_owned())
}

#[tokio::test]
async fn schemas_of_others_neither_hold_nor_show() {
    let app = TestApp::start().await;
    let (mine, theirs) = (app.tenant().await, app.tenant().await);
    let (me, them) = (app.api(&mine.api_key), app.api(&theirs.api_key));
    let (second, second_key) = second_project(&me, &mine).await;
    let sibling = app.api(&second_key);
    set(&app, &me, ">", &json!(false)).await;
    me.post("/v1/events", &event("a", &json!(1))).await.refused(400, "INVALID_EVENT_PAYLOAD");
    for other in [&them, &sibling] {
        other.publish("a", &json!(1)).await;
        other.get(&path(">"), &[]).await.refused(404, "NOT_FOUND");
        assert_eq!(other.get("/v1/schemas", &[]).await.expect(200)["data"], json!([]));
        remove(other, ">").await.refused(404, "NOT_FOUND");
    }
    // A key reaches its tenant's other projects by name, and nobody else's: they answer as ones that do not exist.
    let named =
        |api: &Api, project: &str| api.request(Method::GET, "/v1/schemas").header("x-weir-project", project);
    let listed = Answer::of(named(&sibling, &mine.project_id)).await.expect(200);
    assert_eq!(listed["data"][0]["pattern"], ">");
    let foreign = Answer::of(named(&them, &second)).await;
    foreign.refused(404, "NOT_FOUND");
    let missing = Answer::of(named(&them, "prj_0190f5d2a6b07c3e8f4b1d2c3a495867")).await;
    assert_eq!(foreign.body["error"]["message"], missing.body["error"]["message"]);
    Answer::of(named(&me, "second")).await.refused(400, "INVALID_REQUEST");
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_taken_changes_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let doubled = (0..40).fold(json!({ "n40": {} }), |mut defs, n| {
        let next = json!({ "$ref": format!("#/$defs/n{}", n + 1) });
        defs[format!("n{n}")] = json!({ "anyOf": [next, next] });
        defs
    });
    for (schema, words) in [
        (json!({ "$ref": "http://127.0.0.1:1/schema" }), "leads out of the document"),
        (json!({ "$ref": "#/$defs/n0", "$defs": doubled }), "multiply"),
        (json!({ "pattern": "(a{1000}){1000}" }), "KiB compiled"),
        (json!({ "pattern": "(?<=a)b" }), "look-around"),
        (json!({ "title": "x".repeat(70_000) }), "the limit is 65536"),
        (json!({ "type": "nothing" }), "2020-12"),
        (json!("text"), "must be an object"),
    ] {
        let refused = put(&api, "a", &json!({ "schema": schema })).await;
        refused.refused(400, "INVALID_REQUEST");
        let error = &refused.body["error"];
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{error}");
        assert_eq!(error["details"]["field"], "schema");
    }
    put(&api, "a", &json!({ "force": true })).await.refused(400, "INVALID_REQUEST");
    put(&api, "a..b", &json!({ "schema": true })).await.refused(400, "INVALID_TOPIC");
    for (scopes, read) in
        [(&[Scope::AdminRead][..], 404), (&[Scope::EventsPublish, Scope::EventsSubscribe], 403)]
    {
        let key = app.api(&app.key(&tenant, scopes).await.api_key);
        put(&key, "a", &json!({ "schema": true })).await.refused(403, "INSUFFICIENT_SCOPE");
        remove(&key, "a").await.refused(403, "INSUFFICIENT_SCOPE");
        assert_eq!(key.get(&path("a"), &[]).await.status, read);
    }
    Answer::of(app.nodes[0].api().request(Method::GET, "/v1/schemas")).await.refused(401, "UNAUTHENTICATED");
    assert_eq!(api.get("/v1/schemas", &[]).await.expect(200)["data"], json!([]));
    api.publish("a", &json!({ "any": "thing" })).await;

    // Room for a hundred.
    let sets = (0..100).map(|n| {
        let api = api.clone();
        async move { put(&api, &format!("t{n}"), &json!({ "schema": true })).await.expect(200) }
    });
    join_all(sets).await;
    put(&api, "one.more", &json!({ "schema": true })).await.refused(429, "PROJECT_LIMIT_EXCEEDED");
    put(&api, "t7", &json!({ "schema": { "type": "object" } })).await.expect(200);
    let page = api.get("/v1/schemas", &[("limit", "60")]).await.expect(200);
    assert_eq!((page["data"].as_array().map(Vec::len), &page["has_more"]), (Some(60), &json!(true)));
    let rest = api.get("/v1/schemas", &[("cursor", page["next_cursor"].as_str().expect("a cursor"))]).await;
    assert_eq!(rest.expect(200)["data"].as_array().map(Vec::len), Some(40));
    app.finish().await;
}

/// Two nodes are told different things about the same topic at once: each is told its own version, and none is lost.
#[tokio::test]
async fn two_at_once_get_two_versions() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    let sets = (0..8).map(|n| {
        let api = app.api_at(n, &tenant.api_key);
        async move { put(&api, "a", &json!({ "schema": { "title": n.to_string() } })).await.expect(200) }
    });
    let mut versions: Vec<_> = join_all(sets).await.iter().map(|set| set["version"].as_u64()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).map(Some).collect::<Vec<_>>());
    let kept = app.api(&tenant.api_key).get(&format!("{}/versions", path("a")), &[]).await.expect(200);
    let titles: std::collections::BTreeSet<_> =
        kept["data"].as_array().into_iter().flatten().map(|one| one["schema"]["title"].to_string()).collect();
    assert_eq!(titles.len(), 8, "{kept}");
    app.finish().await;
}

/// A schema that takes about half a mebibyte compiled.
fn large(kind: &str) -> Value {
    let members: serde_json::Map<_, _> =
        (0..500).map(|n| (format!("m{n}"), json!({ "type": kind }))).collect();
    json!({ "properties": members, "required": ["m0"] })
}

/// What a node's room for schemas takes now, and how often some made room for others.
async fn cache(app: &TestApp) -> (f64, f64) {
    let metrics = app.nodes[0].metrics().await;
    let of = |name| metrics.sum(name, &[]).expect("a value");
    (of("weir_schema_cache_bytes"), of("weir_schema_cache_evictions_total"))
}

/// More schemas than there is room for: they make room for each other, and each holds whenever its project publishes.
async fn make_room(app: TestApp) {
    let (fits, fits_not) = (json!({ "m0": 1 }), json!({ "m0": "1" }));
    let mut tenants = Vec::new();
    for _ in 0..6 {
        let tenant = app.tenant().await;
        set(&app, &app.api(&tenant.api_key), "made.>", &large("integer")).await;
        tenants.push(tenant);
    }
    let one = large("integer").to_string().len() as f64;
    for _ in 0..3 {
        for tenant in &tenants {
            for node in 0..app.nodes.len() {
                let api = app.api_at(node, &tenant.api_key);
                api.publish("made.rest", &fits).await;
                let refused = api.post("/v1/events", &event("made.rest", &fits_not)).await;
                refused.refused(400, "INVALID_EVENT_PAYLOAD");
                api.publish("free", &fits_not).await;
            }
            let (bytes, _) = cache(&app).await;
            assert!(bytes >= one && bytes <= f64::from(2 << 20), "{bytes} bytes where 1 MiB has room");
        }
    }
    let (_, evicted) = cache(&app).await;
    assert!(evicted >= 12.0, "{evicted} times room was made");

    // Frames that come while a schema is compiled again keep their order, and are judged one by one.
    let first = &tenants[0];
    let mut ws = app.ws(&first.api_key).await;
    for round in 0..3 {
        for tenant in &tenants[1..] {
            app.api_at(0, &tenant.api_key).publish("made.rest", &fits).await;
        }
        for n in 0..30 {
            let payload = if n % 10 == 9 { &fits_not } else { &fits };
            let id = format!("{round}-{n}");
            ws.send(&json!({ "type": "publish", "id": id, "topic": "made.ws", "payload": payload })).await;
        }
        let mut sequences = Vec::new();
        for _ in 0..30 {
            let frame = ws.next().await.expect("an answer");
            match frame["sequence"].as_u64() {
                Some(sequence) => {
                    let id = members::text(&frame["id"]);
                    let n: usize = id.split_once('-').expect("two parts").1.parse().expect("a number");
                    sequences.push((n, sequence));
                }
                None => assert_eq!(frame["error"]["code"], "INVALID_EVENT_PAYLOAD", "{frame}"),
            }
        }
        assert_eq!(sequences.len(), 27);
        sequences.sort_unstable();
        assert!(sequences.windows(2).all(|pair| pair[0].1 < pair[1].1), "{sequences:?}");
    }
    ws.close().await;

    // A change holds from its answer on, also where the schema is not in memory.
    for tenant in &tenants[1..] {
        app.api(&tenant.api_key).publish("made.rest", &fits).await;
    }
    let api = app.api(&first.api_key);
    let forced = json!({ "schema": large("string"), "force": true });
    put(&api, "made.>", &forced).await.expect(200);
    for node in 0..app.nodes.len() {
        let api = app.api_at(node, &first.api_key);
        api.post("/v1/events", &event("made.rest", &fits)).await.refused(400, "INVALID_EVENT_PAYLOAD");
        api.publish("made.rest", &fits_not).await;
    }
    remove(&api, "made.>").await.expect(200);
    api.publish("made.rest", &json!(1)).await;
    app.finish().await;
}

const SMALL_CACHE: [(&str, &str); 1] = [("WEIR_LIMITS_SCHEMA_CACHE_BYTES", "1MiB")];

#[tokio::test(flavor = "multi_thread")]
async fn schemas_make_room_for_each_other_and_always_hold() {
    make_room(TestApp::start_with(&SMALL_CACHE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_make_room_for_each_other_and_always_hold_on_a_cluster() {
    make_room(TestApp::cluster_with(2, Replicas::One, &SMALL_CACHE).await).await;
}
