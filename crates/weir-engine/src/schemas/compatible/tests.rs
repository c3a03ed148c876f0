//! What compatible means, and that it is kept.

use super::differences;
use crate::schemas::tests::ready;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn paths(old: &Value, new: &Value) -> Vec<String> {
    differences(old, new).into_iter().map(|difference| difference.path).collect()
}

#[test]
fn compatible_is_what_old_consumers_understand() {
    let object = json!({ "type": "object", "properties": { "a": { "type": "number" } }, "required": ["a"] });
    for (old, new) in [
        (json!({}), json!({ "type": "string" })),
        (json!(true), json!(false)),
        (json!({ "type": "number" }), json!({ "type": "integer" })),
        (json!({ "type": ["string", "null"] }), json!({ "type": "string" })),
        (json!({ "type": "string" }), json!({ "enum": ["a", "b"] })),
        (json!({ "enum": [1, 2, 3] }), json!({ "enum": [3, 1] })),
        (json!({ "enum": [1, 2] }), json!({ "const": 2 })),
        (json!({ "minimum": 3 }), json!({ "exclusiveMinimum": 3 })),
        (json!({ "exclusiveMaximum": 3 }), json!({ "maximum": 2.5 })),
        (json!({ "maxLength": 5, "minItems": 0 }), json!({ "maxLength": 5 })),
        (json!({ "multipleOf": 2 }), json!({ "multipleOf": 4 })),
        (json!({ "maxLength": 5 }), json!({ "type": "integer" })),
        (json!({ "pattern": "^a" }), json!({ "pattern": "^a", "maxLength": 3 })),
        // More of an object is demanded.
        (
            object.clone(),
            json!({ "type": "object", "properties": { "a": { "type": "integer" }, "b": {} }, "required": ["a", "b"] }),
        ),
        (object.clone(), json!({ "allOf": [object, { "maxProperties": 4 }] })),
        (json!({ "properties": { "a": { "type": "string" } } }), json!({ "additionalProperties": false })),
        (
            json!({ "properties": { "a": { "type": "string" } } }),
            json!({ "additionalProperties": { "const": "x" } }),
        ),
        (
            json!({ "additionalProperties": { "type": "string" } }),
            json!({ "properties": { "a": { "const": "x" } }, "additionalProperties": false }),
        ),
        (
            json!({ "patternProperties": { "^x": { "type": "string" } } }),
            json!({ "patternProperties": { "^x": { "const": "x" } } }),
        ),
        (json!({ "dependentRequired": { "a": ["b"] } }), json!({ "required": ["b"] })),
        (
            json!({ "items": { "type": "number" } }),
            json!({ "prefixItems": [{ "const": 1 }], "items": { "type": "integer" } }),
        ),
        (json!({ "prefixItems": [{ "type": "string" }] }), json!({ "maxItems": 0 })),
        (json!({ "prefixItems": [{ "type": "string" }] }), json!({ "items": { "type": "string" } })),
        // Alternatives.
        (json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), json!({ "type": "null" })),
        (json!({ "type": ["string", "null"] }), json!({ "anyOf": [{ "const": "x" }, { "type": "null" }] })),
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            json!({ "oneOf": [{ "type": "null" }, { "const": "x" }] }),
        ),
        (
            json!({ "oneOf": [{ "type": "string" }, { "const": 1 }] }),
            json!({ "oneOf": [{ "const": 1 }, { "type": "string" }], "title": "t" }),
        ),
        (json!({ "not": { "const": 1 } }), json!({ "not": { "const": 1 }, "type": "integer" })),
        // References.
        (
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "number" } } }),
            json!({ "type": "integer" }),
        ),
        (
            json!({ "type": "number" }),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "integer" } } }),
        ),
        (
            json!({ "properties": { "next": { "$ref": "#" } }, "type": "object" }),
            json!({ "properties": { "next": { "$ref": "#" } }, "type": "object", "maxProperties": 2 }),
        ),
        // What only describes.
        (json!({ "title": "a", "format": "date", "default": 1 }), json!({ "title": "b" })),
    ] {
        assert_eq!(paths(&old, &new), Vec::<String>::new(), "{old} → {new}");
    }
}

