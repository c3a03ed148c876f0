//! `Idempotency-Key` on writes that administer: once, however often, on whichever node.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_testkit::{Answer, Api, TestApp};

fn keyed(api: &Api, path: &str, key: &str, body: &Value) -> RequestBuilder {
    api.request(Method::POST, path).header("Idempotency-Key", key).json(body)
}

fn wish(name: &str) -> Value {
    json!({"name": name, "scopes": ["events:publish"]})
}

async fn names(api: &Api) -> Vec<String> {
    let listed = api.get("/v1/admin/keys", &[]).await.expect(200);
    let keys = listed["data"].as_array().expect("a list").iter();
    keys.map(|key| key["name"].as_str().expect("a name").to_owned())
        .filter(|name| name != "bootstrap")
        .collect()
}

fn replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

async fn sent_again(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let last = app.nodes.len() - 1;
    let (api, there) = (app.api(&tenant.api_key), app.api_at(last, &tenant.api_key));
    let first = Answer::of(keyed(&api, "/v1/admin/keys", "k 1", &wish("a"))).await;
    assert!(!replayed(&first));
    let first = first.expect(201);
    for path in ["/v1/admin/keys", "/admin/keys"] {
        let again = Answer::of(keyed(&there, path, "k 1", &wish("a"))).await;
        assert!(replayed(&again), "{:?}", again.headers);
        assert_eq!(again.expect(201), first, "with the same secret");
    }
    let secret = first["api_key"].as_str().expect("a key");
    app.api(secret).publish("a", &json!(1)).await;

    // The key stands for that one request of that one caller.
    let id = first["id"].as_str().expect("an id");
    for (path, body) in
        [("/v1/admin/keys".to_owned(), wish("b")), (format!("/v1/admin/keys/{id}/rotate"), wish("a"))]
    {
        let refused = Answer::of(keyed(&there, &path, "k 1", &body)).await;
        assert_eq!(refused.body["error"]["details"]["idempotency_key"], "other_request");
        refused.refused(409, "CONFLICT");
    }
    let theirs = Answer::of(keyed(&app.api(&other.api_key), "/v1/admin/keys", "k 1", &wish("a"))).await;
    assert!(!replayed(&theirs));
    assert_ne!(theirs.expect(201)["id"], first["id"]);

    // A refusal is an answer too.
    let bad = json!({"name": "c", "scopes": []});
    let refused = Answer::of(keyed(&api, "/v1/admin/keys", "k 2", &bad)).await;
    let again = Answer::of(keyed(&there, "/v1/admin/keys", "k 2", &bad)).await;
    assert!(replayed(&again) && !replayed(&refused));
    assert_eq!(again.body, refused.body);
    refused.refused(400, "INVALID_REQUEST");
    for key in ["", "ä", &"x".repeat(129)] {
        Answer::of(keyed(&api, "/v1/admin/keys", key, &wish("d"))).await.refused(400, "INVALID_REQUEST");
    }
    let stranger = Answer::of(keyed(&app.api("nobody"), "/v1/admin/keys", "k 1", &wish("a"))).await;
    stranger.refused(401, "INVALID_API_KEY");
    assert_eq!(names(&api).await, ["a"]);
    app.finish().await;
}

#[tokio::test]
async fn a_write_that_is_sent_again_is_answered_the_same() {
    sent_again(TestApp::start().await).await;
}

#[tokio::test]
async fn a_write_that_is_sent_again_to_another_node_is_answered_the_same() {
    sent_again(TestApp::cluster(2).await).await;
}

/// Sends the request until it is answered for good.
async fn insist(api: Api, key: String, body: Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = Answer::of(keyed(&api, "/v1/admin/keys", &key, &body)).await;
        if answer.status == 201 {
            return answer.body;
        }
        assert_eq!(answer.body["error"]["details"]["idempotency_key"], "in_progress", "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn copies_on_all_nodes_at_once_have_one_effect_and_one_answer() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    for round in 0..5 {
        let name = format!("round {round}");
        // A caller that gives up at once: whatever became of that, it counts as a copy.
        let hasty = keyed(&app.api(&tenant.api_key), "/v1/admin/keys", &name, &wish(&name));
        let _ = hasty.timeout(Duration::from_millis(2 * round)).send().await;
        let copies = (0..8).map(|n| {
            let api = app.api_at(n % 2, &tenant.api_key);
            tokio::spawn(insist(api, name.clone(), wish(&name)))
        });
        let answers: Vec<_> =
            join_all(copies).await.into_iter().map(|copy| copy.expect("answered")).collect();
        assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    }
    let names = names(&app.api(&tenant.api_key)).await;
    assert_eq!(names, (0..5).map(|round| format!("round {round}")).collect::<Vec<_>>());
    app.finish().await;
}
