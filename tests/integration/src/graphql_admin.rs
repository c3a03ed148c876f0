//! Tenants, projects and keys over GraphQL.

use crate::members::operator;
use serde_json::{Value, json};
use weir_core::Scope;
use weir_testkit::{Api, Tenant, TestApp, until};

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

/// A page of tenants with their projects is two reads, however many tenants there are.
#[tokio::test]
async fn an_operators_tenants_cost_no_query_each() {
    let app = TestApp::start_with(&[
        ("WEIR_TELEMETRY_LOG_LEVEL", "info,sqlx::query=debug"),
        ("WEIR_TELEMETRY_LOG_FORMAT", "json"),
    ])
    .await;
    let operator = operator(&app, "ops@weir.test").await;
    let api = app.api(&operator.access);
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(app.tenant().await);
    }
    let query = "query($first: Int) { tenants(first: $first) { edges { node { id
        projects(first: 3) { edges { node { id tenant { id } } } pageInfo { hasNextPage } } } } } }";
    let statements = || app.nodes[0].log().lines().filter(|line| line.contains("row_number()")).count();
    for first in [2_usize, 12] {
        let before = statements();
        let answer = ask(&api, query, json!({"first": first})).await;
        let edges = answer["data"]["tenants"]["edges"].as_array().cloned().unwrap_or_default();
        assert_eq!(edges.len(), first, "{answer}");
        for (edge, tenant) in edges.iter().zip(&made) {
            let projects = &edge["node"]["projects"];
            let expected = json!({"id": tenant.project_id, "tenant": {"id": tenant.tenant_id}});
            assert_eq!(projects["edges"], json!([{"node": expected}]), "{answer}");
            assert_eq!(projects["pageInfo"]["hasNextPage"], false);
        }
        assert_eq!(statements() - before, 1, "{first} tenants");
    }
    app.finish().await;
}

/// What REST can do to a tenant, its projects, members, schemas and connections, GraphQL can.
async fn administers(app: TestApp) {
    let operator = operator(&app, "ops@weir.test").await;
    let platform = app.api(&operator.access);
    let create = "mutation($i: TenantInput!) { createTenant(input: $i) { id name plan status limits } }";
    let input =
        json!({"name": "made over graphql", "plan": "pro", "limits": {"connections": 7}, "trial": true});
    let answer = ask(&platform, create, json!({"i": input})).await;
    let tenant = &answer["data"]["createTenant"];
    assert_eq!((&tenant["plan"], &tenant["status"]), (&json!("pro"), &json!("trial")), "{answer}");
    assert_eq!(tenant["limits"]["connections"], 7);
    let change = "mutation($id: ID!, $i: TenantChangeInput!) { changeTenant(tenant_id: $id, input: $i) {
        tenant { name plan limits } enforced { nodes of } } }";
    let input = json!({"name": "renamed", "plan": "enterprise", "limits": {}});
    let changed = ask(&platform, change, json!({"id": tenant["id"], "i": input})).await;
    let changed = &changed["data"]["changeTenant"];
    assert_eq!(
        (&changed["tenant"]["name"], &changed["tenant"]["plan"]),
        (&json!("renamed"), &json!("enterprise"))
    );
    assert_eq!(changed["enforced"]["nodes"], changed["enforced"]["of"]);
    let unknown = json!({"limits": {"conections": 1}});
    assert_eq!(
        code(&ask(&platform, change, json!({"id": tenant["id"], "i": unknown})).await),
        "INVALID_REQUEST"
    );

    // A tenant's own key, in its own tenant.
    let own = app.tenant().await;
    let api = app.api(&own.api_key);
    assert_eq!(code(&ask(&api, create, json!({"i": {"name": "x"}})).await), "INSUFFICIENT_SCOPE");
    let name = json!({"id": own.tenant_id, "i": {"name": "its own name"}});
    assert_eq!(ask(&api, change, name).await["data"]["changeTenant"]["tenant"]["name"], "its own name");
    let plan = json!({"id": own.tenant_id, "i": {"plan": "free"}});
    assert_eq!(code(&ask(&api, change, plan).await), "INSUFFICIENT_SCOPE");
    let foreign = json!({"id": tenant["id"], "i": {"name": "x"}});
    assert_eq!(code(&ask(&api, change, foreign).await), "NOT_FOUND");

    let made = ask(&api, "mutation { createProject(name: \"side\") { id limits } }", json!({})).await;
    let project = &made["data"]["createProject"]["id"];
    let limit = "mutation($id: ID!, $i: ProjectChangeInput!) { changeProject(project_id: $id, input: $i) {
        project { name limits } enforced { nodes } } }";
    let input = json!({"name": "aside", "limits": {"connections": 3}});
    let changed = ask(&api, limit, json!({"id": project, "i": input})).await;
    assert_eq!(changed["data"]["changeProject"]["project"]["limits"]["connections"], 3, "{changed}");
    let wrong = ask(&api, limit, json!({"id": project, "i": {"limits": {"connections": -1}}})).await;
    assert_eq!(code(&wrong), "INVALID_REQUEST");
    let delete = "mutation($id: ID!) { deleteProject(project_id: $id) { id name enforced { nodes of } } }";
    let deleted = ask(&api, delete, json!({"id": project})).await;
    assert_eq!(deleted["data"]["deleteProject"]["name"], "aside", "{deleted}");
    assert_eq!(code(&ask(&api, delete, json!({"id": project})).await), "NOT_FOUND");

    schemas(&api).await;
    connections(&app, &own).await;
    members(&app, &own).await;

    let audit = "query($f: AuditFilter) { audit(filter: $f, first: 1) { edges { cursor node { sequence action actor target details hash } }
        pageInfo { hasNextPage endCursor } } }";
    let found = ask(&api, audit, json!({"f": {"action": "project.delete"}})).await;
    let entry = &found["data"]["audit"]["edges"][0]["node"];
    assert_eq!((&entry["action"], &entry["target"]), (&json!("project.delete"), project), "{found}");
    let billing = "query($id: ID) { billing(tenant_id: $id) { plan standing event_limit used cost_micros period_start resets_at limits } }";
    let billed = ask(&api, billing, json!({})).await;
    assert_eq!(billed["data"]["billing"]["standing"], "active", "{billed}");
    assert_eq!(code(&ask(&api, billing, json!({"id": tenant["id"]})).await), "NOT_FOUND");
    // An API key pays nothing.
    let cap = "mutation { setSpendCap(micros: 5) { spend_cap_micros } }";
    assert_eq!(code(&ask(&api, cap, json!({})).await), "INSUFFICIENT_SCOPE");

    let delete = "mutation($id: ID!) { deleteTenant(tenant_id: $id) { name enforced { nodes } } }";
    let deleted = ask(&platform, delete, json!({"id": tenant["id"]})).await;
    assert_eq!(deleted["data"]["deleteTenant"]["name"], "renamed", "{deleted}");
    app.finish().await;
}

