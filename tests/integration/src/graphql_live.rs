//! Subscriptions of GraphQL: `graphql-transport-ws` message by message, and event streams.

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{EVENT_STREAM, Graphql, Metric, Sse, TestApp, Ws};

async fn raw(app: &TestApp, query: &str, headers: &[(&str, &str)]) -> Ws {
    let opened = Ws::attempt_as(&app.graphql_url(0, query), headers, "graphql-transport-ws").await;
    opened.unwrap_or_else(|refusal| panic!("no WebSocket: {refusal:?}"))
}

#[tokio::test]
async fn every_wrong_order_has_its_close_code() {
    let app = TestApp::start_with(&[("WEIR_LIMITS_AUTH_TIMEOUT", "1s")]).await;
    let tenant = app.tenant().await;
    let init = json!({"type": "connection_init", "payload": {"token": tenant.api_key}});
    let subscribe = |id: &str| json!({"type": "subscribe", "id": id, "payload": {"query": EVENT_STREAM, "variables": {"topics": ["a"]}}});
    let unknown = json!({"type": "connection_init", "payload": {"token": format!("weir_{}_{}", "0".repeat(32), "0".repeat(38))}});
    let cases: Vec<(Vec<Value>, u16)> = vec![
        (vec![], 4408),
        (vec![json!({"type": "ping"})], 4408),
        (vec![json!(1)], 4400),
        (vec![json!({"type": "start", "id": "1"})], 4400),
        (vec![json!({"type": "connection_init", "payload": 1})], 4400),
        (vec![subscribe("1")], 4401),
        (vec![init.clone(), init.clone()], 4429),
        (vec![json!({"type": "connection_init"})], 4403),
        (vec![unknown], 4403),
        (vec![init.clone(), json!({"type": "subscribe", "payload": {"query": "{__typename}"}})], 4400),
        (vec![init.clone(), json!({"type": "subscribe", "id": "1"})], 4400),
        (vec![init.clone(), json!({"type": "connection_ack"})], 4400),
        (vec![init.clone(), subscribe("1"), subscribe("1")], 4409),
    ];
    for (messages, code) in cases {
        let mut ws = raw(&app, "", &[]).await;
        for message in &messages {
            ws.send(message).await;
        }
        let (_, ended) = ws.end().await;
        assert_eq!(ended.code, Some(code), "{messages:?}: {ended:?}");
    }
    // Without the subprotocol the connection ends at once; one that is not offered back, a client ends itself.
    let opened = Ws::attempt_as(&app.graphql_url(0, ""), &[], "").await;
    let (_, ended) = opened.unwrap_or_else(|error| panic!("{error:?}")).end().await;
    assert_eq!(ended.code, Some(4406), "{ended:?}");
    assert!(Ws::attempt_as(&app.graphql_url(0, ""), &[], "graphql-ws").await.is_err());
    app.finish().await;
}

#[tokio::test]
async fn credentials_come_in_many_ways() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let token = tenant.token(&["a.>"], &[]);
    let bearer = format!("Bearer {}", tenant.api_key);
    let ticket = app.api(&tenant.api_key).ticket().await;
    let key = tenant.api_key.as_str();
    let ways = [
        (String::new(), vec![("authorization", bearer.as_str())], Value::Null),
        (String::new(), vec![("x-api-key", key)], json!({})),
        (String::new(), vec![], json!({"authorization": bearer})),
        (String::new(), vec![], json!({"Authorization": bearer, "other": 1})),
        (String::new(), vec![], json!({"token": token})),
        (String::new(), vec![], json!({"apiKey": tenant.api_key})),
        (format!("?token={token}"), vec![], Value::Null),
        (format!("?ticket={ticket}"), vec![], Value::Null),
    ];
    for (query, headers, payload) in ways {
        let mut ws = raw(&app, &query, &headers).await;
        ws.send(&json!({"type": "connection_init", "payload": payload})).await;
        ws.expect("connection_ack").await;
        let mut graphql = Graphql(ws);
        graphql.begin("q", "{ __typename }", Value::Null).await;
        assert_eq!(graphql.expect("next", "q").await, json!({"data": {"__typename": "Query"}}));
        graphql.expect("complete", "q").await;
        graphql.0.close().await;
    }
    // Those in a header are judged before the upgrade.
    let refused =
        Ws::attempt_as(&app.graphql_url(0, ""), &[("x-api-key", "nonsense")], "graphql-transport-ws").await;
    assert_eq!(refused.err().map(|(status, _)| status), Some(401));
    app.finish().await;
}

