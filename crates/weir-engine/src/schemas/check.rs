//! Holding a payload against the schemas of its topic.

use super::compile::Ready;
use super::cost::{BATCH_STEPS, EVENT_STEPS, Size};
use super::memory::Held;
use crate::Error;
use serde_json::{Value, json};
use weir_core::{Code, Pattern, Payload, Topic};

/// Failures that are told of one payload.
const TOLD: usize = 5;
/// Characters of one message or path.
const TEXT: usize = 200;
/// Finding where a payload fails makes an object for each failure. Beyond so many steps only that it fails is told.
const EXPLAINED_STEPS: u64 = 20_000;

/// A schema in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) pattern: Pattern,
    pub(super) version: u32,
    /// `None` when what is stored cannot be used by this program: then nothing passes.
    pub(super) ready: Option<Ready>,
    /// Its share of the node's memory for schemas.
    pub(super) held: Held,
}

/// The schemas in force in a project, the most specific first. An event must fit all that select its topic.
#[derive(Debug)]
pub(crate) struct ProjectSchemas(pub(super) Vec<std::sync::Arc<InForce>>);

/// The steps that are left to the events of one request.
pub(crate) struct Steps(u64);

impl Default for Steps {
    fn default() -> Self {
        Self(BATCH_STEPS)
    }
}

impl ProjectSchemas {
    /// What they take of memory, by estimate.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|schema| schema.held.bytes).sum()
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// `INVALID_EVENT_PAYLOAD` with the schema and up to five places that do not fit it.
    pub(crate) fn check(&self, topic: &Topic, payload: &Payload, left: &mut Steps) -> Result<(), Error> {
        let mut selected = self.0.iter().filter(|schema| schema.pattern.matches(topic.as_str())).peekable();
        if selected.peek().is_none() {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(payload.as_bytes()).map_err(|error| {
            Error::new(
                Code::InvalidEventPayload,
                format!("The payload cannot be held against the topic's schema: {error}."),
            )
        })?;
        let size = Size::of(&value);
        let mut spent = 0_u64;
        for schema in selected {
            let Some(ready) = &schema.ready else { return Err(unusable(schema)) };
            let steps = ready.profile.steps(&size);
            spent = spent.saturating_add(steps);
            if spent > EVENT_STEPS {
                return Err(schema.too_costly(topic, spent, EVENT_STEPS, "Send a smaller payload."));
            }
            if steps > left.0 {
                let hint = "The events before it in the batch took the rest: send fewer at once.";
                return Err(schema.too_costly(topic, steps, left.0, hint));
            }
            left.0 -= steps;
            if !ready.validator.is_valid(&value) {
                return Err(schema.failed(topic, errors(ready, &value, steps)));
            }
        }
        Ok(())
    }
}

impl InForce {
    fn failed(&self, topic: &Topic, errors: Vec<Value>) -> Error {
        let Self { pattern, version, .. } = self;
        let first = errors.first().map_or("", |error| error["message"].as_str().unwrap_or(""));
        let message =
            format!("The payload does not fit version {version} of the schema of `{pattern}`: {first}.");
        self.refusal(topic, &message).with(json!({
            "topic": topic.as_str(),
            "schema": { "pattern": pattern.as_str(), "version": version },
            "errors": errors,
        }))
    }

    fn too_costly(&self, topic: &Topic, steps: u64, limit: u64, hint: &str) -> Error {
        let message = format!(
            "Checking the payload against the schema of `{}` may take {steps} steps; the limit is {limit}. {hint}",
            self.pattern
        );
        self.refusal(topic, &message).with(json!({
            "topic": topic.as_str(),
            "schema": { "pattern": self.pattern.as_str(), "version": self.version },
            "steps": steps,
            "limit": limit,
        }))
    }

    fn refusal(&self, _: &Topic, message: &str) -> Error {
        Error::new(Code::InvalidEventPayload, message)
    }
}

fn unusable(schema: &InForce) -> Error {
    Error::internal(format!(
        "version {} of the stored schema of `{}` cannot be compiled",
        schema.version, schema.pattern
    ))
}

/// Where a payload fails. What it says there is not repeated.
fn errors(ready: &Ready, value: &Value, steps: u64) -> Vec<Value> {
    if steps > EXPLAINED_STEPS {
        let message = "the payload is too large to say where it does not fit";
        return vec![json!({ "instance_path": "", "schema_path": "", "message": message })];
    }
    let found = ready.validator.iter_errors(value).take(TOLD);
    found
        .map(|error| {
            json!({
                "instance_path": cut(error.instance_path().as_str()),
                "schema_path": cut(error.schema_path().as_str()),
                "message": cut(&error.masked_with("the value").to_string()),
            })
        })
        .collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