async fn schemas(api: &Api) {
    let set = "mutation($i: TopicSchemaInput!) { setTopicSchema(input: $i) { topic_schema { pattern version schema } enforced { nodes of } } }";
    let narrow = json!({"type": "object", "required": ["total"]});
    let answer = ask(api, set, json!({"i": {"topic": "orders.*", "schema": narrow}})).await;
    let made = &answer["data"]["setTopicSchema"];
    assert_eq!(
        (&made["topic_schema"]["version"], &made["topic_schema"]["schema"]),
        (&json!(1), &narrow),
        "{answer}"
    );
    assert_eq!(made["enforced"]["nodes"], made["enforced"]["of"]);
    let again = ask(api, set, json!({"i": {"topic": "orders.*", "schema": narrow}})).await;
    assert_eq!(again["data"]["setTopicSchema"]["enforced"], Value::Null, "{again}");
    let wider = json!({"topic": "orders.*", "schema": {"type": "object"}});
    assert_eq!(code(&ask(api, set, json!({"i": wider})).await), "CONFLICT");
    let publish = "mutation($i: EventInput!) { publishEvent(input: $i) { sequence } }";
    let refused = ask(api, publish, json!({"i": {"topic": "orders.eu", "payload": {}}})).await;
    assert_eq!(code(&refused), "INVALID_EVENT_PAYLOAD");
    assert_eq!(refused["errors"][0]["extensions"]["details"]["schema"]["version"], 1, "{refused}");

    let read = "query($v: Int) { topicSchema(topic: \"orders.*\", version: $v) { version created_by }
        topicSchemas { edges { node { pattern } } } }";
    let found = ask(api, read, json!({"v": 1})).await;
    assert_eq!(found["data"]["topicSchemas"]["edges"], json!([{"node": {"pattern": "orders.*"}}]), "{found}");
    let remove =
        "mutation { removeTopicSchema(topic: \"orders.*\") { topic_schema { version } enforced { nodes } } }";
    assert_eq!(ask(api, remove, json!({})).await["data"]["removeTopicSchema"]["topic_schema"]["version"], 1);
    assert_eq!(code(&ask(api, remove, json!({})).await), "NOT_FOUND");
    let published = ask(api, publish, json!({"i": {"topic": "orders.eu", "payload": {}}})).await;
    assert!(published["data"]["publishEvent"]["sequence"].is_u64(), "{published}");
}

