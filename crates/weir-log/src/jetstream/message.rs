//! Events as NATS messages and back.
//!
//! The payload of a message is the event's JSON text, so any NATS tool can read it. Everything else
//! stands in four headers of our own: a map of NATS headers keeps no order, and values may hold what
//! a header line cannot, so the event's own headers travel percent-encoded in one of them.

use super::stream::Layout;
use crate::{Place, Poison, Record};
use async_nats::header::{HeaderMap, HeaderName, NATS_MESSAGE_ID};
use async_nats::{Message, Subject};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt::Write;
use weir_core::event::Headers;
use weir_core::{Event, Payload, ProjectId, TenantId, Timestamp};

const ID: HeaderName = HeaderName::from_static("Weir-Id");
const TIME: HeaderName = HeaderName::from_static("Weir-Time");
const KIND: HeaderName = HeaderName::from_static("Weir-Type");
const PAIRS: HeaderName = HeaderName::from_static("Weir-Headers");

/// Everything but what may stand in a header value as it is; `=` and `&` part the pairs.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A message on its way to a stream.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    pub subject: Subject,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

/// A message as a stream keeps it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The subject that it was published on.
    pub subject: String,
    pub sequence: u64,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl Stored {
    /// Reads the answer to a direct get, or a republished message: both say in headers what they are.
    pub fn from_message(message: Message) -> Option<Self> {
        let headers = message.headers?;
        let subject = headers.get(async_nats::header::NATS_SUBJECT)?.as_str().to_owned();
        let sequence = headers.get(async_nats::header::NATS_SEQUENCE)?.as_str().parse().ok()?;
        Some(Self { subject, sequence, headers, payload: message.payload })
    }

    /// Whose it is, by its subject.
    pub fn project(&self, layout: &Layout) -> Option<ProjectId> {
        layout.split(&self.subject).and_then(|(_, project, _)| project.parse().ok())
    }

    /// The event in it; `None` for what this program did not write.
    pub fn event(self, layout: &Layout, previous: u64) -> Option<Event> {
        let event = self.read_event(layout, previous);
        if event.is_none() {
            tracing::warn!(
                stream = %layout.name, sequence = self.sequence, subject = %self.subject,
                "a message in the stream is not an event and was skipped"
            );
        }
        event
    }

    /// What somebody else put into a project's place in the stream.
    pub fn poison(&self, layout: &Layout) -> Option<Poison> {
        if self.read_event(layout, 0).is_some() {
            return None;
        }
        let (tenant, project, topic) = layout.split(&self.subject)?;
        Some(Poison {
            tenant: tenant.parse().ok()?,
            project: project.parse().ok()?,
            topic: topic.to_owned(),
            sequence: self.sequence,
            body: self.payload.clone(),
        })
    }

    fn read_event(&self, layout: &Layout, previous: u64) -> Option<Event> {
        let (tenant, project, topic) = layout.split(&self.subject)?;
        let kind = match self.headers.get(KIND) {
            Some(kind) => Some(kind.as_str().parse().ok()?),
            None => None,
        };
        Some(Event {
            tenant: tenant.parse().ok()?,
            project: project.parse().ok()?,
            sequence: self.sequence,
            previous,
            id: self.headers.get(ID)?.as_str().parse().ok()?,
            topic: topic.parse().ok()?,
            payload: Payload::stored(self.payload.clone()),
            kind,
            headers: self.headers.get(PAIRS).map_or_else(
                || Some(Headers::default()),
                |pairs| decode_pairs(pairs.as_str()).map(Headers::stored),
            )?,
            published_at: Timestamp::from_micros(self.headers.get(TIME)?.as_str().parse().ok()?),
        })
    }
}

/// Writes a record as a message.
pub(super) fn encode(layout: &Layout, place: &Place, record: &Record) -> Outbound {
    let mut headers = HeaderMap::new();
    headers.insert(ID, record.id.as_str());
    headers.insert(TIME, record.published_at.micros().to_string());
    if let Some(kind) = &record.kind {
        headers.insert(KIND, kind.as_str());
    }
    if !record.headers.is_empty() {
        headers.insert(PAIRS, encode_pairs(record.headers.pairs()));
    }
    if record.dedupe {
        // The window is the stream's, and streams are shared: the id alone would meet other projects'.
        headers.insert(NATS_MESSAGE_ID, message_id(place.tenant, place.project, record.id.as_str()));
    }
    Outbound {
        subject: Subject::from(layout.subject(place, record.topic.as_str())),
        headers,
        payload: record.payload.bytes(),
    }
}

fn message_id(tenant: TenantId, project: ProjectId, id: &str) -> String {
    format!("{}.{}.{id}", tenant.uuid().simple(), project.uuid().simple())
}

fn encode_pairs(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let separator = if text.is_empty() { "" } else { "&" };
        // Names hold nothing that needs escaping. Writing to a string cannot fail.
        let _ = write!(text, "{separator}{name}={}", utf8_percent_encode(value, ESCAPED));
    }
    text
}

fn decode_pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), percent_decode_str(value).decode_utf8().ok()?.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn header_pairs_survive(pairs in proptest::collection::vec(("[A-Za-z0-9_-]{1,8}", "\\PC{0,20}"), 1..5)) {
            prop_assert_eq!(decode_pairs(&encode_pairs(&pairs)), Some(pairs));
        }
    }

    #[test]
    fn foreign_messages_are_no_events() {
        let layout = Layout::new("EVENTS").expect("a layout");
        let subject = format!("events.{}.{}.a", TenantId::new(), ProjectId::new());
        let stored = Stored { subject, sequence: 1, headers: HeaderMap::new(), payload: Bytes::new() };
        assert!(stored.event(&layout, 0).is_none());
    }
}
