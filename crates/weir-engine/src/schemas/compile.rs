//! From a document to something that judges payloads.

use super::cost::Profile;
use super::document::{Document, refused};
use super::memory::estimate;
use crate::Error;
use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::sync::{Semaphore, oneshot};
use weir_core::payload::{InvalidPayload, Payload};

/// Bytes of a schema's text at most.
pub(super) const DOCUMENT_BYTES: usize = 64 * 1024;
/// Sizes that a compiled regular expression is tried to fit, in KiB; the last is the limit.
const PATTERN_KIB: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The steps that an expression takes for sixteen bytes of text, for each KiB that it takes compiled.
const STEPS_PER_KIB: u64 = 32;
/// What one regular expression may keep of what it learnt while matching.
const PATTERN_CACHE: usize = 128 * 1024;
/// Compiling goes down along references, a schema at a time: far deeper than checking ever does.
const STACK: usize = 64 << 20;
/// New schemas that are looked at, one at a time: who sets many waits for himself.
pub(super) static SETTING: Semaphore = Semaphore::const_new(1);
/// Schemas in force that are made ready. Apart from the others, as requests of everybody wait for these.
pub(super) static LOADING: Semaphore = Semaphore::const_new(2);

/// A schema ready for use.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) validator: Validator,
    pub(super) profile: Profile,
    /// What it takes of memory, by estimate.
    pub(super) bytes: usize,
}

/// Does work that may need a deep stack and some time, in a thread of its own, when it is its turn.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub(super) async fn apart<T: Send + 'static>(
    turns: &Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let _turn = turns.acquire().await.map_err(Error::internal)?;
    let (done, finished) = oneshot::channel();
    let thread = std::thread::Builder::new().name("weir-schema".into()).stack_size(STACK);
    let run = move || {
        let _ = done.send(work());
    };
    thread.spawn(run).map_err(Error::internal)?;
    finished.await.map_err(|_| Error::internal("a schema could not be worked on"))
}

/// Reads a schema's text, within the bounds of size and nesting.
///
/// # Errors
/// `INVALID_REQUEST`, saying which bound it is.
pub(super) fn parse(text: &str) -> Result<Value, Error> {
    if text.len() > DOCUMENT_BYTES {
        return Err(refused("", &format!("has {} bytes; the limit is {DOCUMENT_BYTES}", text.len())));
    }
    match Payload::parse(text.as_bytes()) {
        Err(InvalidPayload::TooDeep(depth)) => {
            let limit = weir_core::payload::MAX_DEPTH;
            Err(refused("", &format!("is nested {depth} levels deep; the limit is {limit}")))
        }
        _ => serde_json::from_str(text).map_err(|error| refused("", &format!("is not JSON: {error}"))),
    }
}

/// Makes a schema ready. Needs a deep stack: call it [`apart`].
///
/// # Errors
/// `INVALID_REQUEST`, saying what is wrong with the schema and where.
pub(super) fn compile(schema: &Value) -> Result<Ready, Error> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(refused("", "must be an object, `true` or `false`"));
    }
    let document = Document::read(schema)?;
    let mut sizes = HashMap::new();
    for pattern in document.patterns() {
        if !sizes.contains_key(pattern) {
            sizes.insert(pattern.to_owned(), weigh(pattern)?);
        }
    }
    let weights = sizes.iter().map(|(pattern, kib)| (pattern.clone(), STEPS_PER_KIB * *kib as u64)).collect();
    let profile = Profile::of(&document, &weights)?;
    let limit = PATTERN_KIB[PATTERN_KIB.len() - 1];
    let validator = options(limit).build(&anonymous(schema)).map_err(|error| {
        let message: String = error.masked_with("this").to_string().chars().take(200).collect();
        refused(error.instance_path().as_str(), &format!("is not as JSON Schema 2020-12 has it: {message}"))
    })?;
    Ok(Ready { validator, profile, bytes: estimate(schema, &sizes) })
}

/// The schema without the name that it gives itself: references stay in the document whatever it is called.
fn anonymous(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(keywords) = &mut schema {
        keywords.remove("$id");
        keywords.remove("$schema");
    }
    schema
}

fn options(pattern_kib: usize) -> ValidationOptions<'static> {
    // Expressions that take time in proportion to the text, whatever they are.
    let patterns = PatternOptions::regex().size_limit(pattern_kib * 1024).dfa_size_limit(PATTERN_CACHE);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        // `format` is an annotation, as 2020-12 has it.
        .should_validate_formats(false)
        .with_pattern_options(patterns)
}

/// The KiB that an expression takes compiled, up to the next of the sizes that are tried.
fn weigh(pattern: &str) -> Result<usize, Error> {
    let schema = json!({ "pattern": pattern });
    let fits = |kib: &usize| options(*kib).build(&schema).is_ok();
    if let Some(kib) = PATTERN_KIB.into_iter().find(fits) {
        return Ok(kib);
    }
    let short: String = pattern.chars().take(80).collect();
    let limit = PATTERN_KIB[PATTERN_KIB.len() - 1];
    let why = if fits(&(limit * 16)) {
        format!("has a pattern that is too large: `{short}` takes more than {limit} KiB compiled")
    } else {
        format!(
            "has a pattern that cannot be used: `{short}` is not a regular expression without look-around and back-references, or takes more than {} KiB compiled",
            limit * 16
        )
    };
    Err(refused("", &why))
}
