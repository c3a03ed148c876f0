//! What checking costs, before it is done: the most that a schema may have to do with a value at each depth,
//! held against how many values a payload has there. Counted, not timed, so that the same payload is always
//! either checked or refused.

use super::document::{Document, Subschema, refused};
use crate::Error;
use serde_json::Value;
use std::collections::HashMap;
use weir_core::payload::MAX_DEPTH;

/// Steps that one event may take. A step is about as long as comparing two numbers takes: tens of nanoseconds.
pub(super) const EVENT_STEPS: u64 = 1_000_000;
/// Steps that the events of one batch may take together.
pub(super) const BATCH_STEPS: u64 = 4 * EVENT_STEPS;
/// Steps that one value may take by itself: whoever asks for more could hardly send anything.
const VALUE_STEPS: u64 = 5_000;
/// Applications of schemas within each other, which is how deep the stack gets.
const HEIGHT: u64 = 400;
/// Bytes of text that are looked at in one step.
const TEXT_STEP: u64 = 16;

/// What falls on one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// Steps.
    visits: u64,
    /// Steps for every [`TEXT_STEP`] bytes of its text and its name.
    text: u64,
    /// How often everything that is in it is gone through.
    compares: u64,
    /// Schemas within schemas, from the top.
    height: u64,
}

impl Load {
    const fn plus(self, other: Self) -> Self {
        Self {
            visits: self.visits.saturating_add(other.visits),
            text: self.text.saturating_add(other.text),
            compares: self.compares.saturating_add(other.compares),
            height: if self.height > other.height { self.height } else { other.height },
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            visits: self.visits.max(other.visits),
            text: self.text.max(other.text),
            compares: self.compares.max(other.compares),
            height: self.height.max(other.height),
        }
    }

    const fn times(self, factor: u64) -> Self {
        Self {
            visits: self.visits.saturating_mul(factor),
            text: self.text.saturating_mul(factor),
            compares: self.compares.saturating_mul(factor),
            height: self.height,
        }
    }

    const fn above(self) -> Self {
        Self { height: if self.height == 0 { 0 } else { self.height.saturating_add(1) }, ..self }
    }
}

/// A schema's load on the values at each depth of a payload.
#[derive(Debug)]
pub(super) struct Profile(Vec<Load>);

impl Profile {
    /// Adds a schema's loads up. `weights` are the steps that a regular expression takes for [`TEXT_STEP`] bytes.
    ///
    /// # Errors
    /// When a value may take more than is reasonable: subschemas that multiply.
    pub(super) fn of(document: &Document, weights: &HashMap<String, u64>) -> Result<Self, Error> {
        let count = document.subschemas.len();
        let mut levels = vec![1_u64; count];
        for index in &document.order {
            let here = &document.subschemas[*index].here;
            levels[*index] = 1 + here.iter().map(|next| levels[*next]).max().unwrap_or(0);
        }
        let mut profile = Vec::with_capacity(MAX_DEPTH + 1);
        let mut above: Vec<Load> = Vec::new();
        for depth in 0..=MAX_DEPTH {
            let mut now = vec![Load::default(); count];
            for index in &document.order {
                let subschema = &document.subschemas[*index];
                let own = if depth == 0 {
                    own(subschema, weights)
                } else {
                    inside(subschema, &above, depth, weights)
                };
                let applied = subschema.here.iter().map(|next| now[*next].above());
                let load = applied.fold(own, Load::plus);
                // Which members count as evaluated is found by applying it all again, level by level.
                let again = if subschema.unevaluated { 2 + levels[*index] } else { 1 };
                now[*index] = load.times(again);
            }
            profile.push(now[0]);
            above = now;
        }
        let profile = Self(profile);
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), Error> {
        let most = self.0.iter().copied().fold(Load::default(), Load::most);
        if most.height > HEIGHT {
            return Err(refused(
                "",
                &format!("applies more than {HEIGHT} subschemas within each other: make it flatter"),
            ));
        }
        let steps = most.visits.max(most.compares).max(most.text / TEXT_STEP);
        if steps > VALUE_STEPS {
            return Err(refused(
                "",
                &format!(
                    "may take {steps} steps for a single value; the limit is {VALUE_STEPS}. Alternatives within alternatives multiply"
                ),
            ));
        }
        Ok(())
    }

    /// The most steps that checking a payload of this size takes.
    pub(super) fn steps(&self, size: &Size) -> u64 {
        self.0.iter().zip(&size.0).fold(0, |steps, (load, level)| {
            steps
                .saturating_add(load.visits.saturating_mul(level.values))
                .saturating_add(load.text.saturating_mul(level.text.div_ceil(TEXT_STEP)))
                .saturating_add(load.compares.saturating_mul(level.within))
        })
    }
}

fn own(subschema: &Subschema, weights: &HashMap<String, u64>) -> Load {
    let patterns = subschema.patterns.iter().map(|pattern| weight(pattern, weights)).sum::<u64>();
    Load {
        visits: subschema.own,
        text: patterns + u64::from(subschema.reads_text),
        compares: subschema.compares,
        height: 1,
    }
}

/// The load on what is inside a value: `above` is the subschemas' load one level less deep.
fn inside(subschema: &Subschema, above: &[Load], depth: usize, weights: &HashMap<String, u64>) -> Load {
    let most = |which: &[usize]| which.iter().map(|next| above[*next]).fold(Load::default(), Load::most);
    let all = |which: &[usize]| which.iter().map(|next| above[*next]).fold(Load::default(), Load::plus);
    let mut members = most(&subschema.members).plus(all(&subschema.members_too));
    if depth == 1 {
        // A member is matched with every expression, whether it is the one for it or not.
        let text = subschema.name_patterns.iter().map(|pattern| weight(pattern, weights)).sum::<u64>();
        let visits = subschema.name_patterns.len() as u64;
        members = members.plus(Load { visits, text, ..Load::default() });
    }
    let elements = most(&subschema.elements).plus(all(&subschema.elements_too));
    members.most(elements).above()
}

fn weight(pattern: &str, weights: &HashMap<String, u64>) -> u64 {
    // One that was not weighed would be a defect; the most is the safe answer.
    weights.get(pattern).copied().unwrap_or(VALUE_STEPS)
}

/// What a payload has at one depth.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    values: u64,
    /// Bytes of strings, and of the names of these values.
    text: u64,
    /// Everything inside these values, themselves included.
    within: u64,
}

/// How large a payload is, depth by depth.
#[derive(Debug)]
pub(super) struct Size([Level; MAX_DEPTH + 1]);

impl Size {
    pub(super) fn of(payload: &Value) -> Self {
        let mut size = Self([Level::default(); MAX_DEPTH + 1]);
        size.add(payload, 0, 0);
        size
    }

    /// Adds a value that has a name of so many bytes; returns how much is in it.
    fn add(&mut self, value: &Value, depth: usize, name: usize) -> u64 {
        // Deeper payloads are refused at the door.
        let depth = depth.min(MAX_DEPTH);
        let (text, inside) = match value {
            Value::String(text) => (text.len() as u64, 0),
            Value::Array(list) => (0, list.iter().map(|value| self.add(value, depth + 1, 0)).sum()),
            Value::Object(members) => {
                (0, members.iter().map(|(name, value)| self.add(value, depth + 1, name.len())).sum())
            }
            _ => (0, 0),
        };
        let text = text + name as u64;
        let within: u64 = 1 + text / TEXT_STEP + inside;
        let level = &mut self.0[depth];
        level.values += 1;
        level.text += text;
        level.within += within;
        within
    }
}
