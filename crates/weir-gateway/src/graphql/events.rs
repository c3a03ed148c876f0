//! Events: history, publishing, and what an event looks like.

use super::connection::{self, Edge, PageInfo};
use super::scalars::{DateTime, Json, Long};
use super::viewer::Viewer;
use crate::query::one_start;
use crate::rest::invalid;
use crate::scene;
use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use weir_core::event::Headers;
use weir_core::{Code, NewEvent, Pattern};
use weir_engine::{Error, GapReason, Published, Start};

/// Marks the event of a list or of an answer.
pub(super) struct Kept;

/// Marks the event of a subscription.
pub(super) struct Live;

/// An event of a project.
pub(super) type Event = EventFields<Kept>;
/// An event that a subscription delivers.
pub(super) type EventMessage = EventFields<Live>;

/// An event. The same fields wherever one is shown, named as on every other transport.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
#[graphql(concrete(name = "Event", params(Kept)), concrete(name = "EventMessage", params(Live)))]
pub(super) struct EventFields<Use: Send + Sync> {
    /// The publisher's id, or the one it was given.
    pub id: ID,
    /// Where it was published.
    pub topic: String,
    /// The publisher's word for what kind of event it is.
    #[graphql(name = "type")]
    pub kind: Option<String>,
    /// What it says: any JSON value, `null` among them.
    pub payload: Option<Json>,
    /// Pairs that travel with it, an object of strings; null when there are none.
    pub headers: Option<Json>,
    /// Its place in the project's order: strictly increasing over all topics, the same live and in replay. It may skip.
    pub sequence: Long,
    /// The sequence of the event before it on the same topic; 0 when none was retained. The answer to a publish does not
    /// know it.
    pub previous: Option<Long>,
    /// Resume after it with this, on any transport.
    pub cursor: String,
    /// When it was accepted.
    pub published_at: DateTime,
    #[graphql(skip)]
    pub shown: PhantomData<Use>,
}

impl<Use: Send + Sync> EventFields<Use> {
    pub(super) fn of(event: &weir_core::Event, cursor: String) -> Self {
        Self {
            id: ID(event.id.as_str().to_owned()),
            topic: event.topic.to_string(),
            kind: event.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            payload: Some(Json::stored(&event.payload)),
            headers: header_object(&event.headers),
            sequence: Long(event.sequence),
            previous: Some(Long(event.previous)),
            cursor,
            published_at: event.published_at.into(),
            shown: PhantomData,
        }
    }

    fn published(event: &NewEvent, published: Published) -> Self {
        Self {
            id: ID(published.id.as_str().to_owned()),
            topic: published.topic.to_string(),
            kind: event.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            payload: Some(Json::stored(&event.payload)),
            headers: header_object(&event.headers),
            sequence: Long(published.sequence),
            previous: None,
            cursor: published.cursor,
            published_at: published.published_at.into(),
            shown: PhantomData,
        }
    }
}

fn header_object(headers: &Headers) -> Option<Json> {
    struct Pairs<'a>(&'a [(String, String)]);
    impl serde::Serialize for Pairs<'_> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
            s.collect_map(self.0.iter().map(|(name, value)| (name, value)))
        }
    }
    (!headers.is_empty()).then(|| Json::of(&Pairs(headers.pairs())))
}

/// Why events will not come.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "GapReason", rename_items = "snake_case")]
pub(super) enum Reason {
    /// The events are no longer retained.
    Expired,
    /// The log was made anew since the cursor was issued.
    EpochChanged,
    /// The cursor points beyond the end: the log lost events that were read before.
    AheadOfLog,
    /// Another event stands at the cursor's place: the log was restored and written on.
    Rewritten,
}

/// Events that will not come, declared.
#[derive(SimpleObject)]
pub(super) struct Gap {
    /// Why.
    pub reason: Reason,
    /// The first sequence that is missing or cannot be trusted.
    pub from: Long,
    /// The last one.
    pub to: Long,
}

impl From<&weir_engine::Gap> for Gap {
    fn from(gap: &weir_engine::Gap) -> Self {
        let reason = match gap.reason {
            GapReason::Expired => Reason::Expired,
            GapReason::EpochChanged => Reason::EpochChanged,
            GapReason::AheadOfLog => Reason::AheadOfLog,
            GapReason::Rewritten => Reason::Rewritten,
        };
        Self { reason, from: Long(gap.from), to: Long(gap.to) }
    }
}

/// Which events, and from where. At most one of `from_sequence` and `from_time`; without either from the first retained
/// event. `after` of the list goes before both.
#[derive(InputObject, Default)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct EventFilter {
    /// Topics and patterns (`*` one token, a last `>` one or more); all when absent.
    topics: Option<Vec<String>>,
    /// The first sequence wanted.
    from_sequence: Option<Long>,
    /// The first time wanted.
    from_time: Option<DateTime>,
}

