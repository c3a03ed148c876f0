//! Properties of GraphQL.

use crate::generate::{crowded, pattern, payload};
use crate::world::{World, property};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use weir_core::{Pattern, Scope};
use weir_testkit::Api;

async fn ask(api: &Api, query: &str, variables: Value) -> Value {
    api.post("/graphql", &json!({"query": query, "variables": variables})).await.body
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

/// Who asks, which tenant it names, and at which node.
fn question() -> impl Strategy<Value = (usize, usize, usize, Vec<String>)> {
    (0..3_usize, 0..3_usize, 0..2_usize, vec(crowded(), 1..4))
}

property!(
    /// Feature: realtime-saas-platform, Property 33: For any GraphQL query requesting tenant-scoped data, the system
    /// should enforce tenant isolation and only return data belonging to the authenticated tenant
    query_tenant_isolation,
    question(),
    isolates
);

async fn isolates(
    world: &mut World,
    (own, named, node, topics): (usize, usize, usize, Vec<String>),
) -> TestCaseResult {
    let case = world.fresh().1;
    let mut cursors = Vec::new();
    for (number, tenant) in world.tenants.iter().enumerate() {
        for topic in &topics {
            let answer = world
                .app
                .api_at(node, &tenant.api_key)
                .publish(&format!("{case}.{topic}"), &json!(number))
                .await;
            cursors.push((number, answer["cursor"].clone()));
        }
    }
    let (tenant, other) = (&world.tenants[own], &world.tenants[named]);
    let api = world.app.api_at(node, &tenant.api_key);
    let query = "query($t: [String!], $id: ID, $project: ID) {
        events(filter: {topics: $t}, first: 100) { edges { node { payload } } } topics(first: 500) { edges { node { topic } } }
        tenants { edges { node { id } } } projects(tenant_id: $id) { edges { node { id tenant_id } } }
        apiKeys(project_id: $project) { edges { node { project_id } } } usage(tenant_id: $id) { tenant_id } }";
    let variables = json!({"t": [format!("{case}.>")], "id": other.tenant_id, "project": other.project_id});
    let answer = ask(&api, query, variables).await;
    let data = &answer["data"];
    let nodes = |field: &str| data[field]["edges"].as_array().cloned().unwrap_or_default();
    let events: Vec<Value> = nodes("events").iter().map(|edge| edge["node"]["payload"].clone()).collect();
    prop_assert_eq!(events, vec![json!(own); topics.len()]);
    let seen: Vec<Value> = nodes("tenants").iter().map(|edge| edge["node"]["id"].clone()).collect();
    prop_assert_eq!(seen, vec![json!(tenant.tenant_id)]);
    if own == named {
        prop_assert_eq!(answer.get("errors"), None, "{}", answer);
        prop_assert!(
            nodes("projects").iter().all(|edge| edge["node"]["tenant_id"] == json!(tenant.tenant_id))
        );
        prop_assert!(
            nodes("apiKeys").iter().all(|edge| edge["node"]["project_id"] == json!(tenant.project_id))
        );
    } else {
        // Each of the three fields that name the other tenant fails as if there were no such thing.
        let codes: Vec<&Value> = answer["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|error| &error["extensions"]["code"])
            .collect();
        let missing = json!("NOT_FOUND");
        prop_assert_eq!(codes, vec![&missing; 3]);
        prop_assert!(!answer.to_string().contains(other.tenant_id.trim_start_matches("ten_")), "{}", answer);
        prop_assert!(!answer.to_string().contains(other.project_id.trim_start_matches("prj_")), "{}", answer);
    }
    // Another tenant's cursor says nothing here.
    for (number, cursor) in cursors {
        let answer = ask(
            &api,
            "query($after: String) { events(after: $after, first: 1) { __typename } }",
            json!({"after": cursor}),
        )
        .await;
        prop_assert_eq!(code(&answer) == "INVALID_CURSOR", number != own, "{}", answer);
    }
    Ok(())
}

/// Which credentials a mutation comes with.
#[derive(Clone, Debug)]
enum Bearer {
    Nothing,
    Garbage(String),
    Key(Vec<Scope>),
    Token(String),
}

fn bearer() -> impl Strategy<Value = Bearer> {
    prop_oneof![
        Just(Bearer::Nothing),
        "[!-~]{1,60}".prop_map(Bearer::Garbage),
        subsequence(Scope::ALL.to_vec(), 1..=5).prop_map(Bearer::Key),
        pattern().prop_map(Bearer::Token),
    ]
}

property!(
    /// Feature: realtime-saas-platform, Property 34: For any GraphQL mutation operation, the system should validate
    /// authentication credentials and enforce scope-based permissions before executing the mutation
    mutation_authentication,
    (bearer(), 0..2_usize, crowded(), payload()),
    authenticates
);

async fn authenticates(
    world: &mut World,
    (bearer, node, topic, payload): (Bearer, usize, String, Value),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let full = format!("{case}.{topic}");
    let publish = "mutation($i: EventInput!) { publishEvent(input: $i) { topic payload } }";
    let create = "mutation($i: ApiKeyInput!) { createApiKey(input: $i) { name } }";
    let (api, may_publish, may_create) = match &bearer {
        Bearer::Nothing => (world.app.nodes[node % world.app.nodes.len()].api(), None, None),
        Bearer::Garbage(text) => (world.app.api_at(node, text), None, None),
        Bearer::Key(scopes) => {
            let key = world.app.key(tenant, scopes).await.api_key;
            let (publish, admin) =
                (scopes.contains(&Scope::EventsPublish), scopes.contains(&Scope::AdminWrite));
            // Who makes a key passes on only what it holds.
            (world.app.api_at(node, &key), Some(publish), Some(admin && publish))
        }
        Bearer::Token(pattern) => {
            let allowed = format!("{case}.{pattern}");
            let matches = allowed.parse::<Pattern>().expect("a pattern").matches(&full);
            (world.app.api_at(node, &tenant.token(&[], &[&allowed])), Some(matches), Some(false))
        }
    };
    let published = ask(&api, publish, json!({"i": {"topic": full, "payload": payload}})).await;
    let created = ask(&api, create, json!({"i": {"name": case, "scopes": ["events:publish"]}})).await;
    for (answer, allowed) in [(&published, may_publish), (&created, may_create)] {
        match allowed {
            Some(true) => prop_assert_eq!(answer.get("errors"), None, "{}", answer),
            Some(false) => prop_assert_eq!(code(answer), "INSUFFICIENT_SCOPE", "{}", answer),
            None => {
                let known = ["UNAUTHENTICATED", "INVALID_API_KEY", "INVALID_TOKEN"];
                prop_assert!(known.contains(&code(answer)), "{}", answer);
                prop_assert_eq!(answer.get("data"), None);
            }
        }
    }
    // What was refused changed nothing.
    let logged = world.app.api_at(node + 1, &tenant.api_key).replay(&full, None).await;
    prop_assert_eq!(logged.len(), usize::from(may_publish == Some(true)));
    prop_assert!(logged.iter().all(|event| event["payload"] == payload));
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 35: For any GraphQL subscription to event topics, the system should
    /// deliver events in real-time to all active subscribers with proper tenant isolation
    subscription_delivery,
    (vec(vec(pattern(), 1..4), 1..5), vec(crowded(), 1..12)),
    delivers
);

async fn delivers(world: &mut World, (clients, topics): (Vec<Vec<String>>, Vec<String>)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let end = format!("{case}.end");
    let start =
        world.app.api(&tenant.api_key).publish(&format!("{case}.start"), &json!(null)).await["cursor"]
            .clone();
    let mut connections = Vec::new();
    for (n, patterns) in clients.iter().enumerate() {
        let own: Vec<String> = patterns.iter().map(|p| format!("{case}.{p}")).chain([end.clone()]).collect();
        let mut graphql = world.app.graphql_at(n, &tenant.api_key).await;
        let names: Vec<&str> = own.iter().map(String::as_str).collect();
        graphql.stream("s", &names, start.as_str()).await;
        let patterns: Vec<Pattern> = own.iter().map(|name| name.parse().expect("a pattern")).collect();
        connections.push((graphql, patterns));
    }
    let mut published = Vec::new();
    for (n, topic) in topics.iter().map(String::as_str).chain(["end"]).enumerate() {
        let topic = format!("{case}.{topic}");
        // The same topics of another tenant carry other events, which nobody here may see.
        world.app.api_at(n, &world.tenants[1].api_key).publish(&topic, &json!("foreign")).await;
        let answer = world.app.api_at(n, &tenant.api_key).publish(&topic, &json!(n)).await;
        published.push((topic, answer["sequence"].clone(), n));
    }
    for (mut graphql, patterns) in connections {
        for (topic, sequence, n) in published.iter().filter(|(t, ..)| patterns.iter().any(|p| p.matches(t))) {
            let item = graphql.item("s").await;
            prop_assert_eq!(&item["sequence"], sequence);
            prop_assert_eq!(&item["topic"], &json!(topic));
            prop_assert_eq!(&item["payload"], &json!(n));
        }
        graphql.0.close().await;
    }
    Ok(())
}
