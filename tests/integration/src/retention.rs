//! What is too old or too much goes, what is deleted is erased, and everybody who misses something is told.

use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use weir_testkit::{Answer, Behaviour, Receiver, Replicas, Sse, Tenant, TestApp, until, until_within};

/// Retention looks often; what is deleted goes as soon as nobody can publish any more.
const SOON: [(&str, &str); 5] = [
    ("WEIR_RETENTION_INTERVAL", "200ms"),
    ("WEIR_RETENTION_ERASE_AFTER", "6s"),
    ("WEIR_RETENTION_SHRED_INTERVAL", "0s"),
    ("WEIR_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8"),
    ("WEIR_WEBHOOKS_RETRIES", "100ms"),
];
/// Erasing waits for that time, and rewrites files.
const LONG: Duration = Duration::from_secs(180);

async fn embedded() -> TestApp {
    TestApp::start_with(&SOON).await
}

async fn cluster() -> TestApp {
    TestApp::cluster_with(2, Replicas::One, &SOON).await
}

async fn storage(app: &TestApp, tenant: &Tenant) -> Value {
    let path = format!("/v1/admin/tenants/{}/storage", tenant.tenant_id);
    app.api(&tenant.api_key).get(&path, &[]).await.expect(200)
}

async fn limit(app: &TestApp, tenant: &Tenant, limits: Value) -> Answer {
    let path = format!("/v1/admin/projects/{}", tenant.project_id);
    let change = app.api(&tenant.api_key).request(Method::PATCH, &path).json(&json!({"limits": limits}));
    Answer::of(change).await
}

/// Publishes events with a payload of this many letters each; the answers.
async fn publish(app: &TestApp, tenant: &Tenant, count: usize, letters: usize) -> Vec<Value> {
    let mut published = Vec::new();
    for n in 0..count {
        let payload = json!("x".repeat(letters));
        published.push(app.api_at(n, &tenant.api_key).publish("news.a", &payload).await);
    }
    published
}

fn bytes(event: &Value, letters: usize) -> u64 {
    (event["id"].as_str().expect("an id").len() + "news.a".len() + letters + 2) as u64
}

