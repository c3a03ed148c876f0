//! `/graphql` over HTTP.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Answer, Api, TestApp};

const RESPONSE: &str = "application/graphql-response+json";

/// Runs an operation and gives the whole answer.
async fn ask(api: &Api, query: &str, variables: &Value) -> Answer {
    let body = json!({"query": query, "variables": variables});
    Answer::of(api.request(Method::POST, "/graphql").header(ACCEPT, RESPONSE).json(&body)).await
}

/// Runs an operation that must work, and gives its data.
async fn data(api: &Api, query: &str, variables: &Value) -> Value {
    let mut body = ask(api, query, variables).await.expect(200);
    assert_eq!(body.get("errors"), None, "{body}");
    body["data"].take()
}

/// Checks that an operation failed as a whole or in a field: status, code and request id.
#[track_caller]
fn failed(answer: &Answer, status: u16, code: &str) {
    let extensions = &answer.body["errors"][0]["extensions"];
    assert_eq!((answer.status, extensions["code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(extensions["request_id"].as_str(), answer.header("x-request-id"), "{}", answer.body);
    assert!(extensions["details"].is_object() && extensions["retryable"].is_boolean(), "{}", answer.body);
}

const PUBLISH: &str = "mutation($input: EventInput!) { publishEvent(input: $input)
    { id topic type payload headers sequence previous cursor published_at } }";
const EVENTS: &str = "query($filter: EventFilter, $first: Int, $after: String) { events(filter: $filter, first: $first, after: $after)
    { edges { cursor node { id topic type payload headers sequence previous cursor published_at } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor } gap { reason from to } } }";

#[tokio::test]
async fn publishes_and_reads_back() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let payload =
        json!({"total": 42, "deep": [null, 1.5, {"a": "é\u{2028}\"\\"}], "big": 9_007_199_254_740_993_u64});
    let input = json!({"topic": "orders.eu", "payload": payload, "id": "order-17", "type": "order.created",
        "headers": {"trace": "7f3a"}});
    let published = data(&api, PUBLISH, &json!({"input": input})).await["publishEvent"].take();
    assert_eq!(published["payload"], payload);
    assert_eq!(published["previous"], Value::Null);
    // The same id again is the same event; other content under it is a conflict.
    let again = data(&api, PUBLISH, &json!({"input": input})).await["publishEvent"].take();
    assert_eq!(again["sequence"], published["sequence"]);
    let other =
        ask(&api, PUBLISH, &json!({"input": {"topic": "orders.eu", "payload": 1, "id": "order-17"}})).await;
    failed(&other, 200, "DUPLICATE_EVENT_ID");
    assert_eq!(other.body["data"], json!({"publishEvent": null}));

    // A payload may be null, but not left out.
    let null = data(&api, PUBLISH, &json!({"input": {"topic": "others", "payload": null}})).await;
    assert_eq!(null["publishEvent"]["payload"], Value::Null);
    failed(&ask(&api, PUBLISH, &json!({"input": {"topic": "others"}})).await, 200, "INVALID_REQUEST");
    assert_eq!(api.replay("others", None).await.len(), 1);

    // What REST shows is what GraphQL shows.
    let rest = app.api(&tenant.api_key).replay("orders.>", None).await;
    let page = data(&api, EVENTS, &json!({"filter": {"topics": ["orders.>"]}})).await["events"].take();
    let node = &page["edges"][0]["node"];
    for field in
        ["id", "topic", "type", "payload", "headers", "sequence", "previous", "cursor", "published_at"]
    {
        assert_eq!(node[field], rest[0][field], "{field}");
    }
    assert_eq!(page["pageInfo"]["hasNextPage"], false);
    let topics =
        data(&api, "{ topics { edges { node { topic head_sequence head_cursor } } } }", &json!({})).await;
    let topic = &topics["topics"]["edges"][0]["node"];
    assert_eq!(topic["head_sequence"], published["sequence"]);
    assert_eq!(topic["head_cursor"], node["cursor"]);
    app.finish().await;
}

