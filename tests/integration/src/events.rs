//! `POST /v1/events` and `POST /v1/events/batch`.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weir_testkit::{Answer, Api, TestApp};

async fn post(api: &Api, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = api.request(Method::POST, "/v1/events").body(body.to_owned());
    Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

#[tokio::test]
async fn the_paths_of_the_root_are_those_of_v1() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let one = api.post("/events", &json!({"topic": "a", "payload": 1})).await.expect(201);
    let two = api.post("/v1/events", &json!({"topic": "a", "payload": 2})).await.expect(201);
    assert!(one["sequence"].as_u64() < two["sequence"].as_u64());
    let page = api.get("/events", &[("topics", "a")]).await.expect(200);
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
    app.finish().await;
}

#[tokio::test]
async fn each_event_names_the_one_before_it_on_its_topic() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut sequences = Vec::new();
    for topic in ["a", "b", "a", "a", "b"] {
        sequences.push(api.publish(topic, &json!(null)).await["sequence"].clone());
    }
    let previous: Vec<Value> =
        api.replay(">", None).await.iter().map(|event| event["previous"].clone()).collect();
    let zero = json!(0);
    let expected = [&zero, &zero, &sequences[0], &sequences[2], &sequences[1]];
    assert_eq!(previous.iter().collect::<Vec<&Value>>(), expected);
    app.finish().await;
}

