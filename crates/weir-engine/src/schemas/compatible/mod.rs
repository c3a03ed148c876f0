//! Whether a new version of a schema keeps the promise of the old one: everything that the new one accepts was
//! accepted by the old one, so that consumers written for the old one go on working.
//!
//! The answer errs on one side only: "no differences" is a proof, a difference may be one that a closer look would
//! clear. The proof goes keyword by keyword: each demand of the old schema must be implied by some demand of
//! the new one. Keywords that are not understood must be equal.

mod facts;
mod keywords;
#[cfg(test)]
mod tests;

use super::document::{escape, fragment};
use facts::{ANY, concerned, finite, type_of, types_named};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Differences that are told at most.
const TOLD: usize = 20;
/// Comparisons of two subschemas at most; what is not settled by then counts as different.
const STEPS: usize = 20_000;
/// Comparisons within each other at most.
const DEPTH: usize = 200;

/// What only describes, and refuses no value.
const ANNOTATIONS: [&str; 16] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

/// Something that the old version refused and the new one may accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The keyword of the old version, as a JSON pointer.
    pub path: String,
    /// What about it.
    pub reason: String,
}

/// Whether every value that `new` accepts is accepted by `old`; if not, or if that cannot be told, where.
/// Both must have been compiled before: references are taken to lead somewhere.
#[must_use]
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut comparison = Comparison {
        old: References { root: old },
        new: References { root: new },
        assumed: Vec::new(),
        steps: 0,
        depth: 0,
    };
    let mut found = Vec::new();
    comparison.node(old, new, "", &mut found);
    found.truncate(TOLD);
    found
}

/// Where the references of a document lead.
struct References<'a> {
    root: &'a Value,
}

impl<'a> References<'a> {
    fn target(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(&fragment(reference)?)
    }

    /// The schemas that all have to be met where `schema` has: itself, what it refers to, its `allOf`.
    fn parts(&self, schema: &'a Value) -> Vec<&'a Value> {
        let mut parts = vec![schema];
        let mut next = 0;
        while let Some(part) = parts.get(next).copied() {
            next += 1;
            if let Some(target) = part["$ref"].as_str().and_then(|reference| self.target(reference)) {
                parts.push(target);
            }
            parts.extend(part["allOf"].as_array().into_iter().flatten());
            // References cannot run in circles here, but they can fan out.
            if parts.len() > 64 {
                break;
            }
        }
        parts
    }
}

struct Comparison<'a> {
    old: References<'a>,
    new: References<'a>,
    /// Pairs under proof. Meeting one again is fine: references that do not go deeper into the value end, so in
    /// between the value got smaller, and the proof is one by induction over its depth.
    assumed: Vec<(*const Value, *const Value)>,
    steps: usize,
    depth: usize,
}

/// One keyword of the old schema, with the schema around it, which some keywords are to be read with.
#[derive(Clone, Copy)]
struct Demand<'a> {
    keyword: &'a str,
    value: &'a Value,
    around: &'a Map<String, Value>,
}

impl<'a> Comparison<'a> {
    /// Adds to `found` what of `old` is not implied by `new`.
    fn node(&mut self, old: &'a Value, new: &'a Value, at: &str, found: &mut Vec<Difference>) {
        let pair = (std::ptr::from_ref(old), std::ptr::from_ref(new));
        if self.assumed.contains(&pair) {
            return;
        }
        self.steps += 1;
        if self.steps > STEPS || self.depth > DEPTH || found.len() >= TOLD {
            found.push(difference(at, "is too intricate to be compared"));
            return;
        }
        if *new == Value::Bool(false) || self.types(new) == 0 {
            return;
        }
        let demands = match old {
            Value::Bool(true) => return,
            Value::Object(keywords) => keywords,
            _ => return found.push(difference(at, "accepted nothing and would accept something")),
        };
        self.assumed.push(pair);
        self.depth += 1;
        for (keyword, value) in demands {
            if !ANNOTATIONS.contains(&keyword.as_str()) {
                let demand = Demand { keyword, value, around: demands };
                self.demand(demand, new, &format!("{at}/{}", escape(keyword)), found);
            }
        }
        self.depth -= 1;
        self.assumed.pop();
    }