/// A page of history.
#[derive(SimpleObject)]
pub(super) struct EventConnection {
    /// The events, in order.
    edges: Vec<Edge<Event>>,
    /// How this page lies in history. `endCursor` also resumes live on any transport; a page may hold fewer events than
    /// were asked for and still have more after it.
    #[graphql(name = "pageInfo")]
    page_info: PageInfo,
    /// What is missing before the first event of the page.
    gap: Option<Gap>,
}

/// An event to publish.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct EventInput {
    /// Where: 1 to 8 tokens of `A-Z a-z 0-9 _ - = @ , ; :` joined by dots, at most 200 bytes.
    topic: String,
    /// What: any JSON value, and `null` is one; it must be given.
    payload: MaybeUndefined<Json>,
    /// Your own id, 1 to 128 printable ASCII characters. Publishing the same event with it again within the dedupe
    /// window adds nothing and gives the first answer.
    id: Option<ID>,
    /// What kind of event it is, in your words.
    #[graphql(name = "type")]
    kind: Option<String>,
    /// Pairs that travel with the event: an object of strings.
    headers: Option<Json>,
}

impl EventInput {
    fn into_event(self) -> Result<NewEvent, Error> {
        let headers: BTreeMap<String, String> = match &self.headers {
            Some(headers) => headers.read("headers", "an object of strings")?,
            None => BTreeMap::new(),
        };
        let payload = match self.payload {
            MaybeUndefined::Value(payload) => payload,
            MaybeUndefined::Null => Json::of(&()),
            MaybeUndefined::Undefined => return Err(invalid("payload", "is required: any JSON value")),
        };
        Ok(NewEvent {
            id: self.id.map(|id| id.parse()).transpose()?,
            topic: self.topic.parse()?,
            payload: payload.payload()?,
            kind: self.kind.map(|kind| kind.parse()).transpose()?,
            headers: Headers::new(headers.into_iter().collect())?,
        })
    }
}

/// Reads patterns, each once.
pub(super) fn patterns(topics: &[String]) -> Result<Vec<Pattern>, Error> {
    if topics.len() > 128 {
        let message = format!("{} topics; at most 128 at once.", topics.len());
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let mut patterns: Vec<Pattern> = Vec::with_capacity(topics.len());
    for topic in topics {
        let pattern = topic.parse()?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

#[derive(Default)]
pub(super) struct EventQuery;

#[Object(rename_args = "snake_case")]
impl EventQuery {
    /// History of the credentials' project, page by page. Needs `events:subscribe`, or topics that the token allows.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which events, and from where; all that are retained when absent.")] filter: Option<
            EventFilter,
        >,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor, from any transport.")] after: Option<String>,
    ) -> Option<Result<EventConnection>> {
        Some(history(Viewer::of(ctx), filter.unwrap_or_default(), first, after).await.map_err(Into::into))
    }
}

async fn history(
    viewer: &Viewer,
    filter: EventFilter,
    first: Option<i32>,
    after: Option<String>,
) -> Result<EventConnection, Error> {
    let mut patterns = patterns(&filter.topics.unwrap_or_default())?;
    if patterns.is_empty() {
        patterns.push(Pattern::all());
    }
    let sequence = filter.from_sequence.map(|sequence| Start::Sequence(sequence.0));
    let begin = one_start([None, sequence, filter.from_time.map(|time| Start::Time(time.0))])?;
    let start = after.map(Start::After).or(begin).unwrap_or(Start::Earliest);
    let caller = viewer.caller()?;
    let page = viewer.gateway.engine.replay(&caller, patterns, start, connection::first(first)?).await?;
    let edge = |(event, cursor): (Arc<weir_core::Event>, String)| Edge {
        cursor: cursor.clone(),
        node: Event::of(&event, cursor),
    };
    let edges: Vec<Edge<Event>> = page.events.into_iter().map(edge).collect();
    let page_info = PageInfo { end_cursor: Some(page.next_cursor), ..PageInfo::of(&edges, page.has_more) };
    Ok(EventConnection { edges, page_info, gap: page.gap.as_ref().map(Into::into) })
}

#[derive(Default)]
pub(super) struct EventMutation;

#[Object(rename_args = "snake_case")]
impl EventMutation {
    /// Publish one event. The answer comes when the event is durable. Needs `events:publish`, or a topic that the token
    /// allows.
    async fn publish_event(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The event.")] input: EventInput,
    ) -> Option<Result<Event>> {
        Some(publish(Viewer::of(ctx), input).await.map_err(Into::into))
    }
}

async fn publish(viewer: &Viewer, input: EventInput) -> Result<Event, Error> {
    viewer.take_publish()?;
    let event = input.into_event()?;
    let caller = viewer.caller()?;
    let published = viewer.gateway.engine.publish_from(&scene::origin(), &caller, event.clone()).await?;
    Ok(Event::published(&event, published))
}