/// Over every transport a reader that comes too late is told what it missed, and gets the rest.
async fn too_late_is_told_everywhere(app: TestApp) {
    let (tenant, quiet) = (app.tenant().await, app.tenant().await);
    let kept = publish(&app, &quiet, 3, 5).await;
    let published = publish(&app, &tenant, 20, 100).await;
    until("everything to be counted", async || {
        let storage = storage(&app, &tenant).await;
        (storage["total"]["events"] == 20 && storage["total"]["oldest_event_at"].is_string()).then_some(())
    })
    .await;
    let before = storage(&app, &tenant).await;
    let one = bytes(&published[0], 100);
    assert_eq!(before["total"]["bytes"], 20 * one);
    assert_eq!(before["total"]["oldest_event_at"], published[0]["published_at"]);
    assert_eq!(before["data"][0]["project_id"], tenant.project_id);
    assert_eq!((&before["data"][0]["events"], &before["has_more"]), (&json!(20), &json!(false)));

    // Changed at runtime, by the tenant itself: room for five events and a bit.
    limit(&app, &tenant, json!({"retention_bytes": 5 * one + 7})).await.expect(200);
    let after = until("what is too much to go", async || {
        let storage = storage(&app, &tenant).await;
        (storage["total"]["events"] == 5).then_some(storage)
    })
    .await;
    assert_eq!(
        (&after["total"]["bytes"], &after["data"][0]["retention_bytes"]),
        (&json!(5 * one), &json!(5 * one + 7))
    );
    let rest = &published[15..];
    let sequences: Vec<&Value> = rest.iter().map(|event| &event["sequence"]).collect();
    until("the oldest to be known", async || {
        let storage = storage(&app, &tenant).await;
        (storage["total"]["oldest_event_at"] == rest[0]["published_at"]).then_some(())
    })
    .await;
    // A floor is written down just before the log is told of it.
    until("the log to let go", async || {
        let query = [("topics", ">"), ("from_sequence", "1")];
        let page = app.api(&tenant.api_key).get("/v1/events", &query).await.expect(200);
        (page["gap"]["to"] == published[14]["sequence"]).then_some(())
    })
    .await;

    let cursor = published[3]["cursor"].as_str().expect("a cursor");
    let gap = |gap: &Value| {
        assert_eq!(gap["reason"], "expired", "{gap}");
        assert_eq!(gap["to"], published[14]["sequence"], "{gap}");
        assert_eq!(gap["from"].as_u64(), published[3]["sequence"].as_u64().map(|n| n + 1), "{gap}");
    };
    let page =
        app.api(&tenant.api_key).get("/v1/events", &[("topics", ">"), ("after", cursor)]).await.expect(200);
    gap(&page["gap"]);
    let data = page["data"].as_array().expect("data");
    assert_eq!(data.iter().map(|event| &event["sequence"]).collect::<Vec<_>>(), sequences);

    let mut ws = app.ws(&tenant.api_key).await;
    let subscribed = ws.subscribe(&[">"], Some(cursor)).await;
    assert_eq!(subscribed["recovered"], false, "{subscribed}");
    gap(&ws.expect("gap").await);
    for sequence in &sequences {
        assert_eq!(&&ws.event().await["sequence"], sequence);
    }
    // Further subscriptions of the connection are answered at once.
    assert_eq!(ws.subscribe(&["other"], None).await["type"], "subscribed");
    ws.close().await;

    let request =
        app.api(&tenant.api_key).request(Method::GET, "/sse").query(&[("topics", ">"), ("after", cursor)]);
    let mut stream = Sse::open(request).await;
    let block = loop {
        let block = stream.next().await.expect("the stream goes on");
        if block.field("event") == Some("gap") {
            break block;
        }
        assert!(!block.is_message(), "{block:?} before the gap");
    };
    gap(&block.json().expect("JSON"));
    assert_eq!(&&stream.event().await["sequence"], &sequences[0]);
    drop(stream);

    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    let query = "subscription($after: String) { eventStream(topics: [\">\"], after: $after) {
        __typename ... on EventMessage { sequence } ... on Gap { reason from to } } }";
    graphql.begin("1", query, json!({"after": cursor})).await;
    let item = graphql.item("1").await;
    assert_eq!(item["__typename"], "Gap", "{item}");
    gap(
        &json!({"reason": item["reason"].as_str().map(str::to_lowercase), "from": item["from"], "to": item["to"]}),
    );
    assert_eq!(&&graphql.item("1").await["sequence"], &sequences[0]);
    graphql.complete("1").await;
    let query =
        json!({"query": "{ storage { events bytes projects { edges { node { project_id events } } } } }"});
    let told = app.api(&tenant.api_key).post("/graphql", &query).await.expect(200);
    assert_eq!(told["data"]["storage"]["events"], 5, "{told}");
    assert_eq!(told["data"]["storage"]["projects"]["edges"][0]["node"]["project_id"], tenant.project_id);
    drop(graphql);

    // Nobody else lost anything.
    let all = app.api(&quiet.api_key).replay(">", None).await;
    assert_eq!(all.len(), kept.len());
    assert_eq!(storage(&app, &quiet).await["total"]["events"], 3);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_late_is_told_everywhere_embedded() {
    too_late_is_told_everywhere(embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_late_is_told_everywhere_on_a_cluster() {
    too_late_is_told_everywhere(cluster().await).await;
}

/// A quiet project on a shared log is told no gap that is none, however much of its neighbours' is let go, and a project
/// of which everything grew too old is told one gap and goes on at once.
async fn a_quiet_project_is_told_no_gap(app: TestApp) {
    let (quiet, loud) = (app.tenant().await, app.tenant().await);
    let first = publish(&app, &quiet, 1, 5).await.remove(0);
    publish(&app, &loud, 30, 50).await;
    until("the neighbour's events to be counted", async || {
        (storage(&app, &loud).await["total"]["events"] == 30).then_some(())
    })
    .await;
    limit(&app, &loud, json!({"retention_seconds": 1})).await.expect(200);
    until("the neighbour's events to go", async || {
        (storage(&app, &loud).await["total"]["events"] == 0).then_some(())
    })
    .await;
    let cursor = first["cursor"].as_str().expect("a cursor");
    let mut ws = app.ws(&quiet.api_key).await;
    assert_eq!(ws.subscribe(&[">"], Some(cursor)).await["recovered"], true);
    assert_eq!(ws.subscribe(&["more"], None).await["type"], "subscribed");
    ws.close().await;
    let page = app
        .api(&quiet.api_key)
        .get("/v1/events", &[("topics", ">"), ("from_sequence", "1")])
        .await
        .expect(200);
    assert_eq!((&page["gap"], page["data"].as_array().map(Vec::len)), (&Value::Null, Some(1)));

    let mut ws = app.ws(&loud.api_key).await;
    ws.send(&json!({"type": "subscribe", "id": "1", "topics": [">"], "from_sequence": 1})).await;
    assert_eq!(ws.expect("subscribed").await["recovered"], false);
    assert_eq!(ws.expect("gap").await["reason"], "expired");
    assert_eq!(ws.subscribe(&["more"], None).await["type"], "subscribed");
    let next = publish(&app, &loud, 1, 5).await.remove(0);
    let event = ws.event().await;
    assert_eq!((&event["sequence"], &event["previous"]), (&next["sequence"], &json!(0)));
    ws.close().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_project_is_told_no_gap_embedded() {
    a_quiet_project_is_told_no_gap(embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_project_is_told_no_gap_on_a_cluster() {
    a_quiet_project_is_told_no_gap(cluster().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_keeps_no_more_than_its_tenant() {
    let app = embedded().await;
    let tenant = app.tenant_with(&["--plan", "free"]).await;
    for (field, most) in [("retention_seconds", 24 * 3600_u64), ("retention_bytes", 1 << 30)] {
        limit(&app, &tenant, json!({field: most + 1})).await.refused(403, "LIMIT_ABOVE_PLAN");
        limit(&app, &tenant, json!({field: -1})).await.refused(400, "INVALID_REQUEST");
        limit(&app, &tenant, json!({field: "much"})).await.refused(400, "INVALID_REQUEST");
        for allowed in [0, 1, most] {
            limit(&app, &tenant, json!({field: allowed})).await.expect(200);
        }
    }
    limit(&app, &tenant, json!({"retention_seconds": 60})).await.expect(200);
    let told = storage(&app, &tenant).await;
    assert_eq!(
        (&told["total"]["retention_seconds"], &told["total"]["retention_bytes"]),
        (&json!(86_400), &json!(1 << 30))
    );
    assert_eq!((&told["data"][0]["retention_seconds"], &told["data"][0]["events"]), (&json!(60), &json!(0)));
    assert_eq!(told["data"][0]["oldest_event_at"], Value::Null);
    let billed = app.api(&tenant.api_key).get("/v1/billing/storage", &[]).await.expect(200);
    assert_eq!(billed, told);
    // The tenant's limit sinks below: the narrower one holds.
    app.set_limits(&tenant, &json!({"retention_seconds": 30})).await;
    assert_eq!(storage(&app, &tenant).await["data"][0]["retention_seconds"], 30);
    app.finish().await;
}

/// Whoever is killed in the middle of it: what remains is the newest that fits, and the numbers are those of what remains.
async fn killed_in_the_middle(mut app: TestApp) {
    let tenant = app.tenant().await;
    let one = bytes(&publish(&app, &tenant, 1, 2000).await[0], 2000);
    limit(&app, &tenant, json!({"retention_bytes": 20 * one})).await.expect(200);
    let mut published = Vec::new();
    for round in 0..6 {
        published.extend(publish(&app, &tenant, 40, 2000).await);
        let node = round % app.nodes.len();
        app.nodes[node].kill();
        app.nodes[node].restart().await;
    }
    until_within("what is too much to go", LONG, async || {
        (storage(&app, &tenant).await["total"]["events"] == 20).then_some(())
    })
    .await;
    assert_eq!(storage(&app, &tenant).await["total"]["bytes"], 20 * one);
    until("the log to let go", async || {
        let query = [("topics", ">"), ("from_sequence", "1"), ("limit", "1000")];
        let page = app.api(&tenant.api_key).get("/v1/events", &query).await.expect(200);
        (page["data"].as_array().map(Vec::len) == Some(20)).then_some(())
    })
    .await;
    let left = app
        .api(&tenant.api_key)
        .get("/v1/events", &[("topics", ">"), ("from_sequence", "1")])
        .await
        .expect(200);
    let sequence = |event: &Value| event["sequence"].as_u64();
    let left: Vec<_> = left["data"].as_array().expect("data").iter().map(sequence).collect();
    let newest: Vec<_> = published[published.len() - 20..].iter().map(sequence).collect();
    assert_eq!(left, newest);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_embedded() {
    killed_in_the_middle(embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_on_a_cluster() {
    killed_in_the_middle(cluster().await).await;
}

/// Has a message with a payload of its own die at an endpoint; the rows of that, where they can be counted.
async fn dead_letters(app: &TestApp, tenant: &Tenant) -> Option<String> {
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    receiver.always(Behaviour::Status(500));
    let wish = json!({ "name": "erased", "url": receiver.url(), "topics": ["letters"] });
    api.post("/v1/admin/webhooks", &wish).await.expect(201);
    api.publish("letters", &json!("Wd4nRf8sLetterCanary")).await;
    until("the message to be dead", async || {
        let list = api.get("/v1/admin/dead-letters", &[]).await.expect(200);
        (list["data"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    app.is_on_postgres().then(|| rows_of_webhooks(app))
}

/// How many webhooks, dead letters and attempts there are.
fn rows_of_webhooks(app: &TestApp) -> String {
    let sql = "SELECT (SELECT count(*) FROM webhooks), (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM webhook_attempts)";
    app.run_sql(sql).trim().to_owned()
}

/// A deleted project leaves no byte behind, in the log or the database; its neighbours, its bills and the audit trail stay.
async fn a_deleted_project_is_erased(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let side = json!({"name": "side"});
    let path = format!("/v1/admin/tenants/{}/projects", tenant.tenant_id);
    let side = app.api(&tenant.api_key).post(&path, &side).await.expect(201);
    let wish =
        json!({"name": "k", "scopes": ["events:publish", "events:subscribe"], "project_id": side["id"]});
    let key = app.api(&tenant.api_key).post("/v1/admin/keys", &wish).await.expect(201);
    let beside = app.api(key["api_key"].as_str().expect("a key"));

    let schema = json!({"schema": {"title": "Wd4nRf8sSchemaCanary"}});
    let set = app.api(&tenant.api_key).request(Method::PUT, "/v1/topics/canary/schema").json(&schema);
    Answer::of(set).await.expect(200);
    let letters = dead_letters(&app, &tenant).await;
    for n in 0..30 {
        app.api_at(n, &tenant.api_key).publish("canary", &json!(format!("Wd4nRf8sCanary{n}"))).await;
        app.api_at(n, &other.api_key).publish("kept", &json!(format!("Hy6cJg1tKept{n}"))).await;
        beside.publish("kept", &json!(format!("Zu8wBeside{n}"))).await;
    }
    let gone = ["Wd4nRf8sCanary", "Wd4nRf8sSchemaCanary", "Wd4nRf8sLetterCanary"];
    for word in gone.into_iter().chain(["Hy6cJg1tKept", "Zu8wBeside"]) {
        assert!(!app.places_with(word).is_empty(), "{word} is nowhere: the search finds nothing at all");
    }
    let path = format!("/v1/admin/projects/{}", tenant.project_id);
    let operator = app.api(&members::operator(&app, "ops@weir.test").await.access);
    let deleted = Answer::of(operator.request(Method::DELETE, &path)).await.expect(200);
    assert_eq!(deleted["deleted"], true);
    until_within("nothing of the project to be left", LONG, async || {
        gone.iter().all(|word| app.places_with(word).is_empty()).then_some(())
    })
    .await;
    // What was tried and what died of it is not among the bytes that are looked for, so it is counted.
    if let Some(count) = letters {
        assert_eq!((count.as_str(), rows_of_webhooks(&app).as_str()), ("1|1|2", "0|0|0"));
    }
    for word in ["Hy6cJg1tKept", "Zu8wBeside"] {
        assert!(!app.places_with(word).is_empty());
    }
    assert_eq!(app.api(&other.api_key).replay(">", None).await.len(), 30);
    assert_eq!(beside.replay(">", None).await.len(), 30);
    let trail = operator
        .get("/v1/admin/audit", &[("tenant_id", &tenant.tenant_id), ("target", &tenant.project_id)])
        .await
        .expect(200);
    let actions: Vec<&str> =
        trail["data"].as_array().expect("data").iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert!(actions.contains(&"project.delete") && actions.contains(&"project.erase"), "{actions:?}");
    let left =
        operator.get(&format!("/v1/admin/tenants/{}/storage", tenant.tenant_id), &[]).await.expect(200);
    assert_eq!((&left["total"]["events"], left["data"].as_array().map(Vec::len)), (&json!(30), Some(1)));
    // A whole tenant goes the same way.
    let path = format!("/v1/admin/tenants/{}", other.tenant_id);
    Answer::of(operator.request(Method::DELETE, &path)).await.expect(200);
    until_within("nothing of the tenant to be left", LONG, async || {
        app.places_with("Hy6cJg1tKept").is_empty().then_some(())
    })
    .await;
    assert_eq!(beside.replay(">", None).await.len(), 30);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_is_erased_embedded() {
    a_deleted_project_is_erased(embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_is_erased_on_a_cluster() {
    a_deleted_project_is_erased(cluster().await).await;
}

/// What cannot be read is let go by hand, while no server has the log: readers are told what is gone, and get the rest.
#[tokio::test]
async fn the_beginning_of_a_stopped_log_is_let_go_by_hand() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut published = Vec::new();
    for n in 0..4 {
        published.push(app.api(&tenant.api_key).publish("a", &json!(n)).await);
    }
    let through = published[1]["sequence"].to_string();
    let trim = async |app: &TestApp, through: &str| {
        let (tenant, project) = (tenant.tenant_id.to_string(), tenant.project_id.to_string());
        let arguments = ["log", "trim", "--tenant", &tenant, "--project", &project, "--through", through];
        let output = app.run(&arguments).await;
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, why) = trim(&app, &through).await;
    assert!(!done && why.contains("cannot be opened"), "a server has it: {why}");
    app.nodes[0].stop().await;
    let (done, why) = trim(&app, "1000").await;
    assert!(!done && why.contains("beyond the last event"), "{why}");
    let (done, why) = trim(&app, &through).await;
    assert!(done, "{why}");
    app.nodes[0].restart().await;
    let cursor = published[0]["cursor"].as_str().expect("a cursor");
    let page =
        app.api(&tenant.api_key).get("/v1/events", &[("topics", ">"), ("after", cursor)]).await.expect(200);
    assert_eq!((&page["gap"]["reason"], &page["gap"]["to"]), (&json!("expired"), &published[1]["sequence"]));
    let payloads: Vec<&Value> =
        page["data"].as_array().expect("events").iter().map(|event| &event["payload"]).collect();
    assert_eq!(payloads, [&json!(2), &json!(3)]);
    app.finish().await;
}
