//! What each keyword of the old schema asks of the new one.

use super::facts::{
    at_least, at_most, bound, dependent_required, element, finite, member, members, names, plain,
    same_branches, types_named,
};
use super::{Comparison, Demand, Difference, difference, escape, short};
use serde_json::{Map, Value};
use std::cmp::Ordering;

impl<'a> Comparison<'a> {
    /// Whether the keywords of one part of `new` meet a demand.
    pub(super) fn meets(
        &mut self,
        demand: Demand<'a>,
        new: &'a Map<String, Value>,
        whole: &'a Value,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let (keyword, value) = (demand.keyword, demand.value);
        let same = |name: &str| demand.around.get(name) == new.get(name) && plain(demand.around.get(name));
        match keyword {
            "type" => self.types(whole) & !types_named(value) == 0,
            "enum" | "const" if same(keyword) => true,
            "enum" => finite(new).is_some_and(|values| {
                value.as_array().is_some_and(|old| values.iter().all(|value| old.contains(value)))
            }),
            "const" => finite(new).is_some_and(|values| values.iter().all(|new| *new == value)),
            "minimum" | "exclusiveMinimum" => {
                bound(new, keyword, value, ["minimum", "exclusiveMinimum"], Ordering::Greater)
            }
            "maximum" | "exclusiveMaximum" => {
                bound(new, keyword, value, ["maximum", "exclusiveMaximum"], Ordering::Less)
            }
            "minLength" | "minItems" | "minProperties" => at_least(new.get(keyword), value),
            "maxLength" | "maxItems" | "maxProperties" => at_most(new.get(keyword), value),
            "multipleOf" => match (value.as_u64(), new.get(keyword).and_then(Value::as_u64)) {
                (Some(old), Some(new)) => old != 0 && new % old == 0,
                _ => same(keyword),
            },
            "uniqueItems" => *value == Value::Bool(false) || same(keyword),
            "required" => names(Some(value)).all(|name| names(new.get(keyword)).any(|new| new == name)),
            "dependentRequired" => dependent_required(value, new),
            "properties" => self.properties(value, new, whole, at, why),
            "patternProperties" => self.pattern_properties(value, new, at, why),
            "additionalProperties" => self.additional_properties(demand, new, at, why),
            "propertyNames" => new.get(keyword).is_some_and(|new| self.below(value, new, at, why)),
            "prefixItems" => self.prefix_items(value, new, at, why),
            "items" => self.items(demand, new, at, why),
            "contains" | "minContains" | "maxContains" => {
                same("contains") && same("minContains") && same("maxContains")
            }
            "anyOf" => {
                value.as_array().is_some_and(|branches| branches.iter().any(|old| self.implied(old, whole)))
            }
            "oneOf" => plain(Some(value)) && same_branches(value, new.get(keyword)),
            "if" | "then" | "else" => same("if") && same("then") && same("else"),
            "dependentSchemas" => value.as_object().is_some_and(|old| {
                old.iter().all(|(name, old)| {
                    let new = new.get(keyword).and_then(|new| new.get(name));
                    new.is_some_and(|new| self.implied(old, new))
                })
            }),
            // What is evaluated depends on every other keyword here, and on what those refer to.
            "unevaluatedProperties" | "unevaluatedItems" => {
                demand.around == new
                    && demand.around.values().all(|value| plain(Some(value)))
                    && !demand.around.contains_key("$ref")
            }
            _ => same(keyword),
        }
    }

    /// As [`node`](Self::node), for a subschema of one keyword.
    fn below(&mut self, old: &'a Value, new: &'a Value, at: &str, why: &mut Vec<Difference>) -> bool {
        let before = why.len();
        self.node(old, new, at, why);
        why.len() == before
    }

    /// Each property that the old schema describes is described as narrowly, or cannot occur.
    fn properties(
        &mut self,
        old: &'a Value,
        new: &'a Map<String, Value>,
        whole: &'a Value,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let mut met = true;
        for (name, old) in old.as_object().into_iter().flatten() {
            let at = format!("{at}/{}", escape(name));
            let mut reasons = Vec::new();
            // Each property may be described in another part of the new schema.
            let parts = self.new.parts(whole);
            let here = std::iter::once(new).chain(parts.into_iter().filter_map(Value::as_object));
            let narrow = here.into_iter().any(|new| {
                let mut deeper = Vec::new();
                let narrow = self.below(old, member(new, name), &at, &mut deeper);
                if reasons.is_empty() || new.contains_key("properties") {
                    reasons.append(&mut deeper);
                }
                narrow
            });
            if !narrow {
                met = false;
                why.append(&mut reasons);
            }
        }
        met
    }

    /// What a name pattern demanded of members is still demanded of them, or they cannot occur.
    fn pattern_properties(
        &mut self,
        old: &'a Value,
        new: &'a Map<String, Value>,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let mut met = true;
        for (pattern, old) in old.as_object().into_iter().flatten() {
            let at = format!("{at}/{}", escape(pattern));
            met &= match new.get("patternProperties").and_then(|new| new.get(pattern)) {
                Some(new) => self.below(old, new, &at, why),
                // Without looking into expressions: every other member could match.
                None => members(new).into_iter().all(|new| self.below(old, new, &at, why)),
            };
        }
        met
    }

    /// What the old schema demanded of members that it did not name is demanded of all that it did not name.
    fn additional_properties(
        &mut self,
        demand: Demand<'a>,
        new: &'a Map<String, Value>,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let known =
            |keyword: &str, name: &str| demand.around.get(keyword).is_some_and(|old| old.get(name).is_some());
        let mut met = true;
        for (name, new) in new.get("properties").and_then(Value::as_object).into_iter().flatten() {
            met &= known("properties", name) || {
                let below = self.implied(demand.value, new);
                if !below {
                    why.push(difference(at, &format!("`{}` is a new property", short(name))));
                }
                below
            };
        }
        for (pattern, new) in new.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
            met &= known("patternProperties", pattern) || self.below(demand.value, new, at, why);
        }
        met & self.below(demand.value, new.get("additionalProperties").unwrap_or(&Value::Bool(true)), at, why)
    }

    fn prefix_items(
        &mut self,
        old: &'a Value,
        new: &'a Map<String, Value>,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let mut met = true;
        for (i, old) in old.as_array().into_iter().flatten().enumerate() {
            met &= self.below(old, element(new, i), &format!("{at}/{i}"), why);
        }
        met
    }

    /// What the old schema demanded of all elements after its `prefixItems`.
    fn items(
        &mut self,
        demand: Demand<'a>,
        new: &'a Map<String, Value>,
        at: &str,
        why: &mut Vec<Difference>,
    ) -> bool {
        let count = |keywords: &Map<String, Value>| {
            keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len)
        };
        let (before, prefix) = (count(demand.around), count(new));
        let mut met = true;
        for i in before..prefix {
            met &= self.below(demand.value, element(new, i), at, why);
        }
        // The first element behind both is as all that follow.
        met & self.below(demand.value, element(new, before.max(prefix)), at, why)
    }
}
