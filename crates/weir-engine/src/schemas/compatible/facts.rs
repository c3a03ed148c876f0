//! What can be read off a schema's keywords, and how two values of a keyword compare.

use serde_json::{Map, Value};
use std::cmp::Ordering;

pub(super) const NULL: u8 = 1;
pub(super) const BOOLEAN: u8 = 2;
pub(super) const OBJECT: u8 = 4;
pub(super) const ARRAY: u8 = 8;
pub(super) const STRING: u8 = 16;
pub(super) const INTEGER: u8 = 32;
pub(super) const FRACTION: u8 = 64;
pub(super) const ANY: u8 = 127;

pub(super) fn type_named(name: &Value) -> u8 {
    match name.as_str() {
        Some("null") => NULL,
        Some("boolean") => BOOLEAN,
        Some("object") => OBJECT,
        Some("array") => ARRAY,
        Some("string") => STRING,
        Some("integer") => INTEGER,
        Some("number") => INTEGER | FRACTION,
        _ => 0,
    }
}

pub(super) fn types_named(value: &Value) -> u8 {
    match value {
        Value::Array(names) => names.iter().fold(0, |types, name| types | type_named(name)),
        name => type_named(name),
    }
}

pub(super) fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Object(_) => OBJECT,
        Value::Array(_) => ARRAY,
        Value::String(_) => STRING,
        Value::Number(number) if number.is_f64() => INTEGER | FRACTION,
        Value::Number(_) => INTEGER,
    }
}

/// The types of value that a keyword says anything about.
pub(super) fn concerned(keyword: &str) -> u8 {
    match keyword {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => INTEGER | FRACTION,
        "minLength" | "maxLength" | "pattern" => STRING,
        "minItems" | "maxItems" | "uniqueItems" | "items" | "prefixItems" | "contains" | "minContains"
        | "maxContains" | "unevaluatedItems" => ARRAY,
        "minProperties"
        | "maxProperties"
        | "required"
        | "properties"
        | "patternProperties"
        | "additionalProperties"
        | "propertyNames"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedProperties" => OBJECT,
        _ => ANY,
    }
}

/// The values that `enum` or `const` leave.
pub(super) fn finite(keywords: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (keywords.get("const"), keywords.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// What an object schema demands of the member of this name; `true` when expressions may say more.
pub(super) fn member<'a>(keywords: &'a Map<String, Value>, name: &str) -> &'a Value {
    const ANYTHING: &Value = &Value::Bool(true);
    if let Some(schema) = keywords.get("properties").and_then(|properties| properties.get(name)) {
        return schema;
    }
    let patterns = keywords.get("patternProperties").and_then(Value::as_object);
    match keywords.get("additionalProperties") {
        Some(schema) if patterns.is_none_or(Map::is_empty) => schema,
        _ => ANYTHING,
    }
}

/// What an object schema may demand of a member, whatever its name.
pub(super) fn members(keywords: &Map<String, Value>) -> Vec<&Value> {
    let named =
        ["properties", "patternProperties"].into_iter().filter_map(|name| keywords.get(name)?.as_object());
    let mut all: Vec<&Value> = named.flat_map(Map::values).collect();
    all.push(keywords.get("additionalProperties").unwrap_or(&Value::Bool(true)));
    all
}

/// What an array schema demands of the element at a place; `false` when there cannot be one.
pub(super) fn element(keywords: &Map<String, Value>, place: usize) -> &Value {
    if keywords.get("maxItems").and_then(Value::as_u64).is_some_and(|most| most <= place as u64) {
        return &Value::Bool(false);
    }
    let prefix = keywords.get("prefixItems").and_then(|prefix| prefix.get(place));
    prefix.or_else(|| keywords.get("items")).unwrap_or(&Value::Bool(true))
}

pub(super) fn names(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn dependent_required(old: &Value, new: &Map<String, Value>) -> bool {
    old.as_object().is_some_and(|old| {
        old.iter().all(|(name, old)| {
            let still = new.get("dependentRequired").and_then(|new| new.get(name));
            names(Some(old))
                .all(|wanted| names(still).chain(names(new.get("required"))).any(|new| new == wanted))
        })
    })
}

/// How two numbers compare, where that is exact.
pub(super) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        // A double holds whole numbers exactly up to 2^53.
        (Some(n), None) | (None, Some(n)) if n.unsigned_abs() > 1 << 53 => None,
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Whether a bound is as tight as the old one; `tighter` is how a tighter one compares with it.
pub(super) fn bound(
    new: &Map<String, Value>,
    keyword: &str,
    old: &Value,
    [inclusive, exclusive]: [&str; 2],
    tighter: Ordering,
) -> bool {
    let held = |name: &str, equal_will_do: bool| {
        let order = new.get(name).and_then(|new| compare(new, old));
        order == Some(tighter) || equal_will_do && order == Some(Ordering::Equal)
    };
    held(inclusive, keyword == inclusive) || held(exclusive, true)
}

pub(super) fn at_least(new: Option<&Value>, old: &Value) -> bool {
    old.as_f64() == Some(0.0)
        || new.and_then(|new| compare(new, old)).is_some_and(|order| order != Ordering::Less)
}

pub(super) fn at_most(new: Option<&Value>, old: &Value) -> bool {
    new.and_then(|new| compare(new, old)).is_some_and(|order| order != Ordering::Greater)
}

pub(super) fn same_branches(old: &Value, new: Option<&Value>) -> bool {
    let (Some(old), Some(new)) = (old.as_array(), new.and_then(Value::as_array)) else { return false };
    let count = |list: &[Value], wanted: &Value| list.iter().filter(|value| *value == wanted).count();
    old.len() == new.len() && old.iter().all(|branch| count(old, branch) == count(new, branch))
}

/// Whether a value means the same in another document: it refers to nothing.
pub(super) fn plain(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(list)) => list.iter().all(|value| plain(Some(value))),
        Some(Value::Object(members)) => {
            !members.contains_key("$ref") && members.values().all(|value| plain(Some(value)))
        }
        _ => true,
    }
}
