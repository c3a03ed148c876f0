//! Inputs: only what the contract allows, over as much of it as it allows.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A topic token: the whole alphabet, short enough that eight and a prefix fit into 200 bytes.
pub fn token() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), "[A-Za-z0-9_=@,;:-]{1,12}",]
}

/// A topic below a prefix: one to seven more tokens.
pub fn below() -> impl Strategy<Value = String> {
    vec(token(), 1..=7).prop_map(|tokens| tokens.join("."))
}

/// One of a handful of topics, so that events meet on them.
pub fn crowded() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..=3).prop_map(|tokens| tokens.join("."))
}

/// A pattern over [`crowded`] topics.
pub fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![Just("a"), Just("b"), Just("*")];
    (vec(part, 1..=3), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

/// Any JSON: nested, with every kind of string, and numbers that survive text exactly.
pub fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| json!(f64::from(n) / 4.0)),
        any::<String>().prop_map(Value::from),
        // What line-based formats stumble over.
        "[\r\n\u{2028}:\" \\\\d]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<String, Value>>())),
        ]
    })
}

/// An event type or a publisher's id.
pub fn name() -> impl Strategy<Value = String> {
    "[!-~]{1,40}"
}

/// Headers within their rules.
pub fn headers() -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map("[A-Za-z0-9_-]{1,20}", "[ -~é]{0,40}".prop_map(Value::from), 0..4)
        .prop_map(|pairs| pairs.into_iter().collect())
}
