//! The server's own events: who gets them, who does not, and that they are nobody's usage.

use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Answer, TestApp, Ws, until};

/// What stands on these topics once there are so many.
async fn told(app: &TestApp, key: &str, topics: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} events on {topics}"), async || {
        let events = app.api(key).replay(topics, None).await;
        (events.len() >= count).then_some(events)
    })
    .await
}

fn topics(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["topic"].as_str()).collect()
}

/// The events that a WebSocket has been sent, up to one on the topic `end`.
async fn until_end(ws: &mut Ws) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = ws.expect("event").await;
        if event["topic"] == "end" {
            return events;
        }
        events.push(event);
    }
}

async fn are_for_who_names_them(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut everything = app.ws_at(1, &tenant.api_key).await;
    everything.subscribe(&[">", "*.*.*", "*.>"], None).await;
    let mut own = app.ws_at(1, &tenant.api_key).await;
    own.subscribe(&["@weir.key.>", "end"], None).await;
    let mut stream = app.sse(&tenant.api_key, ">,*.key.created", None).await;
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    graphql.stream("1", &["*.key.*", "end"], None).await;

    let key = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let path = format!("/v1/admin/keys/{}", key.key_id);
    let rotated = api.post(&format!("{path}/rotate"), &json!({ "grace_seconds": 60 })).await.expect(201);
    Answer::of(api.request(reqwest::Method::DELETE, &path)).await.expect(200);
    let events = told(&app, &tenant.api_key, "@weir.>", 3).await;
    assert_eq!(topics(&events), ["@weir.key.created", "@weir.key.rotated", "@weir.key.revoked"]);
    assert_eq!(events[0]["payload"]["key_id"], json!(key.key_id));
    assert_eq!(events[1]["payload"]["replaced_by"], rotated["id"]);
    assert_eq!(events[2]["type"], "weir.key.revoked");
    assert!(!json!(events).to_string().contains(&key.api_key), "secrets are not told");

    for topic in ["mine", "end"] {
        api.publish(topic, &json!(1)).await;
    }
    assert_eq!(topics(&until_end(&mut everything).await), ["mine"; 1], "wildcards do not stand for `@weir`");
    assert_eq!(topics(&until_end(&mut own).await), topics(&events));
    assert_eq!(stream.event().await["topic"], "mine");
    assert_eq!(graphql.item("1").await["topic"], "end");
    graphql.complete("1").await;
    assert_eq!(topics(&api.replay(">", None).await), ["mine", "end"]);
    let page = api.get("/v1/events", &[]).await.expect(200);
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2), "{page}");
    let listed = api.get("/v1/topics", &[("limit", "1")]).await.expect(200);
    assert_eq!((&listed["data"][0]["topic"], &listed["has_more"]), (&json!("end"), &json!(true)));

    // A token that may everything may not this, unless it says so.
    let refused = app.api(&tenant.token(&[">"], &[])).get("/v1/events", &[("topics", "@weir.>")]).await;
    refused.refused(403, "INSUFFICIENT_SCOPE");
    let allowed = app.api(&tenant.token(&["@weir.key.*"], &[])).replay("@weir.key.*", None).await;
    assert_eq!(allowed.len(), 3);
    for ws in [everything, own] {
        ws.close().await;
    }
    drop((graphql, stream));
    app.finish().await;
}

#[tokio::test]
async fn system_events_are_for_who_names_them() {
    are_for_who_names_them(TestApp::start().await).await;
}

#[tokio::test]
async fn system_events_are_for_who_names_them_on_a_cluster() {
    are_for_who_names_them(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn nobody_publishes_to_the_servers_own_topics() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let event = json!({ "topic": "@weir.key.created", "payload": {} });
    let refused = api.post("/v1/events", &event).await;
    refused.refused(400, "INVALID_TOPIC");
    assert_eq!(refused.body["error"]["details"]["reserved"], "@weir");
    let batch =
        api.post("/v1/events/batch", &json!({ "events": [event, { "topic": "a", "payload": 1 }] })).await;
    assert_eq!(batch.body["results"][0]["error"]["code"], "INVALID_TOPIC", "{}", batch.body);
    let query = "mutation { publishEvent(input: { topic: \"@weir.x\", payload: 1 }) { id } }";
    let answer = api.post("/graphql", &json!({ "query": query })).await;
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "INVALID_TOPIC", "{}", answer.body);
    let mut ws = app.ws(&tenant.token(&[], &["@weir.>", ">"])).await;
    ws.send(&json!({ "type": "publish", "id": "1", "topic": "@weir.key.created", "payload": 1 })).await;
    assert_eq!(ws.expect("error").await["error"]["code"], "INVALID_TOPIC");
    ws.close().await;
    // Names that only begin alike are anybody's.
    api.publish("@weird.x", &json!(1)).await;
    assert_eq!(api.replay("@weir.>", None).await, Vec::<Value>::new());
    app.finish().await;
}