#[test]
fn incompatible_is_told_with_its_place() {
    let object = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
    for (old, new, path) in [
        (json!({ "type": "integer" }), json!({ "type": "number" }), "/type"),
        (json!({ "type": "integer" }), json!({}), "/type"),
        (json!(false), json!({}), ""),
        (json!({ "enum": [1] }), json!({ "enum": [1, 2] }), "/enum"),
        (json!({ "const": 1 }), json!({ "type": "integer" }), "/const"),
        (json!({ "minimum": 3 }), json!({ "minimum": 2 }), "/minimum"),
        (json!({ "exclusiveMinimum": 3 }), json!({ "minimum": 3 }), "/exclusiveMinimum"),
        (
            json!({ "maximum": 9_007_199_254_740_993_u64 }),
            json!({ "maximum": 9_007_199_254_740_992.0 }),
            "/maximum",
        ),
        (json!({ "maxLength": 3 }), json!({ "maxLength": 4 }), "/maxLength"),
        (json!({ "multipleOf": 4 }), json!({ "multipleOf": 2 }), "/multipleOf"),
        (json!({ "pattern": "^a" }), json!({ "pattern": "^ab" }), "/pattern"),
        (json!({ "uniqueItems": true }), json!({ "uniqueItems": false }), "/uniqueItems"),
        (
            object.clone(),
            json!({ "type": "object", "properties": { "a": { "type": "integer" } } }),
            "/required",
        ),
        (object.clone(), json!({ "type": "object", "required": ["a"] }), "/properties/a/type"),
        (
            object,
            json!({ "type": "object", "properties": { "a": { "type": ["integer", "null"] } }, "required": ["a"] }),
            "/properties/a/type",
        ),
        (
            json!({ "additionalProperties": false }),
            json!({ "properties": { "a": {} }, "additionalProperties": false }),
            "/additionalProperties",
        ),
        (json!({ "additionalProperties": false }), json!({}), "/additionalProperties"),
        // `b` is free under the expression, whatever the rest says.
        (
            json!({ "properties": { "b": { "type": "string" } } }),
            json!({ "patternProperties": { "b": {} }, "additionalProperties": { "type": "string" } }),
            "/properties/b/type",
        ),
        (
            json!({ "patternProperties": { "^x": { "type": "string" } } }),
            json!({ "properties": { "x": {} }, "additionalProperties": false }),
            "/patternProperties/^x/type",
        ),
        (json!({ "propertyNames": { "maxLength": 3 } }), json!({}), "/propertyNames"),
        (
            json!({ "items": { "type": "integer" } }),
            json!({ "prefixItems": [{}], "items": { "type": "integer" } }),
            "/items/type",
        ),
        (
            json!({ "prefixItems": [{}, { "type": "integer" }] }),
            json!({ "prefixItems": [{ "type": "integer" }] }),
            "/prefixItems/1/type",
        ),
        (
            json!({ "contains": { "const": 1 } }),
            json!({ "contains": { "const": 1 }, "minContains": 0 }),
            "/contains",
        ),
        (
            json!({ "anyOf": [{ "type": "string" }] }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            "/anyOf",
        ),
        // Fewer alternatives: what the missing one accepted too may now be accepted, once.
        (
            json!({ "oneOf": [{ "type": "number" }, { "const": 1 }] }),
            json!({ "oneOf": [{ "type": "number" }] }),
            "/oneOf",
        ),
        (json!({ "not": { "type": "string" } }), json!({ "not": { "const": "a" } }), "/not"),
        (json!({ "if": { "const": 1 }, "then": false }), json!({ "if": { "const": 1 } }), "/if"),
        (json!({ "x-own": 1 }), json!({ "x-own": 2 }), "/x-own"),
        (
            json!({ "not": { "$ref": "#/$defs/a" }, "$defs": { "a": { "type": "string" } } }),
            json!({ "not": { "$ref": "#/$defs/a" }, "$defs": { "a": { "const": "x" } } }),
            "/not",
        ),
        (
            json!({ "unevaluatedProperties": false, "properties": { "a": {} } }),
            json!({ "unevaluatedProperties": false, "properties": { "a": {}, "b": {} } }),
            "/unevaluatedProperties",
        ),
    ] {
        let paths = paths(&old, &new);
        assert!(paths.iter().any(|found| found == path), "{old} → {new}: {paths:?}");
    }
}

#[test]
fn comparing_ends_with_schemas_made_to_go_on() {
    let wide = |n: u64| {
        (0..6).fold(json!({ "const": n }), |inner, level| {
            let branch =
                |side: u64| json!({ "properties": { "a": inner, level.to_string(): { "const": side } } });
            json!({ "anyOf": [branch(1), branch(2), branch(3), branch(4)] })
        })
    };
    // The time of this test is the proof: without a bound it is 16 to the power of 6 comparisons.
    assert!(!differences(&wide(1), &wide(2)).is_empty());
}

/// Small values, so that schemas and payloads meet.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-1..4_i32).prop_map(Value::from),
        Just(json!(1.5)),
        prop_oneof![Just("a"), Just("ab"), Just("")].prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abx]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({})),
        Just(json!({ "$ref": "#/$defs/d" }))
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        prop::collection::vec(keyword(inner), 0..4)
            .prop_map(|keywords| Value::Object(keywords.into_iter().collect()))
    })
}

