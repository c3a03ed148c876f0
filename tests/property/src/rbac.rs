//! Properties of roles.

use crate::world::{World, property, text};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::{Value, json};
use weir_core::{Permission, Permissions, Role};
use weir_testkit::{Answer, Api, Ws};

/// The roles of members.
const ROLES: [Role; 5] = [Role::Owner, Role::Admin, Role::Developer, Role::Billing, Role::Viewer];

/// Every operation that takes a permission, as the server describes itself: method, path of nothing that exists, and
/// the permission.
async fn operations(api: &Api) -> Vec<(Method, String, Permission)> {
    let document = api.get("/openapi.json", &[]).await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
    });
    all.filter_map(|(path, method, operation)| {
        let permission = serde_json::from_value(operation["x-permission"].clone()).ok()?;
        Some((method.to_uppercase().parse().expect("a method"), nobodys(path), permission))
    })
    .collect()
}

fn nobodys(path: &str) -> String {
    let kinds = [
        ("/tenants/{id}", "ten"),
        ("/projects/{id}", "prj"),
        ("/signing-keys/{id}", "sig"),
        ("/keys/{id}", "key"),
        ("/connections/{id}", "con"),
    ];
    let kind = kinds.iter().find(|(part, _)| path.contains(part)).map_or("ten", |kind| kind.1);
    let id = |kind: &str| format!("{kind}_{}", "0".repeat(32));
    path.replace("{id}", &id(kind))
        .replace("{user}", &id("usr"))
        .replace("{invitation}", &id("inv"))
        .replace("{topic}", "a.b")
}

property!(
    /// Feature: realtime-saas-platform, Property 23: For any user with assigned roles, the system should
    /// enforce role-based permissions for all operations
    role_based_permissions,
    (select(ROLES.to_vec()), 0..2_usize, proptest::collection::vec(any::<Index>(), 4)),
    enforces_roles
);

async fn enforces_roles(world: &mut World, (role, node, picks): (Role, usize, Vec<Index>)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let token = &world.staff().await.token;
    world.set_role(node, role).await;
    let (api, held) = (world.app.api_at(node, token), Permissions::of_role(role));
    let operations = operations(&api).await;
    prop_assert!(operations.len() > 20);
    for pick in picks {
        let (method, path, permission) = pick.get(&operations);
        let request = api.request(method.clone(), path).header("x-weir-project", &tenant.project_id);
        let request = if *method == Method::GET { request } else { request.json(&json!({})) };
        let answer = Answer::of(request).await;
        if held.contains(*permission) {
            prop_assert!(
                ![401, 403, 500].contains(&answer.status),
                "{} {} as {}: {}",
                method,
                path,
                role,
                answer.body
            );
        } else {
            prop_assert_eq!(answer.status, 403, "{} {} as {}: {}", method, path, role, &answer.body);
            prop_assert_eq!(&answer.body["error"]["code"], "INSUFFICIENT_SCOPE");
        }
    }
    // And what is done with events, in the project that the request names.
    let publish = api.request(Method::POST, "/v1/events").header("x-weir-project", &tenant.project_id);
    let publish = Answer::of(publish.json(&json!({"topic": format!("{case}.x"), "payload": 1}))).await;
    let allowed = held.contains(Permission::EventsPublish);
    prop_assert_eq!(publish.status, if allowed { 201 } else { 403 }, "{}: {}", role, publish.body);
    for path in ["/v1/topics", "/v1/events?topics=a"] {
        let read = api.request(Method::GET, path).header("x-weir-project", &tenant.project_id);
        let status = Answer::of(read).await.status;
        let allowed = held.contains(Permission::EventsSubscribe);
        prop_assert_eq!(status, if allowed { 200 } else { 403 }, "{}: {}", role, path);
    }
    Ok(())
}

/// Something to administer that changes something.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    CreateProject,
    CreateKey,
    CreateSigningKey,
    Invite,
    InviteOwner,
    RenameTenant,
    LimitProject,
    ChangePlan,
    CreateTenant,
}