async fn limits_are_told_and_nothing_is_billed(app: TestApp) {
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    app.set_limits(&tenant, &json!({ "monthly_events": 20 })).await;
    let path = format!("/v1/admin/tenants/{}/projects", tenant.tenant_id);
    let second = api.post(&path, &json!({ "name": "second" })).await.expect(201);
    let wish = json!({ "name": "k", "scopes": ["events:subscribe"], "project_id": second["id"] });
    let reader = api.post("/v1/admin/keys", &wish).await.expect(201);
    for n in 0..20 {
        api.publish("a", &json!(n)).await;
    }
    api.post("/v1/events", &json!({ "topic": "a", "payload": 1 }))
        .await
        .refused(429, "PROJECT_LIMIT_EXCEEDED");
    for key in [tenant.api_key.as_str(), reader["api_key"].as_str().expect("a key")] {
        // A limit that came in the middle of a period is sure of its use only after a while, and when somebody asks.
        let mut events = Vec::new();
        for _ in 0..120 {
            events = app.api(key).replay("@weir.limit.threshold", None).await;
            if events.len() == 3 {
                break;
            }
            api.post("/v1/events", &json!({ "topic": "a", "payload": 1 })).await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        let percents: Vec<&Value> = events.iter().map(|event| &event["payload"]["percent"]).collect();
        assert_eq!(
            percents,
            [&json!(50), &json!(80), &json!(100)],
            "every project is told, past the limit too"
        );
        assert_eq!(
            (&events[2]["payload"]["limit"], &events[2]["payload"]["metric"]),
            (&json!(20), &json!("events_published"))
        );
    }
    // The log holds more than is counted: by the server's own. One more event shows that these were passed.
    app.set_limits(&tenant, &json!({ "monthly_events": 1000 })).await;
    api.publish("a", &json!("last")).await;
    let total = until("the events to be counted", async || {
        let page = api.get("/v1/billing/usage", &[("metric", "events_published")]).await.expect(200);
        let total: u64 = page["data"].as_array()?.iter().filter_map(|line| line["quantity"].as_u64()).sum();
        (total >= 21).then_some(total)
    });
    assert_eq!(total.await, 21);
    app.finish().await;
}

#[tokio::test]
async fn thresholds_are_told_in_every_project_and_are_nobodys_usage() {
    limits_are_told_and_nothing_is_billed(TestApp::start().await).await;
}

#[tokio::test]
async fn thresholds_are_told_in_every_project_and_are_nobodys_usage_on_a_cluster() {
    limits_are_told_and_nothing_is_billed(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn connections_are_told_as_far_as_the_project_wants() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    app.ws(&tenant.api_key).await.close().await;
    app.set_project_limits(&tenant, &json!({ "connection_events_per_second": 3 })).await;
    let ws = app.ws_at(1, &tenant.token(&["a"], &[])).await;
    ws.close().await;
    let events = told(&app, &tenant.api_key, "@weir.connection.*", 2).await;
    assert_eq!(topics(&events), ["@weir.connection.opened", "@weir.connection.closed"], "none from before");
    assert_eq!(events[0]["payload"]["connection_id"], events[1]["payload"]["connection_id"]);
    assert_eq!(events[0]["payload"]["who"]["subject"], "user-1");

    // A crowd: each connection is told, or counted in one that says how many were not.
    let mut crowd = Vec::new();
    for n in 0..30 {
        crowd.push(app.ws_at(n, &tenant.api_key).await);
    }
    for ws in crowd {
        ws.close().await;
    }
    let counted = until("31 connections to be told or counted", async || {
        let events = app.api(&tenant.api_key).replay("@weir.connection.*", None).await;
        let (mut opened, mut closed) = (0, 0);
        for event in &events {
            match event["topic"].as_str()? {
                "@weir.connection.opened" => opened += 1,
                "@weir.connection.closed" => closed += 1,
                _ => {
                    opened += event["payload"]["opened"].as_u64()?;
                    closed += event["payload"]["closed"].as_u64()?;
                }
            }
        }
        ((opened, closed) == (31, 31)).then_some(events.len())
    });
    assert!(counted.await < 62, "some were only counted");
    let refused = json!({ "limits": { "connection_events_per_second": 1001 } });
    let path = format!("/v1/admin/projects/{}", tenant.project_id);
    let request = app.api(&tenant.api_key).request(reqwest::Method::PATCH, &path).json(&refused);
    Answer::of(request).await.refused(400, "INVALID_REQUEST");
    app.finish().await;
}
