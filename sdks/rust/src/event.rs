//! Events as they are published and as they arrive.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// An event to publish.
#[derive(Clone, Debug, Serialize)]
pub struct NewEvent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    topic: String,
    payload: Box<RawValue>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

impl NewEvent {
    /// An event with `payload` as JSON. It gets a random id, so a publish whose answer was lost can be
    /// repeated without a second event coming of it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the payload cannot be written as JSON.
    pub fn new(topic: impl Into<String>, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        let payload = serde_json::value::to_raw_value(payload)
            .map_err(|e| Error::invalid(format!("the payload cannot be written as JSON: {e}")))?;
        Ok(Self::raw(topic, payload))
    }

    /// An event whose payload is JSON text already.
    #[must_use]
    pub fn raw(topic: impl Into<String>, payload: Box<RawValue>) -> Self {
        let id = Some(format!("{:032x}", rand::random::<u128>()));
        Self { id, topic: topic.into(), payload, kind: None, headers: BTreeMap::new() }
    }

    /// Sets the id: publishing the same id again within the server's dedupe window (10 minutes by
    /// default) gives the first answer and adds nothing.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Leaves the id to the server. Such an event is not published again when its answer is lost.
    #[must_use]
    pub fn server_id(mut self) -> Self {
        self.id = None;
        self
    }

    /// Sets the event's type, in your own words: `order.created`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Adds a header that travels with the event.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

/// The server's word that an event is durable, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Where it was published.
    pub topic: String,
    /// Its place in the project's order.
    pub sequence: u64,
    /// Subscribing or replaying after this cursor begins with the event after it.
    pub cursor: String,
    /// When the server accepted it, RFC 3339 in UTC.
    pub published_at: String,
}

/// An event that arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its id: the publisher's, or one that the server made.
    pub id: String,
    /// Where it was published.
    pub topic: String,
    /// Its place in the project's order; strictly increasing, not always by one.
    pub sequence: u64,
    /// The sequence of the event before it on the same topic; 0 when none is retained.
    #[serde(default)]
    pub previous: u64,
    /// Resume after this event with this.
    pub cursor: String,
    /// When the server accepted it, RFC 3339 in UTC.
    pub published_at: String,
    /// What kind it is, in the publisher's words.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Pairs that travel with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The payload's JSON text, as published.
    pub payload: Box<RawValue>,
}

impl Event {
    /// Reads the payload.
    ///
    /// # Errors
    /// When it is not of type `T`.
    pub fn payload_as<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.payload.get())
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GapReason {
    /// The events are older than what the server retains.
    Expired,
    /// The log was made anew since the cursor was issued.
    EpochChanged,
    /// The cursor points beyond the end of the log: the log lost events.
    AheadOfLog,
    /// Another event stands at the cursor's place now: the log was restored and written on.
    Rewritten,
    /// An event's `previous` names one that never arrived, not even after resuming. Found by the client.
    Missing,
    /// A reason that this version of the client does not know.
    #[serde(other)]
    Unknown,
}

impl GapReason {
    /// Whether sequences before and after the gap belong to one order.
    pub(crate) const fn same_order(self) -> bool {
        matches!(self, Self::Expired | Self::Missing)
    }
}

/// Events that the server cannot give any more: `from` up to and including `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The first sequence that is missing or cannot be trusted, where it is known.
    #[serde(default)]
    pub from: Option<u64>,
    /// The last one, where it is known.
    #[serde(default)]
    pub to: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |bound: Option<u64>| bound.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(f, "events {} to {} are missing ({:?})", known(self.from), known(self.to), self.reason)
    }
}

/// What a subscription or a replay yields.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event, once.
    Event(Event),
    /// Events are missing here, and will not come.
    Gap(Gap),
}

/// Where a subscription or a replay begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A subscription: with what is published from now on. A replay: with the oldest event retained.
    Default,
    /// After the event with this cursor.
    After(String),
    /// With this sequence.
    Sequence(u64),
    /// With the first event at or after this RFC 3339 time.
    Time(String),
}

impl Start {
    /// As name and value of a query parameter or a field of a frame.
    pub(crate) fn parameter(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Default => None,
            Self::After(cursor) => Some(("after", cursor.clone())),
            Self::Sequence(sequence) => Some(("from_sequence", sequence.to_string())),
            Self::Time(time) => Some(("from_time", time.clone())),
        }
    }
}

/// A topic that was published to, and its newest event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicHead {
    /// The topic.
    pub topic: String,
    /// The sequence of its newest event.
    pub head_sequence: u64,
    /// The cursor of its newest event.
    pub head_cursor: String,
    /// When that was accepted, RFC 3339 in UTC.
    pub last_published_at: String,
}
