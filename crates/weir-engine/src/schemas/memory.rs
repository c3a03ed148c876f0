//! What the compiled schemas of a node take of its memory, by estimate, and how much that may be. Not in it is what
//! expressions learn while matching, which `compile` bounds.

use super::compile::Ready;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// For a value of a schema's document: a keyword becomes an object or two with its place in the schema.
const VALUE: usize = 512;
/// For what every compiled schema has.
const SCHEMA: usize = 8 * 1024;
/// For what every regular expression has.
const EXPRESSION: usize = 4 * 1024;
/// Automata that are made of a regular expression: forwards, backwards, and one for short texts.
const AUTOMATA: usize = 3;

/// The bytes that a compiled schema takes. `patterns` are its regular expressions with the KiB that each takes compiled.
pub(super) fn estimate(schema: &Value, patterns: &HashMap<String, usize>) -> usize {
    let patterns = patterns.iter().map(|(text, kib)| EXPRESSION + text.len() + AUTOMATA * kib * 1024);
    SCHEMA + of_value(schema) + patterns.sum::<usize>()
}

fn of_value(value: &Value) -> usize {
    VALUE
        + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(of_value).sum(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| 2 * name.len() + of_value(value)).sum()
            }
            _ => 0,
        }
}

/// What is held, and what may be.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    held: AtomicUsize,
    evicted: AtomicU64,
    begin: Instant,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0), evicted: AtomicU64::new(0), begin: Instant::now() }
    }

    /// Counts a compiled schema for as long as it is there.
    pub(super) fn hold(self: &Arc<Self>, ready: Option<&Ready>) -> Held {
        let bytes = ready.map_or(SCHEMA, |ready| ready.bytes);
        self.held.fetch_add(bytes, Relaxed);
        Held { memory: Arc::clone(self), bytes }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes of all that is there.
    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// The bytes above the limit.
    pub(super) fn over(&self) -> usize {
        self.held().saturating_sub(self.limit)
    }

    /// A project's schemas were evicted.
    pub(super) fn note_evicted(&self) {
        self.evicted.fetch_add(1, Relaxed);
    }

    /// How often that happened.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// A time to compare with others.
    pub(super) fn tick(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A compiled schema's share, given back with it.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<Memory>,
    pub(super) bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
