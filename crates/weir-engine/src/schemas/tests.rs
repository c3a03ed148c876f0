//! What is taken and what is not, what checking costs, and what it says.

use super::check::{InForce, ProjectSchemas, Steps};
use super::compile::{Ready, compile, parse};
use super::cost::Size;
use super::memory::Memory;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use weir_core::Payload;

/// As the server does it, with the stack that it takes for it.
pub(super) fn ready(schema: &Value) -> Result<Ready, String> {
    let text = schema.to_string();
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let work = move || parse(&text).and_then(|schema| compile(&schema)).map_err(|error| error.message);
    thread.spawn(work).expect("a thread").join().expect("no panic")
}

fn steps(schema: &Value, payload: &Value) -> u64 {
    ready(schema).expect("taken").profile.steps(&Size::of(payload))
}

/// Schemas in force, most specific first, as version 1.
fn project(schemas: &[(&str, Value)]) -> ProjectSchemas {
    let memory = Arc::new(Memory::new(usize::MAX));
    let in_force = schemas.iter().map(|(pattern, schema)| {
        let ready = Some(ready(schema).expect("taken"));
        let held = memory.hold(ready.as_ref());
        Arc::new(InForce { pattern: pattern.parse().expect("a pattern"), version: 1, ready, held })
    });
    ProjectSchemas(in_force.collect())
}

fn check(project: &ProjectSchemas, topic: &str, payload: &Value) -> Result<(), crate::Error> {
    let payload = Payload::parse(payload.to_string().as_bytes()).expect("a payload");
    project.check(&topic.parse().expect("a topic"), &payload, &mut Steps::default())
}

/// `$defs` a0 … an, each made of the next by `link`.
fn chain(length: usize, link: impl Fn(&Value) -> Value) -> Value {
    let mut defs = Map::new();
    for n in 0..length {
        defs.insert(format!("a{n}"), link(&json!({ "$ref": format!("#/$defs/a{}", n + 1) })));
    }
    defs.insert(format!("a{length}"), json!({ "type": "integer" }));
    json!({ "$ref": "#/$defs/a0", "$defs": defs })
}

#[test]
fn each_bomb_is_refused_in_its_own_words() {
    let deep = |levels: usize| (0..levels).fold(json!(true), |inner, _| json!({ "not": inner }));
    let long = json!({ "title": "x".repeat(70_000) });
    let many =
        json!({ "properties": (0..1_001).map(|n| (n.to_string(), json!(true))).collect::<Map<_, _>>() });
    let patterns = (0..65).map(|n| (format!("^{n}"), json!(true))).collect::<Map<_, _>>();
    for (schema, words) in [
        (json!({ "$ref": "https://example.com/schema" }), "leads out of the document"),
        (json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }), "leads out of the document"),
        (json!({ "$ref": "other.json#/x" }), "leads out of the document"),
        (json!({ "$ref": "#/$defs/none" }), "leads to no schema"),
        (json!({ "enum": [{ "type": "string" }], "$ref": "#/enum/0" }), "leads to no schema"),
        (json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), "names another dialect"),
        (json!({ "properties": { "a": { "$id": "https://example.com/a" } } }), "may only stand at the root"),
        (json!({ "$dynamicRef": "#node" }), "is not supported"),
        (json!({ "items": [true] }), "is of an older draft"),
        (json!({ "dependencies": {} }), "is of an older draft"),
        (json!({ "anyOf": [{ "$ref": "#" }] }), "refers to itself"),
        (chain(3, |next| json!({ "anyOf": [next, { "$ref": "#/$defs/a0" }] })), "refers to itself"),
        (deep(70), "levels deep"),
        (long, "bytes; the limit is 65536"),
        (many, "more than 1000 subschemas"),
        (json!({ "patternProperties": patterns }), "more than 64 regular expressions"),
        (json!({ "pattern": "a".repeat(1_025) }), "is a pattern of 1025 bytes"),
        (json!({ "pattern": "(?=a)b" }), "is not a regular expression without look-around"),
        (json!({ "pattern": r"(a)\1" }), "is not a regular expression without look-around"),
        (json!({ "pattern": "[" }), "is not a regular expression"),
        (json!({ "pattern": "[a-z]{5000}" }), "takes more than 64 KiB compiled"),
        (json!({ "patternProperties": { "((a{100}){100}){100}": true } }), "KiB compiled"),
        (json!({ "type": "text" }), "is not as JSON Schema 2020-12 has it"),
        (json!({ "properties": 5 }), "is not as JSON Schema 2020-12 has it"),
        (json!([]), "must be an object"),
        // Two to the power of forty, in one place and spread over the levels of a payload.
        (chain(40, |next| json!({ "anyOf": [next, next] })), "Alternatives within alternatives multiply"),
        (json!({ "anyOf": [{ "items": { "$ref": "#" } }, { "items": { "$ref": "#" } }] }), "multiply"),
        (
            json!({ "unevaluatedProperties": false, "anyOf": [
                { "additionalProperties": { "$ref": "#" } }, { "additionalProperties": { "$ref": "#" } }] }),
            "multiply",
        ),
        (chain(450, |next| json!({ "allOf": [next] })), "within each other"),
    ] {
        let message = ready(&schema).err().unwrap_or_else(|| panic!("taken: {schema}"));
        assert!(message.contains(words), "{message} instead of {words}");
    }
    assert!(parse("{").expect_err("not JSON").message.contains("is not JSON"));
}

