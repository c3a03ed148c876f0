//! `GET /v1/topics`.

use serde_json::{Value, json};
use weir_testkit::TestApp;

async fn lists(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    app.api(&other.api_key).publish("not-yours", &json!(0)).await;
    let api = app.api(&tenant.api_key);
    assert_eq!(api.get("/v1/topics", &[]).await.expect(200)["data"], json!([]));
    for n in 0..12 {
        api.publish(&format!("t.{}", n % 5), &json!(n)).await;
    }
    let last = api.publish("t.3", &json!("last")).await;
    let mut found: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    for node in 0.. {
        let query = [("limit", "2"), ("cursor", cursor.as_str())];
        let page = app.api_at(node, &tenant.api_key).get("/v1/topics", &query).await.expect(200);
        found.extend(page["data"].as_array().expect("data").clone());
        if page["has_more"] == json!(false) {
            break;
        }
        cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();
    }
    let names: Vec<&str> = found.iter().filter_map(|topic| topic["topic"].as_str()).collect();
    assert_eq!(names, ["t.0", "t.1", "t.2", "t.3", "t.4"]);
    assert_eq!(found[3]["head_sequence"], last["sequence"]);
    assert_eq!(found[3]["head_cursor"], last["cursor"]);
    app.finish().await;
}

#[tokio::test]
async fn topics_are_listed_with_their_newest_event() {
    lists(TestApp::start().await).await;
}

#[tokio::test]
async fn topics_are_listed_with_their_newest_event_on_a_cluster() {
    lists(TestApp::cluster(2).await).await;
}
