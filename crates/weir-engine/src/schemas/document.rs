//! A schema taken apart: its subschemas, where each leads, and what is refused before anything is compiled.

use crate::Error;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::HashMap;
use weir_core::Code;

/// The only dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Subschemas of one document at most.
const SUBSCHEMAS: usize = 1_000;
/// Regular expressions of one document at most.
const PATTERNS: usize = 64;
/// Bytes of one regular expression at most.
const PATTERN_BYTES: usize = 1_024;

/// A place in the list of subschemas; the document itself is 0.
pub(super) type Index = usize;

/// A subschema, and the subschemas that it applies.
#[derive(Debug, Default)]
pub(super) struct Subschema {
    /// Applied to the same value: `allOf`, `$ref`, `if` …
    pub(super) here: Vec<Index>,
    /// Applied to members, of which one value meets at most one: `properties`, `additionalProperties`.
    pub(super) members: Vec<Index>,
    /// Applied to members beside those: `patternProperties`, `propertyNames`, `unevaluatedProperties`.
    pub(super) members_too: Vec<Index>,
    /// Applied to elements, of which one value meets at most one: `prefixItems`, `items`.
    pub(super) elements: Vec<Index>,
    /// Applied to elements beside those: `contains`, `unevaluatedItems`.
    pub(super) elements_too: Vec<Index>,
    /// Regular expressions for the text of the value itself.
    pub(super) patterns: Vec<String>,
    /// Regular expressions for the names of its members.
    pub(super) name_patterns: Vec<String>,
    /// How much there is to look at for one value, not counting subschemas.
    pub(super) own: u64,
    /// Whether text is counted or compared.
    pub(super) reads_text: bool,
    /// How often the whole value with all that is in it is gone through.
    pub(super) compares: u64,
    /// Whether `unevaluated…` goes through everything that is applied here once more.
    pub(super) unevaluated: bool,
}

/// A schema whose every subschema and reference is known.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) subschemas: Vec<Subschema>,
    /// Subschemas, each after those that it applies to the same value.
    pub(super) order: Vec<Index>,
}

/// A schema that cannot be taken, with the place in it.
pub(super) fn refused(pointer: &str, why: &str) -> Error {
    let place = if pointer.is_empty() { "The schema".to_owned() } else { format!("`{pointer}`") };
    Error::new(Code::InvalidRequest, format!("{place} {why}."))
        .with(json!({ "field": "schema", "path": pointer }))
}

/// The schema that `reference` names, as `$ref` writes it; `None` when it leads out of the document.
pub(super) fn fragment(reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    Some(percent_decode_str(fragment).decode_utf8_lossy().into_owned())
}

/// `name` as it stands in a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl Document {
    /// Takes a schema apart.
    ///
    /// # Errors
    /// What this server does not take, with its place.
    pub(super) fn read(root: &Value) -> Result<Self, Error> {
        let mut reader = Reader::default();
        reader.schema(root, String::new())?;
        reader.resolve()?;
        let order = order(&reader.subschemas, &reader.pointers)?;
        Ok(Self { subschemas: reader.subschemas, order })
    }

    /// Every regular expression, as often as it occurs.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.subschemas
            .iter()
            .flat_map(|sub| sub.patterns.iter().chain(&sub.name_patterns))
            .map(String::as_str)
    }
}

#[derive(Default)]
struct Reader {
    subschemas: Vec<Subschema>,
    /// Where each stands.
    pointers: Vec<String>,
    /// Subschemas by pointer.
    named: HashMap<String, Index>,
    references: Vec<(Index, String)>,
    patterns: usize,
}