#[tokio::test]
async fn operations_run_beside_each_other() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let start = api.publish("a", &json!(0)).await["cursor"].as_str().expect("a cursor").to_owned();
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    graphql.0.send(&json!({"type": "ping", "payload": {"n": 1}})).await;
    assert_eq!(graphql.0.expect("pong").await["payload"], json!({"n": 1}));

    graphql.stream("1", &["a"], Some(&start)).await;
    graphql.begin("2", "subscription($t: [String!]!, $after: String) { e: eventStream(topics: $t, after: $after) { ... on EventMessage { payload } } }",
        json!({"t": [">"], "after": start})).await;
    graphql
        .begin(
            "3",
            "mutation { publishEvent(input: {topic: \"a\", payload: {x: 1}}) { sequence cursor } }",
            Value::Null,
        )
        .await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let message = graphql.next().await.expect("a message");
        seen.push((message["id"].as_str().unwrap_or_default().to_owned(), message));
    }
    let of = |id: &str| {
        seen.iter().filter(|(known, _)| known == id).map(|(_, message)| message).collect::<Vec<_>>()
    };
    let event = of("1")[0]["payload"]["data"]["eventStream"].clone();
    assert_eq!(of("2")[0]["payload"], json!({"data": {"e": {"payload": {"x": 1}}}}));
    let published = &of("3")[0]["payload"]["data"]["publishEvent"];
    assert_eq!((&event["sequence"], &event["cursor"]), (&published["sequence"], &published["cursor"]));
    assert_eq!(of("3")[1]["type"], "complete");
    // What REST shows of it is what the stream showed.
    let rest = api.replay("a", Some(&start)).await;
    for field in ["id", "topic", "payload", "sequence", "previous", "cursor", "published_at"] {
        assert_eq!(event[field], rest[0][field], "{field}");
    }
    assert_eq!(
        (&event["__typename"], &event["type"], &event["headers"]),
        (&json!("EventMessage"), &Value::Null, &Value::Null)
    );

    // A completed operation is silent, and its id is free.
    graphql.complete("1").await;
    graphql.complete("unknown").await;
    graphql.stream("1", &["b"], Some(&start)).await;
    api.publish("a", &json!("not for 1")).await;
    api.publish("b", &json!("for 1")).await;
    let mut for_one = None;
    let mut for_two = Vec::new();
    while for_one.is_none() || for_two.len() < 2 {
        let message = graphql.next().await.expect("a message");
        match message["id"].as_str() {
            Some("1") => for_one = Some(message["payload"]["data"]["eventStream"]["payload"].clone()),
            _ => for_two.push(message["payload"]["data"]["e"]["payload"].clone()),
        }
    }
    assert_eq!((for_one, for_two), (Some(json!("for 1")), vec![json!("not for 1"), json!("for 1")]));

    // Errors end their operation and nothing else.
    graphql.begin("bad", "{ nothing }", Value::Null).await;
    assert_eq!(graphql.expect("error", "bad").await[0]["extensions"]["code"], "INVALID_REQUEST");
    graphql.begin("bad", "subscription { eventStream(topics: []) { __typename } }", Value::Null).await;
    let refused = graphql.next().await.expect("a message");
    assert!(refused.to_string().contains("INVALID_REQUEST"), "{refused}");
    graphql.expect("complete", "bad").await;
    graphql.stream("cursor", &["a"], Some("nonsense")).await;
    assert_eq!(graphql.expect("error", "cursor").await[0]["extensions"]["code"], "INVALID_CURSOR");
    graphql
        .begin(
            "one",
            "subscription { a: eventStream(topics: [\"a\"]) { __typename } usageUpdates { quantity } }",
            Value::Null,
        )
        .await;
    graphql.expect("error", "one").await;
    graphql.0.close().await;
    app.finish().await;
}

#[tokio::test]
async fn operations_are_counted_and_scopes_hold() {
    let app = TestApp::start_with(&[("WEIR_GRAPHQL_SUBSCRIPTIONS", "3")]).await;
    let tenant = app.tenant().await;
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    for n in 0..4 {
        graphql.stream(&n.to_string(), &["a"], None).await;
    }
    let refused = graphql.expect("error", "3").await;
    assert_eq!(refused[0]["extensions"]["code"], "PROJECT_LIMIT_EXCEEDED");
    assert_eq!(refused[0]["extensions"]["details"]["limit"], 3);
    graphql.0.close().await;

    let publisher = app.key(&tenant, &[Scope::EventsPublish]).await;
    let mut graphql = app.graphql_at(0, &publisher.api_key).await;
    graphql.stream("1", &["a"], None).await;
    assert_eq!(graphql.expect("error", "1").await[0]["extensions"]["code"], "INSUFFICIENT_SCOPE");
    graphql.0.close().await;
    let mut graphql = app.graphql_at(0, &tenant.token(&["a.>"], &[])).await;
    graphql.stream("1", &["b"], None).await;
    assert_eq!(graphql.expect("error", "1").await[0]["extensions"]["code"], "INSUFFICIENT_SCOPE");
    graphql.0.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_node_that_stops_tells_clients_to_come_back() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    graphql.stream("1", &["a"], None).await;
    let (end, ()) = tokio::join!(graphql.0.end(), app.nodes[0].stop());
    // Not 4500, which the protocol's clients take for a reason to give up.
    assert_eq!(end.1.code, Some(1012), "{end:?}");
}