#[tokio::test]
async fn the_same_id_again_gives_the_first_answer_and_adds_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let event = json!({"topic": "a", "payload": {"n": 1}, "id": "order-1"});
    let first = api.post("/v1/events", &event).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = api.post("/v1/events", &event).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!(api.replay(">", None).await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn the_same_id_with_another_body_is_a_conflict() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.post("/v1/events", &json!({"topic": "a", "payload": 1, "id": "x"})).await.expect(201);
    for other in [
        json!({"topic": "a", "payload": 2, "id": "x"}),
        json!({"topic": "b", "payload": 1, "id": "x"}),
        json!({"topic": "a", "payload": 1, "id": "x", "type": "t"}),
        json!({"topic": "a", "payload": 1, "id": "x", "headers": {"h": "1"}}),
    ] {
        api.post("/v1/events", &other).await.refused(409, "DUPLICATE_EVENT_ID");
    }
    assert_eq!(api.replay(">", None).await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_is_an_id() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let headers = [("content-type", "application/json"), ("idempotency-key", "request-7")];
    let first = post(&api, &headers, r#"{"topic":"a","payload":1}"#).await.expect(201);
    assert_eq!(first["id"], "request-7");
    assert_eq!(post(&api, &headers, r#"{"topic":"a","payload":1}"#).await.expect(201), first);
    post(&api, &headers, r#"{"topic":"a","payload":2}"#).await.refused(409, "DUPLICATE_EVENT_ID");
    app.finish().await;
}

async fn one_of_many_at_once(app: TestApp) {
    let tenant = app.tenant().await;
    let event = json!({"topic": "a", "payload": "once", "id": "same"});
    let attempts = (0..24).map(|node| {
        let (api, event) = (app.api_at(node, &tenant.api_key), event.clone());
        async move { api.post("/v1/events", &event).await.expect(201)["sequence"].clone() }
    });
    let sequences = join_all(attempts).await;
    assert!(sequences.iter().all(|sequence| *sequence == sequences[0]), "{sequences:?}");
    assert_eq!(app.api(&tenant.api_key).replay(">", None).await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn one_id_published_many_times_at_once_is_one_event() {
    one_of_many_at_once(TestApp::start().await).await;
}

#[tokio::test]
async fn one_id_published_at_several_nodes_at_once_is_one_event() {
    one_of_many_at_once(TestApp::cluster(2).await).await;
}

#[tokio::test]
async fn ids_belong_to_a_project() {
    let app = TestApp::start().await;
    let event = json!({"topic": "a", "payload": 1, "id": "x"});
    for _ in 0..2 {
        let tenant = app.tenant().await;
        let answer = app.api(&tenant.api_key).post("/v1/events", &event).await;
        assert_eq!(answer.header("idempotent-replayed"), None);
        answer.expect(201);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_batch_is_stored_in_its_order_and_answered_one_by_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let events: Vec<Value> =
        (0..100).map(|n| json!({"topic": format!("t.{}", n % 3), "payload": n})).collect();
    let answer = api.post("/v1/events/batch", &json!({"events": events})).await.expect(201);
    let results = answer["results"].as_array().expect("results");
    assert!(results.is_sorted_by_key(|result| result["sequence"].as_u64()));
    let payloads: Vec<Value> =
        api.replay(">", None).await.iter().map(|event| event["payload"].clone()).collect();
    assert_eq!(payloads, (0..100).map(Value::from).collect::<Vec<Value>>());
    app.finish().await;
}

#[tokio::test]
async fn a_batch_with_bad_events_stores_the_good_ones_and_says_which() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let deep: Value = serde_json::from_str(&deep).expect("JSON");
    let events = json!({"events": [
        {"topic": "a", "payload": 0},
        {"topic": "a..b", "payload": 1},
        {"topic": "a", "payload": 2, "id": "x"},
        {"topic": "a", "payload": 3, "id": "x"},
        {"topic": "a", "payload": deep},
        {"topic": "a", "payload": 5},
    ]});
    let answer = api.post("/v1/events/batch", &events).await.expect(207);
    let codes: Vec<Option<&str>> =
        answer["results"].as_array().expect("results").iter().map(|r| r["error"]["code"].as_str()).collect();
    let expected =
        [None, Some("INVALID_TOPIC"), None, Some("DUPLICATE_EVENT_ID"), Some("INVALID_EVENT_PAYLOAD"), None];
    assert_eq!(codes, expected);
    let payloads: Vec<Value> =
        api.replay(">", None).await.iter().map(|event| event["payload"].clone()).collect();
    assert_eq!(payloads, [json!(0), json!(2), json!(5)]);
    app.finish().await;
}

#[tokio::test]
async fn a_batch_has_one_to_a_hundred_events() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    for count in [0, 101] {
        let events = vec![json!({"topic": "a", "payload": 1}); count];
        api.post("/v1/events/batch", &json!({"events": events})).await.refused(400, "INVALID_REQUEST");
    }
    assert_eq!(api.replay(">", None).await.len(), 0);
    app.finish().await;
}

#[tokio::test]
async fn a_structured_cloud_event_becomes_an_event() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let body = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","subject":"orders.eu",
        "time":"2026-01-31T12:00:00Z","traceparent":"00-ab","data":{"total":1.10}}"#;
    let headers = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let first = post(&api, &headers, body).await.expect(201);
    assert_eq!(post(&api, &headers, body).await.expect(201), first, "source and id make it the same event");
    let kept = api.replay("orders.*", None).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["type"], "order.created");
    assert_eq!(kept[0]["payload"], json!({"total": 1.10}));
    assert_eq!(kept[0]["headers"]["ce-traceparent"], "00-ab");
    app.finish().await;
}

#[tokio::test]
async fn a_binary_cloud_event_becomes_an_event() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/shop"),
        ("ce-type", "order.paid"),
        ("ce-subject", "orders.eu"),
    ];
    post(&api, &headers, r#"{"total":2}"#).await.expect(201);
    post(&api, &headers[..4], r#"{"total":2}"#).await.refused(400, "INVALID_REQUEST");
    let kept = api.replay(">", None).await;
    assert_eq!(
        (kept.len(), &kept[0]["payload"], &kept[0]["type"]),
        (1, &json!({"total": 2}), &json!("order.paid"))
    );
    app.finish().await;
}

#[tokio::test]
async fn a_client_token_publishes_only_where_it_may() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.token(&[], &["chat.*"]));
    api.publish("chat.1", &json!("hello")).await;
    for topic in ["chat", "chat.1.2", "other"] {
        api.post("/v1/events", &json!({"topic": topic, "payload": 1}))
            .await
            .refused(403, "INSUFFICIENT_SCOPE");
    }
    app.finish().await;
}
