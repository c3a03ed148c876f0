//! The schema as a whole.

use super::limits::Limits;
use super::request::Params;
use super::{schema, sdl};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::OperationType;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What every tool asks for first.
const INTROSPECTION: &str = r#"query IntrospectionQuery { __schema { queryType { name } mutationType { name }
  subscriptionType { name } types { ...FullType } directives { name description locations args { ...InputValue } } } }
fragment FullType on __Type { kind name description fields(includeDeprecated: true) { name description
  args { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason } inputFields { ...InputValue }
  interfaces { ...TypeRef } enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
  possibleTypes { ...TypeRef } }
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue }
fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
  ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }"#;

fn prepare(query: &str) -> Result<(async_graphql::Request, OperationType), String> {
    let body = json!({ "query": query }).to_string();
    let params = Params::from_body(body.as_bytes()).map_err(|error| error.message)?;
    params.prepare(&Limits::default()).map_err(|error| error.message)
}

async fn introspect(limits: &Limits) -> Value {
    let (request, kind) = prepare(INTROSPECTION).expect("within the limits");
    assert_eq!(kind, OperationType::Query);
    serde_json::to_value(schema(limits).execute(request).await).expect("json")
}

#[tokio::test]
async fn everything_is_described() {
    let answer = introspect(&Limits::default()).await;
    assert_eq!(answer.get("errors"), None);
    let mut bare = Vec::new();
    let undescribed = |one: &Value| one["description"].as_str().is_none_or(|text| text.trim().is_empty());
    let list = |one: &Value, member: &str| one[member].as_array().cloned().unwrap_or_default();
    for kind in list(&answer["data"]["__schema"], "types") {
        let name = kind["name"].as_str().expect("a name").to_owned();
        // The language's own.
        if name.starts_with("__") || name == "ID" {
            continue;
        }
        bare.extend(undescribed(&kind).then(|| name.clone()));
        for member in ["fields", "inputFields", "enumValues"].iter().flat_map(|member| list(&kind, member)) {
            let member_name = format!("{name}.{}", member["name"].as_str().expect("a name"));
            bare.extend(undescribed(&member).then(|| member_name.clone()));
            for argument in list(&member, "args").into_iter().filter(undescribed) {
                bare.push(format!("{member_name}({})", argument["name"]));
            }
        }
    }
    assert_eq!(bare, [""; 0]);
}

#[tokio::test]
async fn introspection_can_be_off() {
    let off = introspect(&Limits { introspection: false, ..Limits::default() }).await;
    assert!(off["data"].get("__schema").is_none_or(Value::is_null), "{off}");
}

#[test]
fn the_schema_reads_as_it_is_committed() {
    let committed = include_str!("../../../../docs/schema.graphql");
    assert!(committed == sdl(), "docs/schema.graphql is not what `weir schema` prints: run `make generate`");
}

/// Texts that would cost their reader much more than they cost their writer.
fn bombs() -> Vec<(&'static str, String)> {
    let doubling: String =
        (0..100).map(|n| format!("fragment F{n} on Query {{ ...F{} ...F{} }} ", n + 1, n + 1)).collect();
    let cycle: String =
        (0..50).map(|n| format!("fragment F{n} on Query {{ ...F{} }} ", (n + 1) % 50)).collect();
    let aliases: String = (0..900).map(|n| format!("a{n}:topics ")).collect();
    vec![
        ("depth", format!("{}{}", "{a".repeat(500_000), "}".repeat(500_000))),
        ("values", format!("{{ a(b: {}{}) }}", "[".repeat(500_000), "]".repeat(500_000))),
        ("objects", format!("{{ a(b: {}1{}) }}", "{a:".repeat(31), "}".repeat(31))),
        ("types", format!("query($a: {}Int{}) {{ a }}", "[".repeat(31), "]".repeat(31))),
        ("aliases", format!("{{ {aliases} }}")),
        ("directives", format!("{{ topics {} }}", "@skip(if:false)".repeat(300))),
        ("doubling", format!("{{ ...F0 }} {doubling} fragment F100 on Query {{ __typename }}")),
        ("cycle", format!("{{ ...F0 }} {cycle}")),
        ("fields", format!("{{ {} }}", "__typename ".repeat(1_900))),
        ("unknown fields", format!("{{ {} }}", "nothing_of_that_name ".repeat(450))),
        ("operations", "query A { __typename } ".repeat(300)),
        ("a megabyte", format!("{{ a(b: \"{}\") }}", "x".repeat(1 << 20))),
        ("comments", format!("#{}\n{{ a }}", "x".repeat(60 << 10))),
        ("braces in a row", "{}".repeat(900)),
        ("open", "{ a(b: {c: [".repeat(8)),
        (
            "variables",
            format!("query({}) {{ a }}", (0..300).map(|n| format!("$v{n}:Int")).collect::<String>()),
        ),
    ]
}

#[tokio::test]
async fn bombs_are_refused_at_once() {
    // Five milliseconds in a release build; this one is unoptimised and shares its processors with other tests.
    let patience = Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 5 });
    let schema = schema(&Limits::default());
    for (name, text) in bombs() {
        let attempt = async || {
            let begun = Instant::now();
            let refused = match prepare(&text) {
                Err(_) => true,
                Ok((request, _)) => schema.execute(request).await.is_err(),
            };
            assert!(refused, "{name} was executed");
            begun.elapsed()
        };
        let mut best = Duration::MAX;
        for _ in 0..3 {
            best = best.min(attempt().await);
        }
        println!("{name}: {best:?}");
        assert!(best < patience, "{name} took {best:?}");
    }
}

#[test]
fn the_parser_takes_what_the_scan_lets_pass() {
    // Its own bound on recursion is above ours.
    let nested = format!("{{ a(b: {}1{}) }}", "[".repeat(30), "]".repeat(30));
    assert!(parse_query(&nested).is_ok());
    assert!(prepare(&nested).is_ok());
}

#[tokio::test]
async fn defaults_of_variables_count_in_directives() {
    let text = "query($no: Boolean! = false, $yes: Boolean! = true) {
        __schema @include(if: $no) { queryType { name } } again: __schema @include(if: $yes) { queryType { name } } }";
    let (request, _) = prepare(text).expect("in order");
    let answer = schema(&Limits::default()).execute(request).await;
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    assert_eq!(answer.data.into_json().ok(), Some(json!({"again": {"queryType": {"name": "Query"}}})));
}