async fn connections(app: &TestApp, tenant: &Tenant) {
    let api = app.api(&tenant.api_key);
    let last = app.nodes.len() - 1;
    let mut graphql = app.graphql_at(last, &tenant.api_key).await;
    graphql.stream("1", &["a.>"], None).await;
    let list =
        "{ liveConnections { edges { node { id project_id topics credential } } nodes_answered nodes_of } }";
    let found = until("the connection with its topic", async || {
        let answer = ask(&api, list, json!({})).await;
        let node = answer["data"]["liveConnections"]["edges"][0]["node"].clone();
        (node["topics"] == json!(["a.>"])).then_some((node, answer))
    })
    .await;
    assert_eq!(found.0["project_id"], json!(tenant.project_id));
    assert_eq!(
        found.1["data"]["liveConnections"]["nodes_answered"],
        found.1["data"]["liveConnections"]["nodes_of"]
    );
    let end = "mutation($id: ID!) { endConnection(id: $id) { id enforced { nodes of connections_closed } } }";
    let ended = ask(&api, end, json!({"id": found.0["id"]})).await;
    assert_eq!(ended["data"]["endConnection"]["enforced"]["connections_closed"], 1, "{ended}");
    assert!(graphql.0.end().await.1.code.is_some_and(|code| (4400..4500).contains(&code)));
    assert_eq!(code(&ask(&api, end, json!({"id": found.0["id"]})).await), "NOT_FOUND");
}

async fn members(app: &TestApp, tenant: &Tenant) {
    let api = app.api(&tenant.api_key);
    let invite = "mutation($i: InvitationInput!) { inviteMember(input: $i) { email role invitation_token } }";
    let input = json!({"email": "dev@weir.test", "role": "developer", "name": "Dev"});
    let invited = ask(&api, invite, json!({"i": input})).await;
    let token = &invited["data"]["inviteMember"]["invitation_token"];
    let accept = json!({"invitation": token, "password": "correct horse battery"});
    let person = app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    let access = app.api(person["access_token"].as_str().expect("a token"));
    let list = "{ members { edges { node { user_id email role disabled } } } }";
    let found = ask(&api, list, json!({})).await;
    let member = &found["data"]["members"]["edges"][0]["node"];
    assert_eq!(
        (&member["email"], &member["role"]),
        (&json!("dev@weir.test"), &json!("developer")),
        "{found}"
    );
    // The role decides, here as in REST.
    let create = "mutation { createProject(name: \"by a member\") { id } }";
    assert_eq!(ask(&access, create, json!({})).await.get("errors"), None);
    let set = "mutation($u: ID!, $r: Role!) { setMemberRole(user_id: $u, role: $r) { member { role } enforced { nodes of } } }";
    let demoted = ask(&api, set, json!({"u": member["user_id"], "r": "viewer"})).await;
    assert_eq!(demoted["data"]["setMemberRole"]["member"]["role"], "viewer", "{demoted}");
    let create = "mutation { createProject(name: \"by a viewer\") { id } }";
    assert_eq!(code(&ask(&access, create, json!({})).await), "INSUFFICIENT_SCOPE");
    // Owners are out of an API key's hands.
    assert_eq!(
        code(&ask(&api, set, json!({"u": member["user_id"], "r": "owner"})).await),
        "INSUFFICIENT_SCOPE"
    );
    let remove = "mutation($u: ID!) { removeMember(user_id: $u) { member { email } enforced { nodes of } } }";
    let removed = ask(&api, remove, json!({"u": member["user_id"]})).await;
    assert_eq!(removed["data"]["removeMember"]["member"]["email"], "dev@weir.test", "{removed}");
    assert!(!code(&ask(&access, list, json!({})).await).is_empty());
}

#[tokio::test]
async fn administers_embedded() {
    administers(TestApp::start().await).await;
}

#[tokio::test]
async fn administers_a_cluster() {
    administers(TestApp::cluster(2).await).await;
}