#[tokio::test]
async fn pages_follow_on_each_other() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    for n in 0..25 {
        api.publish("a", &json!(n)).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = data(&api, EVENTS, &json!({"first": 10, "after": after})).await["events"].take();
        seen.extend(
            page["edges"].as_array().expect("edges").iter().map(|edge| edge["node"]["payload"].clone()),
        );
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] != true {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(Value::from).collect::<Vec<Value>>());
    // The same cursor goes on over REST.
    api.publish("a", &json!("next")).await;
    let rest = api.replay("a", after.as_str()).await;
    assert_eq!(rest.len(), 1);
    let from = json!({"filter": {"from_sequence": rest[0]["sequence"]}});
    assert_eq!(data(&api, EVENTS, &from).await["events"]["edges"].as_array().map(Vec::len), Some(1));
    app.finish().await;
}

#[tokio::test]
async fn requests_that_are_none() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let raw = |kind: &str, body: String| {
        Answer::of(
            api.request(Method::POST, "/v1/graphql")
                .header(CONTENT_TYPE, kind)
                .header(ACCEPT, RESPONSE)
                .body(body),
        )
    };
    let json = "application/json";
    failed(&raw(json, r#"[{"query":"{__typename}"}]"#.into()).await, 400, "INVALID_REQUEST");
    failed(&raw(json, "{".into()).await, 400, "INVALID_REQUEST");
    failed(&raw(json, r#"{"query":7}"#.into()).await, 400, "INVALID_REQUEST");
    failed(&raw("text/plain", r#"{"query":"{__typename}"}"#.into()).await, 415, "UNSUPPORTED_MEDIA_TYPE");
    failed(&raw(json, " ".repeat((1 << 20) + 1)).await, 413, "PAYLOAD_TOO_LARGE");
    for (query, variables, code) in [
        ("{", json!({}), "INVALID_REQUEST"),
        ("{ nothing }", json!({}), "INVALID_REQUEST"),
        ("query A { __typename } query B { __typename }", json!({}), "INVALID_REQUEST"),
        ("query($n: Int!) { topics(first: $n) { __typename } }", json!({}), "INVALID_REQUEST"),
        ("query($n: Int!) { topics(first: $n) { __typename } }", json!({"n": "x"}), "INVALID_REQUEST"),
        (
            "{ events(first: 1000) { edges { node { id topic payload sequence } } } }",
            json!({}),
            "QUERY_TOO_COMPLEX",
        ),
        ("{ ...A } fragment A on Query { ...A }", json!({}), "INVALID_REQUEST"),
    ] {
        let answer = ask(&api, query, &variables).await;
        failed(&answer, 400, code);
        assert_eq!(answer.body.get("data"), None, "{query}");
        // Who asks for plain JSON is told in the body alone.
        let body = json!({"query": query, "variables": variables});
        let plain = api.post("/graphql", &body).await;
        failed(&plain, 200, code);
        assert_eq!(plain.header("content-type"), Some("application/json; charset=utf-8"));
    }
    // Fields that fail are told apart from operations that do.
    for (query, code) in [
        (r#"{ events(first: 0) { __typename } }"#, "INVALID_REQUEST"),
        (r#"{ events(after: "x") { __typename } }"#, "INVALID_CURSOR"),
        (r#"{ events(filter: {topics: ["a..b"]}) { __typename } }"#, "INVALID_TOPIC"),
        (
            r#"{ events(filter: {from_sequence: 1, from_time: "2026-01-31T12:00:00Z"}) { __typename } }"#,
            "INVALID_REQUEST",
        ),
        (r#"{ events(filter: {from_time: "tomorrow"}) { __typename } }"#, "INVALID_REQUEST"),
    ] {
        let answer = ask(&api, query, &json!({})).await;
        failed(&answer, answer.status, code);
        assert!(matches!(answer.status, 200 | 400), "{query}");
    }
    let error = ask(&api, "{ events(first: 9, after: \"x\") { __typename } }", &json!({})).await;
    assert_eq!(error.body["errors"][0]["path"], json!(["events"]));
    app.finish().await;
}

#[tokio::test]
async fn queries_by_get_and_nothing_else() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let query = [
        ("query", "query($n: Int) { topics(first: $n) { edges { cursor } } }"),
        ("variables", r#"{"n": 1}"#),
    ];
    let answer = api.get("/graphql", &query).await.expect(200);
    assert_eq!(answer, json!({"data": {"topics": {"edges": []}}}));
    let mutation = [("query", r#"mutation { publishEvent(input: {topic: "a", payload: 1}) { id } }"#)];
    let refused = api.get("/graphql", &mutation).await;
    failed(&refused, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(refused.header("allow"), Some("POST"));
    assert_eq!(api.replay(">", None).await.len(), 0);
    failed(&api.get("/graphql", &[]).await, 400, "INVALID_REQUEST");
    Answer::of(api.request(Method::DELETE, "/graphql")).await.refused(405, "METHOD_NOT_ALLOWED");
    // A browser gets a page, if it is not switched off.
    let page =
        Answer::of(app.nodes[0].api().request(Method::GET, "/graphql").header(ACCEPT, "text/html")).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    app.finish().await;
}

#[tokio::test]
async fn callers_and_what_they_may() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let nobody = app.nodes[0].api();
    let unauthenticated = ask(&nobody, "{ __typename }", &json!({})).await;
    failed(&unauthenticated, 401, "UNAUTHENTICATED");
    assert_eq!(unauthenticated.header("www-authenticate"), Some("Bearer realm=\"weir\""));
    failed(&ask(&app.api("weir_x_y"), "{ __typename }", &json!({})).await, 401, "INVALID_API_KEY");

    let reader = app.api(&app.key(&tenant, &[Scope::EventsSubscribe]).await.api_key);
    let refused = ask(&reader, PUBLISH, &json!({"input": {"topic": "a", "payload": 1}})).await;
    failed(&refused, 200, "INSUFFICIENT_SCOPE");
    let publisher = app.api(&app.key(&tenant, &[Scope::EventsPublish]).await.api_key);
    failed(&ask(&publisher, EVENTS, &json!({})).await, 200, "INSUFFICIENT_SCOPE");
    data(&publisher, PUBLISH, &json!({"input": {"topic": "a", "payload": 1}})).await;
    let token = app.api(&tenant.token(&["b.>"], &["b.x"]));
    failed(
        &ask(&token, PUBLISH, &json!({"input": {"topic": "a", "payload": 1}})).await,
        200,
        "INSUFFICIENT_SCOPE",
    );
    failed(&ask(&token, EVENTS, &json!({"filter": {"topics": ["a"]}})).await, 200, "INSUFFICIENT_SCOPE");
    data(&token, PUBLISH, &json!({"input": {"topic": "b.x", "payload": 1}})).await;
    assert_eq!(reader.replay(">", None).await.len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn limits_are_settings() {
    let settings = [
        ("WEIR_GRAPHQL_INTROSPECTION", "false"),
        ("WEIR_GRAPHQL_EXPLORER", "false"),
        ("WEIR_GRAPHQL_TOKENS", "100"),
        ("WEIR_GRAPHQL_DEPTH", "4"),
        ("WEIR_GRAPHQL_COST", "30"),
        ("WEIR_GRAPHQL_ALIASES", "1"),
        ("WEIR_GRAPHQL_DIRECTIVES", "1"),
        ("WEIR_GRAPHQL_QUERY_BYTES", "1KiB"),
    ];
    let app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    for (query, what) in [
        ("{ topics { edges { node { topic { x } } } } }".to_owned(), "depth"),
        ("{ a: __typename b: __typename }".to_owned(), "aliases"),
        ("{ __typename @skip(if: false) @include(if: true) }".to_owned(), "directives"),
        ("{ topics(first: 100) { edges { node { topic head_sequence } } } }".to_owned(), "cost"),
        (format!("{{ {} }}", "__typename ".repeat(99)), "query_bytes"),
        (format!("{{ {} }}", "a ".repeat(99)), "tokens"),
    ] {
        let answer = ask(&api, &query, &json!({})).await;
        failed(&answer, 400, "QUERY_TOO_COMPLEX");
        let details = &answer.body["errors"][0]["extensions"]["details"];
        assert_eq!(details["what"], what, "{query}");
        assert!(details["found"].as_u64() > details["limit"].as_u64(), "{details}");
    }
    let answer = ask(&api, "{ __schema { queryType { name } } }", &json!({})).await;
    assert!(answer.body["data"].get("__schema").is_none_or(Value::is_null), "{}", answer.body);
    let page = Answer::of(api.request(Method::GET, "/graphql").header(ACCEPT, "text/html")).await;
    assert_ne!(page.header("content-type"), Some("text/html; charset=utf-8"));
    app.finish().await;
}