fn sse(app: &TestApp, key: &str, query: &str, variables: Value) -> reqwest::RequestBuilder {
    let body = json!({"query": query, "variables": variables});
    app.api(key).request(Method::POST, "/graphql").header(ACCEPT, "text/event-stream").json(&body)
}

#[tokio::test]
async fn event_streams_carry_one_operation() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let key = tenant.api_key.as_str();
    let mut whole = Sse::open(sse(
        &app,
        key,
        "mutation { publishEvent(input: {topic: \"a\", payload: 1}) { cursor } }",
        Value::Null,
    ))
    .await;
    let block = whole.next().await.expect("a block");
    assert_eq!(block.field("event"), Some("next"));
    let cursor = block.json().expect("json")["data"]["publishEvent"]["cursor"].clone();
    assert_eq!(whole.next().await.expect("a block").field("event"), Some("complete"));

    let mut stream = Sse::open(sse(&app, key, EVENT_STREAM, json!({"topics": ["a"], "after": cursor}))).await;
    // Who has seen the head misses nothing.
    let mut live = Sse::open(sse(&app, key, EVENT_STREAM, json!({"topics": ["a"]}))).await;
    app.api(key).publish("a", &json!({"n": 2})).await;
    for stream in [&mut stream, &mut live] {
        let block = stream.data().await;
        assert_eq!(block.field("event"), Some("next"));
        let item = block.json().expect("json")["data"]["eventStream"].take();
        assert_eq!((&item["__typename"], &item["payload"]), (&json!("EventMessage"), &json!({"n": 2})));
    }
    // By GET too, as `EventSource` does it.
    let variables = json!({"topics": ["a"], "after": cursor}).to_string();
    let token = tenant.token(&["a"], &[]);
    let get = app.nodes[0].api().request(Method::GET, "/v1/graphql").header(ACCEPT, "text/event-stream");
    let query = [("query", EVENT_STREAM), ("variables", &variables), ("token", &token)];
    let mut by_get = Sse::open(get.query(&query)).await;
    assert_eq!(by_get.data().await.json().expect("json")["data"]["eventStream"]["payload"], json!({"n": 2}));

    // What is wrong with an operation is told on the stream, who is refused by HTTP.
    for (query, variables, code) in [
        ("{ nothing }", Value::Null, "INVALID_REQUEST"),
        ("{", Value::Null, "INVALID_REQUEST"),
        (EVENT_STREAM, json!({"topics": ["a"], "after": "x"}), "INVALID_CURSOR"),
        (EVENT_STREAM, json!({"topics": ["a..b"]}), "INVALID_TOPIC"),
    ] {
        let mut refused = Sse::open(sse(&app, key, query, variables)).await;
        let block = refused.data().await;
        assert_eq!(block.field("event"), Some("next"));
        assert_eq!(block.json().expect("json")["errors"][0]["extensions"]["code"], code, "{query}");
        assert_eq!(refused.next().await.expect("a block").field("event"), Some("complete"));
        assert_eq!(refused.next().await, None);
    }
    let refused = Sse::attempt(sse(&app, "weir_x_y", EVENT_STREAM, json!({"topics": ["a"]}))).await;
    assert!(refused.err().is_some_and(|why| why.starts_with("401") && why.contains("INVALID_API_KEY")));
    drop((stream, live, by_get));
    app.finish().await;
}

/// Waits until so many deliveries are told.
async fn delivered(graphql: &mut Graphql, quantity: u64) -> Value {
    loop {
        let usage = graphql.expect("next", "1").await["data"]["usageUpdates"].take();
        if usage["metric"] == "events_delivered" && usage["quantity"] == quantity {
            return usage;
        }
    }
}

#[tokio::test]
async fn usage_is_told_as_it_grows() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut graphql = app.graphql_at(0, &tenant.api_key).await;
    app.meter(&tenant, Metric::EventsDelivered, 5).await;
    let query = "subscription { usageUpdates { tenant_id metric quantity window_start } }";
    graphql.begin("1", query, Value::Null).await;
    let first = delivered(&mut graphql, 5).await;
    assert_eq!(first["tenant_id"], json!(tenant.tenant_id));
    app.meter(&tenant, Metric::EventsDelivered, 2).await;
    delivered(&mut graphql, 7).await;
    graphql.complete("1").await;

    let other = app.tenant().await;
    let foreign = "subscription($id: ID) { usageUpdates(tenant_id: $id) { quantity } }";
    graphql.begin("2", foreign, json!({"id": other.tenant_id})).await;
    let refused = graphql.next().await.expect("a message");
    assert!(refused.to_string().contains("NOT_FOUND"), "{refused}");
    graphql.expect("complete", "2").await;
    graphql.0.close().await;
    let key = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    let mut graphql = app.graphql_at(0, &key.api_key).await;
    graphql.begin("1", query, Value::Null).await;
    let refused = graphql.next().await.expect("a message");
    assert!(refused.to_string().contains("INSUFFICIENT_SCOPE"), "{refused}");
    graphql.0.close().await;
    app.finish().await;
}