impl Action {
    const ALL: [Self; 9] = [
        Self::CreateProject,
        Self::CreateKey,
        Self::CreateSigningKey,
        Self::Invite,
        Self::InviteOwner,
        Self::RenameTenant,
        Self::LimitProject,
        Self::ChangePlan,
        Self::CreateTenant,
    ];

    /// All the permissions that it takes.
    fn takes(self) -> &'static [Permission] {
        match self {
            Self::CreateProject | Self::LimitProject => &[Permission::ProjectsWrite],
            Self::CreateKey | Self::CreateSigningKey => &[Permission::KeysWrite],
            Self::Invite => &[Permission::MembersWrite],
            Self::InviteOwner => &[Permission::MembersWrite, Permission::OwnersWrite],
            Self::RenameTenant => &[Permission::TenantWrite],
            Self::ChangePlan => &[Permission::TenantWrite, Permission::TenantsManage],
            Self::CreateTenant => &[Permission::TenantsManage],
        }
    }

    fn request(self, tenant: &str, project: &str, case: &str) -> (Method, String, Value) {
        let (tenant, project_path) =
            (format!("/v1/admin/tenants/{tenant}"), format!("/v1/admin/projects/{project}"));
        let email = format!("{case}@acme.test");
        match self {
            Self::CreateProject => (Method::POST, format!("{tenant}/projects"), json!({"name": case})),
            Self::CreateKey => {
                let wish = json!({"name": case, "scopes": ["events:subscribe"], "project_id": project});
                (Method::POST, "/v1/admin/keys".into(), wish)
            }
            Self::CreateSigningKey => {
                let topics = json!({"subscribe": ["a"], "publish": []});
                let wish =
                    json!({"name": case, "project_id": project, "topics": topics, "secret": "x".repeat(32)});
                (Method::POST, "/v1/admin/signing-keys".into(), wish)
            }
            Self::Invite => {
                (Method::POST, format!("{tenant}/members"), json!({"email": email, "role": "admin"}))
            }
            Self::InviteOwner => {
                (Method::POST, format!("{tenant}/members"), json!({"email": email, "role": "owner"}))
            }
            Self::RenameTenant => (Method::PATCH, tenant, json!({"name": case})),
            Self::LimitProject => (Method::PATCH, project_path, json!({"limits": {"connections": 9}})),
            Self::ChangePlan => (Method::PATCH, tenant, json!({"plan": "enterprise"})),
            Self::CreateTenant => (Method::POST, "/v1/admin/tenants".into(), json!({"name": case})),
        }
    }
}

property!(
    /// Feature: realtime-saas-platform, Property 24: For any admin function access attempt, the system should
    /// validate role permissions before allowing actions
    admin_access,
    (select(Role::ALL.to_vec()), select(Action::ALL.to_vec()), 0..2_usize),
    validates_first
);