fn keyword(inner: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = (String, Value)> {
    let types = prop::sample::subsequence(
        vec!["null", "boolean", "object", "array", "string", "integer", "number"],
        1..4,
    );
    let number = |names: &'static [&'static str]| {
        (prop::sample::select(names), 0..4_u32).prop_map(|(name, n)| (name.to_owned(), json!(n)))
    };
    let named = || {
        let members = prop::collection::btree_map("[abx]", inner.clone(), 0..3);
        members.prop_map(|members| Value::Object(members.into_iter().collect()))
    };
    let list = || prop::collection::vec(inner.clone(), 1..3);
    let one = |name: &'static str| move |value: Value| (name.to_owned(), value);
    prop::strategy::Union::new_weighted(vec![
        (4, types.prop_map(|types| json!(types)).prop_map(one("type")).boxed()),
        (2, prop::collection::vec(value(), 1..4).prop_map(Value::from).prop_map(one("enum")).boxed()),
        (1, value().prop_map(one("const")).boxed()),
        (2, number(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]).boxed()),
        (
            2,
            number(&["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"])
                .boxed(),
        ),
        (1, number(&["minContains", "maxContains"]).boxed()),
        (1, (1..4_u32).prop_map(Value::from).prop_map(one("multipleOf")).boxed()),
        (1, prop::sample::select(&["^a", "b"][..]).prop_map(Value::from).prop_map(one("pattern")).boxed()),
        (1, any::<bool>().prop_map(Value::from).prop_map(one("uniqueItems")).boxed()),
        (
            1,
            prop::sample::subsequence(vec!["a", "b"], 0..=2)
                .prop_map(|names| json!(names))
                .prop_map(one("required"))
                .boxed(),
        ),
        (1, Just(json!({ "a": ["b"] })).prop_map(one("dependentRequired")).boxed()),
        (1, Just(json!("#/$defs/d")).prop_map(one("$ref")).boxed()),
        (4, named().prop_map(one("properties")).boxed()),
        (1, named().prop_map(one("patternProperties")).boxed()),
        (1, named().prop_map(one("dependentSchemas")).boxed()),
        (4, (prop::sample::select(APPLIED), inner.clone()).prop_map(|(k, s)| (k.to_owned(), s)).boxed()),
        (3, (prop::sample::select(LISTS), list()).prop_map(|(k, s)| (k.to_owned(), json!(s))).boxed()),
    ])
}

const APPLIED: &[&str] = &[
    "additionalProperties",
    "propertyNames",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
    "unevaluatedItems",
];
const LISTS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];

/// Puts the schema that `#/$defs/d` names beside it.
fn whole(schema: Value, definition: &Value) -> Value {
    let mut root = match schema {
        Value::Object(keywords) => keywords,
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    root.insert("$defs".to_owned(), json!({ "d": definition }));
    Value::Object(root)
}

/// A schema that is like `old`, changed in a place or two.
fn changed(old: &Value, edits: &[(usize, Value)]) -> Value {
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }
    let mut new = old.clone();
    for (choice, replacement) in edits {
        let mut found = Vec::new();
        places(&new, "", &mut found);
        let place = found[choice % found.len()].clone();
        if let Some(slot) = new.pointer_mut(&place) {
            match (slot, replacement) {
                (Value::Object(members), Value::Object(more)) => members.extend(more.clone()),
                (slot, replacement) => *slot = replacement.clone(),
            }
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The promise: what the new version accepts, the old one accepted.
    #[test]
    fn compatible_versions_accept_nothing_new(
        old in schema(),
        definitions in (schema(), prop::option::of(schema())),
        other in schema(),
        edits in prop::collection::vec((any::<usize>(), schema()), 0..3),
        payloads in prop::collection::vec(value(), 40),
    ) {
        let plain = |schema: &Value| !schema.to_string().contains("$ref");
        prop_assume!(plain(&definitions.0) && definitions.1.as_ref().is_none_or(plain));
        let after = definitions.1.as_ref().unwrap_or(&definitions.0);
        let old_whole = whole(old.clone(), &definitions.0);
        // Merging in what cannot be a schema there makes some that are not taken.
        for new in [changed(&old, &edits), other] {
            let new = whole(new, after);
            let (Ok(old_ready), Ok(new_ready)) = (ready(&old_whole), ready(&new)) else { continue };
            if differences(&old_whole, &new).is_empty() {
                for payload in &payloads {
                    if new_ready.validator.is_valid(payload) {
                        prop_assert!(old_ready.validator.is_valid(payload), "{old_whole} → {new} takes {payload}");
                    }
                }
            }
        }
    }

    /// A version is compatible with itself, as far as it is understood.
    #[test]
    fn a_schema_without_references_is_compatible_with_itself(schema in schema()) {
        prop_assume!(!schema.to_string().contains("$ref"));
        prop_assert_eq!(paths(&schema, &schema), Vec::<String>::new());
    }
}