#[test]
fn what_only_looks_dangerous_is_taken() {
    for schema in [
        json!(true),
        json!({}),
        json!({ "$id": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/a", "$defs": { "a": {} } }),
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" }),
        json!({ "maxLength": u64::MAX, "minItems": 1e300, "multipleOf": 1e-300, "maximum": 1e308 }),
        json!({ "pattern": "(a+)+$" }),
        json!({ "format": "regex", "x-own": { "$ref": "https://example.com" } }),
        // A tree: it refers to itself one level down.
        json!({ "properties": { "children": { "items": { "$ref": "#" } } } }),
        // Doubles at every step, but no value meets more than one.
        chain(40, |next| json!({ "properties": { "a": next, "b": next } })),
        // As long as it gets; compiling goes down all of it.
        chain(480, |next| json!({ "properties": { "a": next } })),
        chain(190, |next| json!({ "allOf": [next] })),
    ] {
        if let Err(message) = ready(&schema) {
            panic!("{message}: {schema}");
        }
    }
}

/// Dropped and used where requests are: on threads with two MiB of stack, in this slow build.
#[test]
fn the_highest_schemas_fit_an_ordinary_stack() {
    let tree = json!({ "$ref": "#/$defs/a0", "$defs": {
        "a0": { "allOf": [{ "$ref": "#/$defs/a1" }] },
        "a1": { "anyOf": [{ "$ref": "#/$defs/a2" }, { "type": "null" }] },
        "a2": { "items": { "$ref": "#/$defs/a0" } } } });
    let ready_tree = ready(&tree).expect("taken");
    let payload = (0..64).fold(json!("end"), |inner, _| json!([inner]));
    let long = ready(&chain(480, |next| json!({ "properties": { "a": next } }))).expect("taken");
    let high = ready(&chain(190, |next| json!({ "allOf": [next] }))).expect("taken");
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let work = move || {
        assert!(ready_tree.validator.is_valid(&payload));
        assert_eq!(ready_tree.validator.iter_errors(&payload).count(), 0);
        assert!(high.validator.is_valid(&json!(1)));
        assert_eq!(high.validator.iter_errors(&json!("x")).count(), 1);
        drop((long, high, ready_tree));
    };
    thread.spawn(work).expect("a thread").join().expect("fits");
}

#[test]
fn costs_are_counted_by_what_a_payload_has() {
    let list = |n: usize| Value::from(vec![json!(1); n]);
    let plain = json!({ "items": { "type": "integer" } });
    assert_eq!(steps(&plain, &list(1_000)) - steps(&plain, &list(500)), 500 * 2);
    // Twenty alternatives are twenty times the work.
    let choice = json!({ "items": { "anyOf": vec![json!({ "type": "string" }); 20] } });
    assert_eq!(steps(&choice, &list(1_000)) - steps(&choice, &list(500)), 500 * (2 + 20 * 2));
    // Unique elements: everything inside is gone through, up to sixteen times.
    let unique = json!({ "uniqueItems": true });
    assert_eq!(steps(&unique, &list(1_000)) - steps(&unique, &list(500)), 500 * 16);
    // Text by its length and by the size of the expression; names of members too.
    let pattern = json!({ "pattern": "^[a-z]+$" });
    assert_eq!(steps(&pattern, &json!("a".repeat(1_600))) - steps(&pattern, &json!("")), 100 * 32);
    let names = json!({ "patternProperties": { "^[a-z]+$": true } });
    let member = |length: usize| json!({ "a".repeat(length): 1 });
    assert_eq!(steps(&names, &member(1_616)) - steps(&names, &member(16)), 100 * 32);
    // A tree costs the same at every depth.
    let tree = json!({ "properties": { "next": { "$ref": "#" } } });
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "next": inner }));
    assert_eq!(
        steps(&tree, &nested(40)) - steps(&tree, &nested(20)),
        steps(&tree, &nested(60)) - steps(&tree, &nested(40))
    );
}

