//! Every field of GraphQL's schema against every kind of caller, generated from the schema itself: its descriptions say
//! which permission a field needs.

use crate::matrix::{key_actors, people, start};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use weir_core::{Permission, Permissions, Scopes};
use weir_testkit::{Api, Tenant};

const SCHEMA: &str =
    "{ __schema { types { name kind enumValues { name } inputFields { name defaultValue type { ...T } }
    fields { name description type { ...T } args { name defaultValue type { ...T } } } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

/// The types of the schema, by name.
struct Schema(HashMap<String, Value>);

/// A field of a root.
struct Field {
    kind: &'static str,
    name: String,
    permission: Permission,
    definition: Value,
}

impl Schema {
    async fn of(api: &Api) -> Self {
        let answer = api.post("/graphql", &json!({ "query": SCHEMA })).await.expect(200);
        let types = answer["data"]["__schema"]["types"].as_array().expect("types").clone();
        Self(
            types.into_iter().map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), one)).collect(),
        )
    }

    fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        for (kind, root) in [("query", "Query"), ("mutation", "Mutation")] {
            for definition in self.0[root]["fields"].as_array().expect("fields") {
                let name = definition["name"].as_str().expect("a name").to_owned();
                let told = definition["description"].as_str().unwrap_or_default().replace('\n', " ");
                let needs = told.split("eeds `").nth(1).and_then(|rest| rest.split('`').next());
                let needs = needs.or_else(|| told.contains("For operators.").then_some("tenants:manage"));
                let needs = needs.unwrap_or_else(|| panic!("{name} does not say what it needs: {told}"));
                let permission =
                    serde_json::from_value(json!(needs)).unwrap_or_else(|_| panic!("{name}: {needs}"));
                fields.push(Field { kind, name, permission, definition: definition.clone() });
            }
        }
        assert!(fields.len() > 30, "{} fields", fields.len());
        fields
    }

    /// A value of a type, with ids of a tenant; of nobody's where there is none.
    fn value(&self, shape: &Value, name: &str, of: Option<&Tenant>) -> Value {
        let nobody = |prefix: &str| json!(format!("{prefix}_{}", "0".repeat(32)));
        match (shape["kind"].as_str().unwrap_or_default(), name) {
            ("NON_NULL", _) => self.value(&shape["ofType"], name, of),
            ("LIST", _) => json!([self.value(&shape["ofType"], name, of)]),
            (_, "tenant_id") => of.map_or_else(|| nobody("ten"), |tenant| json!(tenant.tenant_id)),
            (_, "project_id") => of.map_or_else(|| nobody("prj"), |tenant| json!(tenant.project_id)),
            (_, "user_id") => nobody("usr"),
            (_, "role") => json!("viewer"),
            ("ENUM", _) => {
                self.0[shape["name"].as_str().unwrap_or_default()]["enumValues"][0]["name"].clone()
            }
            ("INPUT_OBJECT", _) => {
                let fields = self.0[shape["name"].as_str().unwrap_or_default()]["inputFields"].clone();
                Value::Object(self.given(&fields, of))
            }
            (_, "name") => json!(format!("{:032x}", rand::random::<u128>())),
            (_, "email") => json!(format!("{:032x}@acme.test", rand::random::<u128>())),
            _ => match shape["name"].as_str().unwrap_or_default() {
                "Int" | "Long" => json!(1),
                "JSON" => json!({}),
                _ => json!("x"),
            },
        }
    }

    /// What must be given of some inputs, and what names a tenant or a project.
    fn given(&self, inputs: &Value, of: Option<&Tenant>) -> Map<String, Value> {
        let mut given = Map::new();
        for input in inputs.as_array().into_iter().flatten() {
            let name = input["name"].as_str().unwrap_or_default();
            let required = input["type"]["kind"] == "NON_NULL" && input["defaultValue"].is_null();
            if required || matches!(name, "tenant_id" | "project_id" | "payload") {
                given.insert(name.to_owned(), self.value(&input["type"], name, of));
            }
        }
        given
    }

    /// Asks for the field, with as little as it takes.
    async fn ask(&self, api: &Api, field: &Field, of: Option<&Tenant>) -> Value {
        let mut variables = self.given(&field.definition["args"], of);
        // What it is about, where its own name says so.
        let about = if field.name == "endConnection" { "con" } else { "key" };
        if variables.contains_key("id") {
            variables.insert("id".into(), json!(format!("{about}_{}", "0".repeat(32))));
        }
        let args = field.definition["args"].as_array().into_iter().flatten();
        let used: Vec<_> =
            args.filter(|one| variables.contains_key(one["name"].as_str().unwrap_or_default())).collect();
        let list = |one: &dyn Fn(&Value) -> String, around: (&str, &str)| match used.is_empty() {
            true => String::new(),
            false => format!(
                "{}{}{}",
                around.0,
                used.iter().map(|used| one(used)).collect::<Vec<_>>().join(", "),
                around.1
            ),
        };
        let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
        let declared = list(&|one| format!("${}: {}", name(one), written(&one["type"])), ("(", ")"));
        let passed = list(&|one| format!("{0}: ${0}", name(one)), ("(", ")"));
        let query = format!("{}{declared} {{ {}{passed} {{ __typename }} }}", field.kind, field.name);
        api.post("/graphql", &json!({"query": query, "variables": variables})).await.body
    }
}

fn written(shape: &Value) -> String {
    match shape["kind"].as_str().unwrap_or_default() {
        "NON_NULL" => format!("{}!", written(&shape["ofType"])),
        "LIST" => format!("[{}]", written(&shape["ofType"])),
        _ => shape["name"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Code and message of the one error, if there is one.
fn refusal(answer: &Value) -> (&str, &str) {
    let error = &answer["errors"][0];
    (error["extensions"]["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn every_field_lets_in_who_holds_its_permission_and_nobody_else() {
    let app = start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let keys = key_actors(&app, &tenant).await;
    let people = people(&app, &tenant).await;
    let schema = Schema::of(&app.api(&tenant.api_key)).await;
    let (stranger, stranger_holds) = (app.api(&other.api_key), Permissions::of_scopes(Scopes::all()));
    for field in schema.fields() {
        let events = field.permission.as_str().starts_with("events:");
        // People publish in a project that they name, which GraphQL over HTTP takes from a header; a client token's topics
        // allow what no permission does.
        let actors = keys.iter().chain(people.iter().filter(|_| !events));
        for actor in actors.filter(|actor| !(events && actor.name == "a client token")) {
            let answer = schema.ask(&actor.api, &field, None).await;
            let (code, message) = refusal(&answer);
            let denied = ["INSUFFICIENT_SCOPE", "INVALID_TOKEN", "INVALID_API_KEY"].contains(&code);
            assert_ne!(code, "INTERNAL", "{} for {}: {answer}", field.name, actor.name);
            assert_eq!(
                denied,
                !actor.held.contains(field.permission),
                "{} for {}: {code}: {message}",
                field.name,
                actor.name
            );
        }
        let names = |of| schema.given(&field.definition["args"], of);
        if stranger_holds.contains(field.permission) && names(Some(&tenant)) != names(None) {
            let theirs = schema.ask(&stranger, &field, Some(&tenant)).await;
            let nobodys = schema.ask(&stranger, &field, None).await;
            assert_eq!(refusal(&theirs), refusal(&nobodys), "{}: {theirs} {nobodys}", field.name);
            assert_eq!(theirs["data"], nobodys["data"], "{}", field.name);
        }
    }
    app.finish().await;
}
