//! Every administrative route against every kind of caller, generated from the route table that the server itself
//! publishes (`x-permission` in `/openapi.json`) and the permission table.

use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use weir_core::{Permission, Permissions, Role, Scope};
use weir_testkit::{Answer, Api, Tenant, TestApp};

/// One operation of the published description.
#[derive(Clone, Debug)]
struct Route {
    method: Method,
    /// With `{names}` in it.
    path: String,
    permission: Permission,
}

async fn routes(api: &Api) -> Vec<Route> {
    let document = api.get("/openapi.json", &[]).await.expect(200);
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let Ok(permission) = serde_json::from_value(operation["x-permission"].clone()) else {
                assert!(!path.contains("/admin/"), "{method} {path} does not say which permission it takes");
                continue;
            };
            let method = method.to_uppercase().parse().expect("a method");
            routes.push(Route { method, path: path.clone(), permission });
        }
    }
    assert!(routes.len() > 10, "the description lists {} routes with permissions", routes.len());
    // Whoever deletes the tenant goes with it.
    routes.sort_by_key(|route| route.permission == Permission::TenantDelete);
    routes
}

/// Somebody with a name for messages, and what the table says they may do in the first tenant.
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) api: Api,
    pub(crate) held: Permissions,
    /// A scope that it may pass on, if it may touch keys at all.
    passes_on: Scope,
}

/// A path with ids of things that exist in the tenant, new ones where the route would use them up.
async fn existing(app: &TestApp, tenant: &Tenant, route: &Route, scope: Scope) -> String {
    let mut path = route.path.clone();
    if path.contains("/keys/{id}") {
        let wish = json!({"name": "target", "scopes": [scope]});
        let key = app.api(&tenant.api_key).post("/v1/admin/keys", &wish).await.expect(201);
        path = path.replace("{id}", key["id"].as_str().expect("an id"));
    } else if path.contains("/projects/{id}") && route.method == Method::DELETE {
        let (projects, name) = (format!("/v1/admin/tenants/{}/projects", tenant.tenant_id), fresh_name());
        let made = app.api(&tenant.api_key).post(&projects, &json!({"name": name})).await.expect(201);
        path = path.replace("{id}", made["id"].as_str().expect("an id"));
    } else if path.contains("/projects/{id}") {
        path = path.replace("{id}", &tenant.project_id);
    } else if path.contains("/tenants/{id}") {
        path = path.replace("{id}", &tenant.tenant_id);
    }
    if path.contains("{user}") {
        path = path.replace("{user}", &newcomer(app, tenant).await);
    }
    if path.contains("{invitation}") {
        let invited = invite(app, tenant).await;
        path = path.replace("{invitation}", invited["id"].as_str().expect("an id"));
    }
    // Whatever else a route names need not exist for the question of permission.
    path.replace("{topic}", "matrix.topic").replace("{id}", &missing_id(&route.path))
}

fn fresh_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A seat that is kept for somebody new.
async fn invite(app: &TestApp, tenant: &Tenant) -> Value {
    let wish = json!({"email": format!("{}@acme.test", fresh_name()), "role": "viewer"});
    let path = format!("/v1/admin/tenants/{}/members", tenant.tenant_id);
    app.api(&tenant.api_key).post(&path, &wish).await.expect(201)
}

/// A member who was not there before.
async fn newcomer(app: &TestApp, tenant: &Tenant) -> String {
    let invited = invite(app, tenant).await;
    let accept = json!({"invitation": invited["invitation_token"], "password": "correct horse battery"});
    let body = app.api("").post("/v1/auth/accept", &accept).await.expect(200);
    members::text(&body["user"]["id"])
}

/// The same path, naming a thing of the right kind that nobody has.
fn missing(path: &str) -> String {
    let id = missing_id(path);
    let nobody = |kind: &str| format!("{kind}{}", "0".repeat(32));
    path.replace("{id}", &id).replace("{user}", &nobody("usr_")).replace("{invitation}", &nobody("inv_"))
}

/// An id of the right kind that names nothing.
fn missing_id(path: &str) -> String {
    let kinds = [
        ("/keys/", "key_"),
        ("/signing-keys/", "sig_"),
        ("/projects/", "prj_"),
        ("/connections/", "con_"),
        ("/alerts/", "alt_"),
        ("/webhooks/", "whk_"),
        ("/dead-letters/", "dlq_"),
        ("/tenants/", "ten_"),
    ];
    let prefix = kinds.iter().rev().find(|(part, _)| path.contains(part)).map_or("ten_", |kind| kind.1);
    format!("{prefix}{}", "0".repeat(32))
}