#[test]
fn payloads_that_cost_too_much_are_refused_unchecked() {
    let dear = project(&[("a", json!({ "items": { "anyOf": vec![json!({ "uniqueItems": true }); 20] } }))]);
    let small = Value::from(vec![json!([1]); 100]);
    check(&dear, "a", &small).expect("in order");
    let large = Value::from(vec![json!([1, 2, 3, 4]); 10_000]);
    let refused = check(&dear, "a", &large).expect_err("too dear");
    assert_eq!(refused.code, weir_core::Code::InvalidEventPayload);
    assert_eq!(refused.details["limit"], 1_000_000);
    assert!(refused.details["steps"].as_u64().is_some_and(|steps| steps > 1_000_000));

    // Each of a batch would pass alone.
    let topic = "a".parse().expect("a topic");
    let text = Value::from(vec![json!([1, 2, 3, 4]); 400]).to_string();
    let payload = Payload::parse(text.as_bytes()).expect("a payload");
    let mut left = Steps::default();
    let passed = (0..100).take_while(|_| dear.check(&topic, &payload, &mut left).is_ok()).count();
    assert!((1..100).contains(&passed), "{passed}");
    dear.check(&topic, &payload, &mut Steps::default()).expect("alone it passes");
}

#[test]
fn every_schema_that_selects_the_topic_must_be_met() {
    let project = project(&[
        ("orders.eu", json!({ "required": ["total"] })),
        ("orders.*", json!({ "properties": { "total": { "type": "integer" } } })),
        (">", json!({ "type": "object" })),
    ]);
    check(&project, "orders.eu", &json!({ "total": 1 })).expect("meets all");
    check(&project, "orders.us", &json!({})).expect("the first does not concern it");
    for (topic, payload, pattern) in [
        ("orders.eu", json!({}), "orders.eu"),
        ("orders.eu", json!({ "total": "1" }), "orders.*"),
        ("other", json!([]), ">"),
    ] {
        let refused = check(&project, topic, &payload).expect_err("does not fit");
        assert_eq!(refused.details["schema"], json!({ "pattern": pattern, "version": 1 }));
        assert_eq!(refused.details["topic"], topic);
    }
}

#[test]
fn failures_name_places_and_repeat_no_values() {
    let schema = json!({ "properties": { "list": { "items": { "type": "integer" } }, "pin": { "pattern": "^[0-9]{4}$" } },
        "additionalProperties": false });
    let project = project(&[("a", schema)]);
    let payload = json!({ "list": vec!["secret"; 9], "pin": "secret" });
    let refused = check(&project, "a", &payload).expect_err("does not fit");
    let errors = refused.details["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 5);
    assert_eq!(errors[0]["instance_path"], "/list/0");
    assert_eq!(errors[0]["schema_path"], "/properties/list/items/type");
    assert!(!refused.details.to_string().contains("secret") && !refused.message.contains("secret"));
    let long = json!({ "n".repeat(5_000): 1 });
    let refused = check(&project, "a", &long).expect_err("does not fit");
    assert!(refused.details.to_string().len() < 1_000, "{}", refused.details);
}