impl Reader {
    fn schema(&mut self, value: &Value, pointer: String) -> Result<Index, Error> {
        let index = self.subschemas.len();
        if index == SUBSCHEMAS {
            return Err(refused("", &format!("has more than {SUBSCHEMAS} subschemas")));
        }
        self.subschemas.push(Subschema { own: 1, ..Subschema::default() });
        self.pointers.push(pointer.clone());
        self.named.insert(pointer.clone(), index);
        // What is neither an object nor a boolean is refused by the meta-schema later.
        if let Value::Object(keywords) = value {
            for (keyword, value) in keywords {
                self.keyword(index, keyword, value, &format!("{pointer}/{}", escape(keyword)))?;
            }
        }
        Ok(index)
    }

    fn keyword(&mut self, of: Index, keyword: &str, value: &Value, at: &str) -> Result<(), Error> {
        self.subschemas[of].own += 1;
        match keyword {
            "$schema" | "$id" | "$ref" => return self.core(of, keyword, value, at),
            "$defs" | "definitions" => self.each(value, at).map(drop)?,
            "contentSchema" => self.schema(value, at.to_owned()).map(drop)?,
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" => {
                let applied = self.each(value, at)?;
                self.subschemas[of].here.extend(applied);
            }
            "not" | "if" | "then" | "else" => {
                let applied = self.schema(value, at.to_owned())?;
                self.subschemas[of].here.push(applied);
            }
            "properties" => {
                let applied = self.each(value, at)?;
                self.subschemas[of].own += applied.len() as u64;
                self.subschemas[of].members.extend(applied);
            }
            "patternProperties" => self.pattern_properties(of, value, at)?,
            "additionalProperties" => {
                let applied = self.schema(value, at.to_owned())?;
                self.subschemas[of].members.push(applied);
            }
            "propertyNames" | "unevaluatedProperties" => {
                let applied = self.schema(value, at.to_owned())?;
                self.subschemas[of].members_too.push(applied);
                self.subschemas[of].unevaluated |= keyword == "unevaluatedProperties";
            }
            "prefixItems" => {
                let applied = self.each(value, at)?;
                self.subschemas[of].elements.extend(applied);
            }
            "items" if value.is_array() => {
                return Err(refused(at, "is a list, which is of an older draft: use `prefixItems`"));
            }
            "items" => {
                let applied = self.schema(value, at.to_owned())?;
                self.subschemas[of].elements.push(applied);
            }
            "contains" | "unevaluatedItems" => {
                let applied = self.schema(value, at.to_owned())?;
                self.subschemas[of].elements_too.push(applied);
                self.subschemas[of].unevaluated |= keyword == "unevaluatedItems";
            }
            "dependencies" | "additionalItems" | "$recursiveRef" | "$recursiveAnchor" => {
                return Err(refused(at, "is of an older draft: write it as JSON Schema 2020-12 does"));
            }
            "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" => {
                return Err(refused(at, "is not supported: refer by JSON pointer, as in `#/$defs/name`"));
            }
            _ => return self.assertion(of, keyword, value, at),
        }
        Ok(())
    }

    /// Identity and references.
    fn core(&mut self, of: Index, keyword: &str, value: &Value, at: &str) -> Result<(), Error> {
        let text = value.as_str().ok_or_else(|| refused(at, "must be text"))?;
        match keyword {
            "$schema" if text.trim_end_matches('#') != DIALECT => {
                Err(refused(at, &format!("names another dialect; the one that is taken is {DIALECT}")))
            }
            "$id" if of != 0 => {
                Err(refused(at, "may only stand at the root: references stay in the document"))
            }
            "$ref" => {
                self.references.push((of, text.to_owned()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn assertion(&mut self, of: Index, keyword: &str, value: &Value, at: &str) -> Result<(), Error> {
        let subschema = &mut self.subschemas[of];
        match (keyword, value) {
            ("pattern", Value::String(pattern)) => {
                subschema.patterns.push(pattern.clone());
                self.count_pattern(pattern, at)?;
            }
            ("minLength" | "maxLength", _) => subschema.reads_text = true,
            ("required", Value::Array(names)) => subschema.own += names.len() as u64,
            ("dependentRequired", Value::Object(names)) => {
                subschema.own += names.values().map(weigh).sum::<u64>();
            }
            ("enum" | "const", value) => {
                subschema.own += weigh(value);
                subschema.reads_text = true;
                subschema.compares += 1;
            }
            // Up to fifteen elements are compared each with each, more of them by their hashes.
            ("uniqueItems", Value::Bool(true)) => subschema.compares += 16,
            _ => {}
        }
        Ok(())
    }

    fn pattern_properties(&mut self, of: Index, value: &Value, at: &str) -> Result<(), Error> {
        for pattern in value.as_object().into_iter().flat_map(|patterns| patterns.keys()) {
            self.count_pattern(pattern, at)?;
            self.subschemas[of].name_patterns.push(pattern.clone());
        }
        let applied = self.each(value, at)?;
        self.subschemas[of].members_too.extend(applied);
        Ok(())
    }

    fn count_pattern(&mut self, pattern: &str, at: &str) -> Result<(), Error> {
        if pattern.len() > PATTERN_BYTES {
            return Err(refused(
                at,
                &format!("is a pattern of {} bytes; the limit is {PATTERN_BYTES}", pattern.len()),
            ));
        }
        self.patterns += 1;
        if self.patterns > PATTERNS {
            return Err(refused("", &format!("has more than {PATTERNS} regular expressions")));
        }
        Ok(())
    }

    /// Every schema in a list or under a name.
    fn each(&mut self, value: &Value, at: &str) -> Result<Vec<Index>, Error> {
        match value {
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, value)| self.schema(value, format!("{at}/{i}"))).collect()
            }
            Value::Object(named) => named
                .iter()
                .map(|(name, value)| self.schema(value, format!("{at}/{}", escape(name))))
                .collect(),
            _ => Ok(Vec::new()),
        }
    }

    fn resolve(&mut self) -> Result<(), Error> {
        for (from, text) in std::mem::take(&mut self.references) {
            let at = format!("{}/$ref", self.pointers[from]);
            let Some(fragment) = fragment(&text) else {
                let short: String = text.chars().take(80).collect();
                return Err(refused(
                    &at,
                    &format!("leads out of the document (`{short}`): only `#…` is followed"),
                ));
            };
            let target = self.named.get(&fragment).copied();
            let target = target.ok_or_else(|| refused(&at, "leads to no schema of the document"))?;
            self.subschemas[from].here.push(target);
        }
        Ok(())
    }
}

/// How many values there are in a value.
fn weigh(value: &Value) -> u64 {
    match value {
        Value::Array(list) => 1 + list.iter().map(weigh).sum::<u64>(),
        Value::Object(members) => 1 + members.values().map(weigh).sum::<u64>(),
        Value::String(text) => 1 + text.len() as u64 / 16,
        _ => 1,
    }
}

/// Orders subschemas so that each comes after those that it applies to the same value.
fn order(subschemas: &[Subschema], pointers: &[String]) -> Result<Vec<Index>, Error> {
    /// 0 not seen, 1 on the way down, 2 done.
    fn descend(
        at: Index,
        subschemas: &[Subschema],
        seen: &mut [u8],
        order: &mut Vec<Index>,
    ) -> Result<(), Index> {
        match seen[at] {
            0 => seen[at] = 1,
            1 => return Err(at),
            _ => return Ok(()),
        }
        for next in &subschemas[at].here {
            descend(*next, subschemas, seen, order)?;
        }
        seen[at] = 2;
        order.push(at);
        Ok(())
    }
    let mut seen = vec![0; subschemas.len()];
    let mut order = Vec::with_capacity(subschemas.len());
    for index in 0..subschemas.len() {
        descend(index, subschemas, &mut seen, &mut order)
            .map_err(|at| refused(&pointers[at], "refers to itself for the same value, without end"))?;
    }
    Ok(order)
}
