//! Tenants, projects and keys over GraphQL.

use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Api, TestApp};

async fn ask(api: &Api, query: &str, variables: Value) -> Value {
    api.post("/graphql", &json!({"query": query, "variables": variables})).await.body
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_key_administers_its_tenant_and_no_other() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    let tenants = "{ tenants { edges { node { id name plan status limits projects { edges { node { id tenant { id } } } } } } } }";
    let answer = ask(&api, tenants, json!({})).await;
    let edges = answer["data"]["tenants"]["edges"].as_array().expect("edges");
    assert_eq!(edges.len(), 1, "{answer}");
    assert_eq!(edges[0]["node"]["id"], json!(tenant.tenant_id));
    assert_eq!(
        edges[0]["node"]["projects"]["edges"][0]["node"],
        json!({"id": tenant.project_id, "tenant": {"id": tenant.tenant_id}})
    );

    let projects = "query($id: ID) { projects(tenant_id: $id) { edges { node { id name tenant_id } } } }";
    for id in [Value::Null, json!(tenant.tenant_id)] {
        let answer = ask(&api, projects, json!({"id": id})).await;
        assert_eq!(
            answer["data"]["projects"]["edges"][0]["node"]["id"],
            json!(tenant.project_id),
            "{answer}"
        );
    }
    // Another tenant answers exactly like one that does not exist.
    let foreign = ask(&api, projects, json!({"id": other.tenant_id})).await;
    let missing = ask(&api, projects, json!({"id": format!("ten_{}", "0".repeat(32))})).await;
    assert_eq!(
        (code(&foreign), &foreign["errors"][0]["message"]),
        ("NOT_FOUND", &missing["errors"][0]["message"])
    );
    assert_eq!(code(&missing), "NOT_FOUND");
    assert_eq!(code(&ask(&api, projects, json!({"id": "nonsense"})).await), "INVALID_REQUEST");
    let suspend = "mutation($id: ID!) { suspendTenant(tenant_id: $id, reason: \"x\") { tenant { id } } }";
    assert_eq!(code(&ask(&api, suspend, json!({"id": other.tenant_id})).await), "INSUFFICIENT_SCOPE");
    let reader = app.key(&tenant, &[Scope::EventsSubscribe]).await;
    assert_eq!(code(&ask(&app.api(&reader.api_key), tenants, json!({})).await), "INSUFFICIENT_SCOPE");
    app.finish().await;
}

#[tokio::test]
async fn keys_are_made_rotated_and_revoked() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    let create = "mutation($input: ApiKeyInput!) { createApiKey(input: $input) { id name scopes project_id is_active api_key } }";
    let input = json!({"name": "reader", "scopes": ["events:subscribe"]});
    let answer = ask(&api, create, json!({"input": input})).await;
    let key = &answer["data"]["createApiKey"];
    assert_eq!(
        (&key["scopes"], &key["project_id"]),
        (&json!(["events:subscribe"]), &json!(tenant.project_id)),
        "{answer}"
    );
    let text = key["api_key"].as_str().expect("a secret");
    app.api(text).get("/v1/events", &[]).await.expect(200);
    for (input, expected) in [
        (json!({"name": "x", "scopes": ["root"]}), "INVALID_REQUEST"),
        (json!({"name": "x", "scopes": []}), "INVALID_REQUEST"),
        (json!({"name": "x", "scopes": ["events:publish"], "project_id": other.project_id}), "NOT_FOUND"),
    ] {
        assert_eq!(code(&ask(&api, create, json!({"input": input})).await), expected, "{input}");
    }
    let rotate = "mutation($id: ID!) { rotateApiKey(id: $id, grace_seconds: 0) { key { id api_key } enforced { nodes of } } }";
    let rotated = ask(&api, rotate, json!({"id": key["id"]})).await["data"]["rotateApiKey"].take();
    app.api(text).get("/v1/events", &[]).await.refused(401, "EXPIRED_API_KEY");
    let text = rotated["key"]["api_key"].as_str().expect("a secret");
    app.api(text).get("/v1/events", &[]).await.expect(200);
    let revoke =
        "mutation($id: ID!) { revokeApiKey(id: $id) { key { is_active api_key } enforced { nodes of } } }";
    let revoked = ask(&api, revoke, json!({"id": rotated["key"]["id"]})).await["data"]["revokeApiKey"].take();
    assert_eq!(revoked["key"], json!({"is_active": false, "api_key": null}));
    app.api(text).get("/v1/events", &[]).await.refused(401, "INVALID_API_KEY");
    let list = ask(
        &api,
        "{ apiKeys { edges { node { id name api_key project { name tenant { id } } } } } }",
        json!({}),
    )
    .await;
    let edges = list["data"]["apiKeys"]["edges"].as_array().expect("edges");
    assert!(edges.len() >= 3 && edges.iter().all(|edge| edge["node"]["api_key"] == Value::Null), "{list}");
    assert!(
        edges.iter().all(|edge| edge["node"]["project"]["tenant"]["id"] == json!(tenant.tenant_id)),
        "{list}"
    );
    app.finish().await;
}

/// What a list refers to is read once, however long the list is.
#[tokio::test]
async fn references_cost_no_query_each() {
    let app = TestApp::start_with(&[
        ("WEIR_TELEMETRY_LOG_LEVEL", "info,sqlx::query=debug"),
        ("WEIR_TELEMETRY_LOG_FORMAT", "json"),
    ])
    .await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let mut projects = vec![tenant.project_id.clone()];
    for n in 0..4 {
        let made = ask(
            &api,
            "mutation($n: String!) { createProject(name: $n) { id } }",
            json!({"n": format!("p{n}")}),
        )
        .await;
        projects.push(made["data"]["createProject"]["id"].as_str().expect("an id").to_owned());
    }
    for n in 0..30 {
        let input = json!({"name": format!("k{n}"), "scopes": ["events:publish"], "project_id": projects[n % projects.len()]});
        let made =
            ask(&api, "mutation($i: ApiKeyInput!) { createApiKey(input: $i) { id } }", json!({"i": input}))
                .await;
        assert_eq!(made.get("errors"), None, "{made}");
    }
    let query = "query($first: Int) { apiKeys(first: $first) { edges { node { id project { id name tenant { name } } } } } }";
    let selects = |table: &str| {
        let log = app.nodes[0].log();
        log.lines().filter(|line| line.contains("sqlx::query") && line.contains(table)).count()
    };
    let mut counts = Vec::new();
    for first in [2, 30] {
        ask(&api, query, json!({"first": first})).await;
        let before = selects("projects");
        let answer = ask(&api, query, json!({"first": first})).await;
        assert_eq!(answer["data"]["apiKeys"]["edges"].as_array().map(Vec::len), Some(first), "{answer}");
        counts.push(selects("projects") - before);
    }
    assert!(counts[1] >= 1 && counts[1] <= 3, "{counts:?}");
    app.finish().await;
}