async fn validates_first(world: &mut World, (role, action, node): (Role, Action, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let staff = world.staff().await;
    let token = match role {
        Role::Operator => &staff.operator,
        _ => {
            world.set_role(node, role).await;
            &staff.token
        }
    };
    let entries = async || {
        let trail = world.app.api_at(node, &tenant.api_key).get("/v1/admin/audit/verify", &[]).await;
        trail.expect(200)["entries"].clone()
    };
    let before = entries().await;
    // Unique in the installation: the backends' cases and names of other actions are apart.
    let name = format!("{case}-{}", &tenant.tenant_id[4..]);
    let (method, path, body) = action.request(&tenant.tenant_id, &tenant.project_id, &name);
    let answer = Answer::of(world.app.api_at(node, token).request(method, &path).json(&body)).await;
    let held = Permissions::of_role(role);
    let missing: Vec<_> = action.takes().iter().filter(|permission| !held.contains(**permission)).collect();
    if missing.is_empty() && action == Action::CreateSigningKey && answer.status == 409 {
        // A project has room for a hundred of them.
        return Ok(());
    }
    if missing.is_empty() {
        prop_assert!([200, 201].contains(&answer.status), "{:?} as {}: {}", action, role, answer.body);
        if action != Action::CreateTenant {
            prop_assert_ne!(entries().await, before, "the trail tells of it");
        }
    } else {
        prop_assert_eq!(answer.status, 403, "{:?} as {}: {}", action, role, &answer.body);
        prop_assert_eq!(&answer.body["error"]["code"], "INSUFFICIENT_SCOPE");
        prop_assert!(missing.iter().any(|one| answer.body["error"]["details"]["missing"] == json!(one)));
        prop_assert_eq!(entries().await, before, "nothing was changed");
    }
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 25: For any role change, access permissions should be
    /// immediately updated across all active sessions
    role_change,
    (select(ROLES.to_vec()), select(ROLES.to_vec()), 0..2_usize, 0..2_usize),
    changes_everywhere
);

async fn changes_everywhere(
    world: &mut World,
    (from, to, at, node): (Role, Role, usize, usize),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let (topic, staff) = (format!("{case}.x"), world.staff().await);
    let may = |role, permission| Permissions::of_role(role).contains(permission);
    let (reads, writes) = (Permission::EventsSubscribe, Permission::EventsPublish);
    world.set_role(at, from).await;
    let bearer = format!("Bearer {}", staff.token);
    let headers = [("authorization", bearer.as_str()), ("x-weir-project", tenant.project_id.as_str())];
    let mut ws = Ws::attempt(&world.app.ws_url(node, ""), &headers).await.expect("a WebSocket");
    ws.expect("connected").await;
    let subscribe = json!({"type": "subscribe", "topics": [topic]});
    let subscribed = ws.ask(subscribe.clone()).await["type"] == "subscribed";
    prop_assert_eq!(subscribed, may(from, reads));

    let changed = world.set_role(at, to).await;
    let nodes = json!(world.app.nodes.len());
    prop_assert_eq!((&changed["enforced"]["nodes"], &changed["enforced"]["of"]), (&nodes, &nodes));
    // From the answer on: the open connection, its subscription, and the token that was issued before, on every node.
    let published = ws.ask(json!({"type": "publish", "topic": format!("{case}.y"), "payload": 1})).await;
    prop_assert_eq!(published["type"] == "published", may(to, writes), "{}", published);
    world.app.api_at(at, &tenant.api_key).publish(&topic, &json!("after")).await;
    if subscribed && may(to, reads) {
        prop_assert_eq!(&ws.event().await["payload"], "after");
    }
    let again = ws.ask(subscribe).await;
    prop_assert_eq!(again["type"] == "subscribed", may(to, reads), "{}", again);
    for node in 0..world.app.nodes.len() {
        let api = world.app.api_at(node, &staff.token);
        let me = api.get("/v1/auth/me", &[]).await.expect(200);
        prop_assert_eq!(text(&me["role"]), to.as_str());
        // A body that nobody can use: whoever may make keys is told so.
        let status = api.post("/v1/admin/keys", &json!({})).await.status;
        prop_assert_eq!(status, if may(to, Permission::KeysWrite) { 400 } else { 403 });
        let topics = api.request(Method::GET, "/v1/topics").header("x-weir-project", &tenant.project_id);
        let status = Answer::of(topics).await.status;
        prop_assert_eq!(status, if may(to, reads) { 200 } else { 403 });
    }
    // A role that reads no events was sent none.
    if !may(to, reads) {
        ws.send(&json!({"type": "ping"})).await;
        loop {
            let frame = ws.next().await.expect("the connection stays");
            prop_assert_ne!(&frame["type"], "event");
            if frame["type"] == "pong" {
                break;
            }
        }
    }
    ws.close().await;
    Ok(())
}