    /// Whether `old` is implied by `new`, without words.
    fn implied(&mut self, old: &'a Value, new: &'a Value) -> bool {
        let mut found = Vec::new();
        self.node(old, new, "", &mut found);
        found.is_empty()
    }

    /// One keyword of the old schema against all of the new one.
    fn demand(&mut self, demand: Demand<'a>, new: &'a Value, at: &str, found: &mut Vec<Difference>) {
        match demand.keyword {
            // These say nothing by themselves.
            "then" | "else" if !demand.around.contains_key("if") => return,
            "minContains" | "maxContains" if !demand.around.contains_key("contains") => return,
            "if" if !demand.around.contains_key("then") && !demand.around.contains_key("else") => return,
            "$ref" => {
                if let Some(target) = demand.value.as_str().and_then(|reference| self.old.target(reference)) {
                    self.node(target, new, at, found);
                } else {
                    found.push(difference(at, "leads nowhere"));
                }
                return;
            }
            "allOf" => {
                for (i, part) in demand.value.as_array().into_iter().flatten().enumerate() {
                    self.node(part, new, &format!("{at}/{i}"), found);
                }
                return;
            }
            _ => {}
        }
        if self.types(new) & concerned(demand.keyword) == 0 {
            return;
        }
        let mut why = Vec::new();
        if self.met(demand, new, at, &mut why) {
            return;
        }
        if why.is_empty() {
            why.push(difference(at, &reason(demand, new)));
        }
        found.extend(why);
    }

    /// Whether `new` meets a demand: by itself, or in each of its alternatives. Where the reason lies deeper, it is
    /// added to `why`.
    fn met(&mut self, demand: Demand<'a>, new: &'a Value, at: &str, why: &mut Vec<Difference>) -> bool {
        self.steps += 1;
        if self.steps > STEPS || self.depth > DEPTH {
            return false;
        }
        let parts = self.new.parts(new);
        for part in &parts {
            let mut deeper = Vec::new();
            // `true` is a schema without keywords.
            let keywords = part.as_object().unwrap_or(&NOTHING);
            if **part == Value::Bool(false) || self.meets(demand, keywords, new, at, &mut deeper) {
                why.clear();
                return true;
            }
            if why.is_empty() {
                why.append(&mut deeper);
            }
        }
        self.depth += 1;
        let alternatives = parts.iter().any(|part| {
            ["anyOf", "oneOf"].into_iter().filter_map(|keyword| part[keyword].as_array()).any(|branches| {
                !branches.is_empty()
                    && branches.iter().all(|branch| {
                        *branch == Value::Bool(false)
                            || self.types(branch) & self.types(new) & concerned(demand.keyword) == 0
                            || self.met(demand, branch, at, &mut Vec::new())
                    })
            })
        });
        self.depth -= 1;
        if alternatives {
            why.clear();
        }
        alternatives
    }

    /// The types of value that a schema may accept, at least.
    fn types(&self, schema: &'a Value) -> u8 {
        let mut types = ANY;
        for part in self.new.parts(schema) {
            match part {
                Value::Bool(false) => types = 0,
                Value::Object(keywords) => {
                    types &= keywords.get("type").map_or(ANY, types_named);
                    types &= finite(keywords)
                        .map_or(ANY, |values| values.iter().fold(0, |types, value| types | type_of(value)));
                }
                _ => {}
            }
        }
        types
    }
}

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn difference(path: &str, reason: &str) -> Difference {
    Difference { path: path.to_owned(), reason: reason.to_owned() }
}

fn reason(demand: Demand<'_>, new: &Value) -> String {
    let text = |value: &Value| short(&value.to_string());
    match new.get(demand.keyword) {
        None => format!("was {} and would be gone", text(demand.value)),
        Some(new) => format!("was {} and would be {}, which may accept more", text(demand.value), text(new)),
    }
}
