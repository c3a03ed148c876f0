//! What is compiled says what the executor says, for whatever is selected.

use super::answer::Answer;
use super::events::{EventFields, EventMessage};
use super::limits::Limits;
use super::plan::Plans;
use super::request::Params;
use super::shape::Field;
use super::subscription::EventStreamItem;
use async_graphql::{Context, EmptyMutation, Schema, Subscription};
use futures::stream::iter;
use futures::{Stream, StreamExt};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_core::event::Headers;
use weir_core::{Event, Payload, ProjectId, RequestId, TenantId, Timestamp};
use weir_engine::GapReason;

const CURSOR: &str = "AQGTo-cursor";

fn event() -> Event {
    Event {
        tenant: TenantId::new(),
        project: ProjectId::new(),
        sequence: u64::MAX,
        previous: 3,
        id: "a\"b".parse().expect("id"),
        topic: "t.1".parse().expect("topic"),
        payload: Payload::parse("{\"x\": 1.10, \"é\\u2028\": [null]}".as_bytes()).expect("payload"),
        kind: None,
        headers: Headers::stored(vec![("a".into(), "\u{1}".into()), ("b".into(), "é\\".into())]),
        published_at: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

const GAP: weir_engine::Gap = weir_engine::Gap { reason: GapReason::EpochChanged, from: 1, to: u64::MAX };

/// An event stream that the executor itself resolves.
struct Resolved;

#[Subscription(name = "Subscription")]
impl Resolved {
    async fn event_stream(&self, ctx: &Context<'_>) -> impl Stream<Item = EventStreamItem> + use<> {
        ctx.data_unchecked::<Plans>().note(ctx, Vec::new(), None);
        let message: EventMessage = EventFields::of(&event(), CURSOR.into());
        iter([EventStreamItem::Message(message), EventStreamItem::Gap((&GAP).into())])
    }
}

struct Query;

#[async_graphql::Object]
impl Query {
    async fn nothing(&self) -> i32 {
        0
    }
}

/// A field on a type, perhaps under another name, perhaps taken out.
fn field(on: &'static str) -> BoxedStrategy<String> {
    let names: &[&str] = match on {
        "EventMessage" => &[
            "__typename",
            "id",
            "topic",
            "type",
            "payload",
            "headers",
            "sequence",
            "previous",
            "cursor",
            "published_at",
        ],
        "Gap" => &["__typename", "reason", "from", "to"],
        _ => &["__typename"],
    };
    let directive = prop_oneof![
        4 => Just(""),
        1 => Just(" @skip(if: $yes)"),
        1 => Just(" @include(if: $yes)"),
        1 => Just(" @include(if: false)"),
        1 => Just(" @skip(if: $no)"),
    ];
    (proptest::sample::select(names.to_vec()), 0..3_usize, directive)
        .prop_map(|(name, alias, directive)| match alias {
            0 => format!("{name}{directive}"),
            // The same alias is always the same field.
            n => format!("as{n}_{}: {name}{directive}", name.trim_start_matches('_')),
        })
        .boxed()
}

/// Selections on a type: fields, inline fragments, spreads of fragments (defined below, each on its own type). Within
/// an object there is nothing on the union again: the executor passes over it (see the test below).
fn set(on: &'static str, depth: usize) -> BoxedStrategy<String> {
    if depth == 0 {
        return vec(field(on), 1..4).prop_map(|fields| fields.join(" ")).boxed();
    }
    let condition = match on {
        "EventStreamItem" => proptest::sample::select(vec!["EventMessage", "Gap", "EventStreamItem"]).boxed(),
        concrete => Just(concrete).boxed(),
    };
    let inline = condition.prop_flat_map(move |condition| {
        set(condition, depth - 1).prop_map(move |inner| format!("... on {condition} {{ {inner} }}"))
    });
    let bare = set(on, depth - 1).prop_map(|inner| format!("... @include(if: $yes) {{ {inner} }}"));
    let spread = proptest::sample::select(match on {
        "EventMessage" => vec!["...M"],
        "Gap" => vec!["...G"],
        _ => vec!["...M", "...G", "...I"],
    });
    let item = prop_oneof![3 => field(on), 2 => inline, 1 => bare, 1 => spread.prop_map(str::to_owned)];
    vec(item, 1..5).prop_map(|items| items.join(" ")).boxed()
}

fn operation() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![Just("eventStream".to_owned()), Just("e1: eventStream".to_owned())];
    let parts =
        (name, set("EventStreamItem", 2), set("EventMessage", 0), set("Gap", 0), set("EventStreamItem", 0));
    parts.prop_map(|(name, selection, message, gap, item)| {
        // Every fragment and variable is used somewhere, as validation wants it.
        let text = format!(
            "subscription($yes: Boolean! = true, $no: Boolean!) {{ {name} {{ {selection} ...M ...G ...I ... @skip(if: $yes) {{ x: __typename }} \
             ... @skip(if: $no) {{ y: __typename }} }} }} \
             fragment M on EventMessage {{ {message} }} fragment G on Gap {{ {gap} }} fragment I on EventStreamItem {{ {item} }}"
        );
        (name.split(':').next().unwrap_or_default().to_owned(), text)
    })
}

fn compiled_answers(plans: &Plans) -> [String; 2] {
    let plan = plans.take().expect("the resolver was asked");
    let event = event();
    let shown: Value = serde_json::from_slice(&weir_engine::event_json(&event, CURSOR)).expect("json");
    let text = |name: &str| Some(shown.get(name)?.to_string().into_bytes());
    let payload = event.payload.as_bytes().to_vec();
    let texts: Vec<(Field, Option<Vec<u8>>)> = vec![
        (Field::Id, text("id")),
        (Field::Topic, text("topic")),
        (Field::Type, text("type")),
        (Field::Payload, Some(payload)),
        (Field::Headers, text("headers")),
        (Field::Sequence, text("sequence")),
        (Field::Previous, text("previous")),
        (Field::Cursor, text("cursor")),
        (Field::PublishedAt, text("published_at")),
    ];
    let of = |field| texts.iter().find(|(known, _)| *known == field).and_then(|(_, text)| text.as_deref());
    let (mut message, mut gap) = (Vec::new(), Vec::new());
    plan.compiled.write_event(&mut message, of);
    plan.compiled.write_gap(&mut gap, &GAP);
    [message, gap].map(|text| {
        let text = String::from_utf8(text).expect("utf-8");
        format!("{{\"data\":{{\"{}\":{text}}}}}", plan.name)
    })
}

/// Runs an operation: what the executor resolves, and what is compiled.
fn both(text: &str) -> (Vec<String>, [String; 2]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let limits = Limits { aliases: 1_000, directives: 1_000, cost: 10_000, ..Limits::default() };
    let body = json!({"query": text, "variables": {"no": false}}).to_string();
    let params = Params::from_body(body.as_bytes()).expect("a request");
    let (request, _) = params.prepare(&limits).expect("within limits");
    let schema = Schema::new(Query, EmptyMutation, Resolved);
    let plans = Plans::default();
    let results = schema.execute_stream(request.data(plans.clone()));
    let answers: Vec<Answer> =
        runtime.block_on(results.map(|result| Answer::of(result, &RequestId::new())).collect());
    let resolved = answers.iter().map(|answer| String::from_utf8(answer.text()).expect("utf-8")).collect();
    (resolved, compiled_answers(&plans))
}

#[test]
fn what_is_selected_on_the_union_within_an_object_applies_to_it() {
    let inner =
        "... on EventMessage { ... on EventStreamItem { a: __typename ... on EventMessage { sequence } } }";
    let (_, [message, gap]) = both(&format!(
        "subscription {{ eventStream {{ {inner} ... on Gap {{ ...I }} }} }} \
        fragment I on EventStreamItem {{ g: __typename }}"
    ));
    assert_eq!(
        message,
        format!(r#"{{"data":{{"eventStream":{{"a":"EventMessage","sequence":{}}}}}}}"#, u64::MAX)
    );
    assert_eq!(gap, r#"{"data":{"eventStream":{"g":"Gap"}}}"#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_hub_writes_what_the_executor_resolves((name, text) in operation()) {
        let (resolved, compiled) = both(&text);
        prop_assert!(compiled[0].contains(name.as_str()));
        prop_assert_eq!(resolved, compiled, "{}", text);
    }
}