/// What a route is asked to do: as little as it takes.
fn body(route: &Route) -> Value {
    match route.path.as_str() {
        // A key whose tokens may do nothing: for more, more than the permission is asked of the maker.
        "/v1/admin/signing-keys" => json!({"name": "k", "topics": {"subscribe": [], "publish": []}}),
        _ => json!({}),
    }
}

async fn ask(actor: &Api, route: &Route, path: &str) -> Answer {
    let request = actor.request(route.method.clone(), path);
    let request = if route.method == Method::GET { request } else { request.json(&body(route)) };
    Answer::of(request).await
}

/// Nobody gets a body that says more than the code.
fn without_request_id(mut body: Value) -> Value {
    if let Some(error) = body["error"].as_object_mut() {
        error.remove("request_id");
    }
    body
}

pub(crate) async fn key_actors(app: &TestApp, tenant: &Tenant) -> Vec<Actor> {
    let mut actors = Vec::new();
    for scope in Scope::ALL {
        let wish = json!({"name": "actor", "scopes": [scope]});
        let key = app.api(&tenant.api_key).post("/v1/admin/keys", &wish).await.expect(201);
        let held = Permissions::of_scopes([scope].into_iter().collect());
        let api = app.api(key["api_key"].as_str().expect("a key"));
        actors.push(Actor { name: format!("a key with {scope}"), api, held, passes_on: scope });
    }
    let token = app.api(&tenant.token(&[">"], &[">"]));
    let (name, passes_on) = ("a client token".to_owned(), Scope::EventsPublish);
    actors.push(Actor { name, api: token, held: Permissions::default(), passes_on });
    actors
}

/// One member of each role, and an operator.
pub(crate) async fn people(app: &TestApp, tenant: &Tenant) -> Vec<Actor> {
    let owner = members::owner(app, tenant, "owner@acme.test").await;
    let mut actors = Vec::new();
    for role in Role::ALL {
        let email = format!("{role}@acme.test");
        let person = match role {
            Role::Owner => &owner,
            Role::Operator => &members::operator(app, &email).await,
            _ => &members::member(app, &owner, tenant, &email, role.as_str()).await,
        };
        let api = app.api(&person.access);
        let (name, held) = (role.to_string(), Permissions::of_role(role));
        actors.push(Actor { name, api, held, passes_on: Scope::EventsPublish });
    }
    actors
}

