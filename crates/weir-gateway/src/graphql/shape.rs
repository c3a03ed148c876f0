//! An `eventStream` selection, compiled to the text around the fields of an event.
//!
//! The executor would build a tree of values for each event and subscriber. Every field of an event is
//! JSON text already, so its selection is a list of texts and places to fill: written once for all operations that
//! select the same. A test holds both ways equal.

use async_graphql::Context;
use async_graphql::parser::types::{Field as Selected, Selection, SelectionSet};
use serde::Serialize;
use weir_engine::Fields;
use weir_hub::{Message, Shape};

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Topic,
    Type,
    Payload,
    Headers,
    Sequence,
    Previous,
    Cursor,
    PublishedAt,
}

/// A field of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapField {
    Reason,
    From,
    To,
}

/// What is written before a value, and which value.
#[derive(Clone, Debug)]
struct Piece<F> {
    before: Box<str>,
    field: F,
}

/// An object's texts and places.
#[derive(Clone, Debug)]
struct Template<F> {
    pieces: Vec<Piece<F>>,
    end: Box<str>,
}

/// A selection on the items of an event stream.
#[derive(Debug)]
pub(super) struct Compiled {
    key: String,
    event: Template<Field>,
    gap: Template<GapField>,
}

impl Compiled {
    /// Compiles the selection of the field that is being resolved. It is valid: the executor has seen to that.
    pub(super) fn of(ctx: &Context<'_>) -> Self {
        let set = &ctx.item.node.selection_set.node;
        let event = Template::of(ctx, set, "EventMessage", |name| match name {
            "id" => Some(Field::Id),
            "topic" => Some(Field::Topic),
            "type" => Some(Field::Type),
            "payload" => Some(Field::Payload),
            "headers" => Some(Field::Headers),
            "sequence" => Some(Field::Sequence),
            "previous" => Some(Field::Previous),
            "cursor" => Some(Field::Cursor),
            "published_at" => Some(Field::PublishedAt),
            _ => None,
        });
        let gap = Template::of(ctx, set, "Gap", |name| match name {
            "reason" => Some(GapField::Reason),
            "from" => Some(GapField::From),
            "to" => Some(GapField::To),
            _ => None,
        });
        let mut key = String::new();
        for piece in &event.pieces {
            key.push_str(&piece.before);
            key.push_str(&format!("{:?}", piece.field));
        }
        key.push_str(&event.end);
        Self { key, event, gap }
    }

    /// Writes an event whose fields are given as JSON text; one without a text is null.
    pub(super) fn write_event<'a>(&self, out: &mut Vec<u8>, field: impl Fn(Field) -> Option<&'a [u8]>) {
        self.event.write(out, |out, which| out.extend_from_slice(field(which).unwrap_or(b"null")));
    }

    /// Writes a gap.
    pub(super) fn write_gap(&self, out: &mut Vec<u8>, gap: &weir_engine::Gap) {
        self.gap.write(out, |out, which| match which {
            GapField::Reason => json(out, &gap.reason),
            GapField::From => json(out, &gap.from),
            GapField::To => json(out, &gap.to),
        });
    }
}

impl Shape for Compiled {
    fn key(&self) -> &str {
        &self.key
    }

    fn render(&self, message: &Message, out: &mut Vec<u8>) {
        let fields = Fields::of(message);
        self.write_event(out, |field| match field {
            Field::Id => Some(fields.id()),
            Field::Topic => Some(fields.topic()),
            Field::Type => fields.kind(),
            Field::Payload => Some(fields.payload()),
            Field::Headers => fields.headers(),
            Field::Sequence => Some(fields.sequence()),
            Field::Previous => Some(fields.previous()),
            Field::Cursor => Some(fields.cursor()),
            Field::PublishedAt => Some(fields.published_at()),
        });
    }
}

fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Writing into a Vec cannot fail.
    let _ = serde_json::to_writer(out, value);
}

impl<F> Template<F> {
    fn of(ctx: &Context<'_>, set: &SelectionSet, on: &str, field: impl Fn(&str) -> Option<F>) -> Self {
        let mut selected = Vec::new();
        collect(ctx, set, on, &mut selected);
        let mut pieces: Vec<Piece<F>> = Vec::with_capacity(selected.len());
        let mut text = "{".to_owned();
        for (i, (name, selected)) in selected.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            // Names are letters, digits and underscores.
            text.push_str(&format!("\"{name}\":"));
            match field(&selected.name.node) {
                Some(field) => pieces.push(Piece { before: std::mem::take(&mut text).into(), field }),
                // The one field that is the same for all: `__typename`.
                None => text.push_str(&format!("\"{on}\"")),
            }
        }
        text.push('}');
        Self { pieces, end: text.into() }
    }

    fn write(&self, out: &mut Vec<u8>, mut value: impl FnMut(&mut Vec<u8>, F))
    where
        F: Copy,
    {
        for piece in &self.pieces {
            out.extend_from_slice(piece.before.as_bytes());
            value(out, piece.field);
        }
        out.extend_from_slice(self.end.as_bytes());
    }
}

/// The fields selected on a type, in the order and under the names of the answer (CollectFields of the specification).
/// What `@skip` and `@include` take out is gone already, and the fragments end: both were seen to before.
fn collect<'a>(ctx: &Context<'a>, set: &'a SelectionSet, on: &str, found: &mut Vec<(&'a str, &'a Selected)>) {
    let applies = |condition: &str| condition == on || condition == "EventStreamItem";
    for item in &set.items {
        match &item.node {
            Selection::Field(field) => {
                let name = field.node.response_key().node.as_str();
                if found.iter().all(|(known, _)| *known != name) {
                    found.push((name, &field.node));
                }
            }
            Selection::InlineFragment(fragment) => {
                let fragment = &fragment.node;
                if fragment.type_condition.as_ref().is_none_or(|condition| applies(&condition.node.on.node)) {
                    collect(ctx, &fragment.selection_set.node, on, found);
                }
            }
            Selection::FragmentSpread(spread) => {
                let fragment = ctx.query_env.fragments.get(&spread.node.fragment_name.node);
                if let Some(fragment) = fragment.filter(|one| applies(&one.node.type_condition.node.on.node))
                {
                    collect(ctx, &fragment.node.selection_set.node, on, found);
                }
            }
        }
    }
}