#[tokio::test]
async fn every_route_lets_in_who_holds_its_permission_and_nobody_else() {
    let app = start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let mut actors = key_actors(&app, &tenant).await;
    actors.extend(people(&app, &tenant).await);
    let stranger = app.api(&other.api_key);
    let stranger_holds = Permissions::of_scopes(weir_core::Scopes::all());
    for route in routes(&app.api(&tenant.api_key)).await {
        let at = || format!("{} {}", route.method, route.path);
        let path = existing(&app, &tenant, &route, Scope::AdminWrite).await;
        ask(&app.nodes[0].api(), &route, &path).await.refused(401, "UNAUTHENTICATED");
        actors.sort_by_key(|actor| actor.held.contains(route.permission));
        for actor in &actors {
            let path = match route.permission {
                Permission::TenantDelete => path.clone(),
                _ => existing(&app, &tenant, &route, actor.passes_on).await,
            };
            let answer = ask(&actor.api, &route, &path).await;
            if actor.held.contains(route.permission) {
                assert!(
                    ![401, 403, 500].contains(&answer.status),
                    "{} for {}: {}",
                    at(),
                    actor.name,
                    answer.body
                );
            } else {
                assert_eq!(answer.status, 403, "{} for {}: {}", at(), actor.name, answer.body);
                answer.refused(403, "INSUFFICIENT_SCOPE");
            }
        }
        // What another tenant owns looks exactly like what nobody owns.
        if path.contains("_") && route.path.contains("{id}") && stranger_holds.contains(route.permission) {
            let theirs = ask(&stranger, &route, &path).await;
            let nobodys = ask(&stranger, &route, &missing(&route.path)).await;
            assert_eq!(theirs.status, nobodys.status, "{}: {}", at(), theirs.body);
            assert_eq!(without_request_id(theirs.body), without_request_id(nobodys.body), "{}", at());
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn only_a_person_asks_who_that_is_and_everybody_may_sign_in() {
    let app = start().await;
    let tenant = app.tenant().await;
    let keys = key_actors(&app, &tenant).await;
    let people = people(&app, &tenant).await;
    let document = app.api("").get("/openapi.json", &[]).await.expect(200);
    let auth = |path: &&String| path.starts_with("/v1/auth/");
    let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().filter(auth).collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        let (method, operation) =
            document["paths"][path].as_object().expect("operations").iter().next().expect("an operation");
        let route = Route {
            method: method.to_uppercase().parse().expect("a method"),
            path: path.clone(),
            permission: Permission::TenantRead,
        };
        // Where nobody need sign in, `security` says so.
        if operation["security"] == json!([{}]) {
            let answer = ask(&app.nodes[0].api(), &route, path).await;
            // No identity provider is configured here.
            match path.as_str() {
                "/v1/auth/oidc/start" => answer.refused(404, "NOT_FOUND"),
                _ => answer.refused(400, "INVALID_REQUEST"),
            }
            continue;
        }
        ask(&app.nodes[0].api(), &route, path).await.refused(401, "UNAUTHENTICATED");
        for key in &keys {
            ask(&key.api, &route, path).await.refused(401, "INVALID_TOKEN");
        }
        for person in &people {
            let answer = ask(&person.api, &route, path).await;
            assert!([200, 400].contains(&answer.status), "{path} for {}: {}", person.name, answer.body);
        }
    }
    app.finish().await;
}

/// A server that lets one address sign in as often as a test does.
pub(crate) async fn start() -> TestApp {
    TestApp::start_with(&[("WEIR_AUTH_ATTEMPTS_PER_ADDRESS", "0")]).await
}

#[test]
fn the_table_names_a_role_for_everything() {
    for permission in Permission::ALL {
        assert!(!permission.roles().is_empty(), "{permission}");
        assert!(Role::ALL.iter().any(|role| Permissions::of_role(*role).contains(*permission)));
    }
}

/// The statements in a server's log from some byte on, those that it also makes on its own left out.
fn statements(app: &TestApp, from: usize, own: &HashSet<String>) -> (Vec<String>, usize) {
    let log = app.nodes[0].log();
    let lines = log.get(from..).unwrap_or_default().lines();
    let statement = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["target"] == "sqlx::query").then(|| format!("{} {}", line["summary"], line["db.statement"]))
    };
    let mut found: Vec<_> = lines.filter_map(statement).filter(|one| !own.contains(one)).collect();
    found.sort_unstable();
    (found, log.len())
}

/// How long an answer takes says nothing either: what is another's is looked for in the same way as what is nobody's.
#[tokio::test]
async fn what_is_anothers_takes_the_same_statements_as_what_is_nobodys() {
    let app = TestApp::start_with(&[
        ("WEIR_AUTH_ATTEMPTS_PER_ADDRESS", "0"),
        ("WEIR_TELEMETRY_LOG_LEVEL", "info,sqlx::query=debug"),
        ("WEIR_TELEMETRY_LOG_FORMAT", "json"),
    ])
    .await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let stranger = app.api(&other.api_key);
    stranger.get("/v1/admin/keys", &[]).await.expect(200);
    // What the server asks by itself, all of it every few seconds.
    let (mut own, mut read) = (HashSet::new(), 0);
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(4) {
        let (found, end) = statements(&app, read, &own);
        read = end;
        own.extend(found);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let holds = Permissions::of_scopes(weir_core::Scopes::all());
    let mut compared = 0;
    for route in routes(&app.api(&tenant.api_key)).await {
        if !route.path.contains("{id}") || !holds.contains(route.permission) {
            continue;
        }
        let path = existing(&app, &tenant, &route, Scope::AdminWrite).await;
        let mut last = (Vec::new(), Vec::new());
        // Now and then the server does something of its own that is rarer.
        for _ in 0..5 {
            let taken = async |path: &str| {
                let from = app.nodes[0].log().len();
                let answer = ask(&stranger, &route, path).await;
                assert!((400..500).contains(&answer.status), "{} {path}: {}", route.method, answer.body);
                statements(&app, from, &own).0
            };
            last = (taken(&path).await, taken(&missing(&route.path)).await);
            if last.0 == last.1 {
                break;
            }
        }
        assert_eq!(last.0, last.1, "{} {}", route.method, route.path);
        compared += usize::from(!last.0.is_empty());
    }
    assert!(compared >= 5, "only {compared} routes asked the database anything");
    app.finish().await;
}
