//! Events: as a caller hands them in ([`NewEvent`]), as the log keeps them ([`Event`]), and where
//! they stand ([`Position`]).

use crate::trace::{TRACEPARENT, TRACESTATE};
use crate::{Payload, ProjectId, TenantId, Timestamp, Topic, TraceContext};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// The longest event id or type, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// The most headers on one event.
pub const MAX_HEADERS: usize = 32;
/// The most bytes in all header names and values of one event together.
pub const MAX_HEADER_BYTES: usize = 4096;

/// An event's id: chosen by the publisher (then it deduplicates) or made by the server (`evt_…`).
/// 1 to 128 printable ASCII characters without spaces.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct EventId(Arc<str>);

/// Why a string cannot be an event id or an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event's {what} must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces; got {bytes} bytes, `{}`",
    .beginning.escape_debug()
)]
pub struct InvalidName {
    /// `id` or `type`.
    pub what: &'static str,
    /// How long it is.
    pub bytes: usize,
    /// Its first characters.
    pub beginning: String,
}

fn name(what: &'static str, text: &str) -> Result<Arc<str>, InvalidName> {
    let good = (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| text.into()).ok_or_else(|| InvalidName {
        what,
        bytes: text.len(),
        beginning: text.chars().take(40).collect(),
    })
}

impl EventId {
    /// A new id of the server's own making. It never repeats, so it needs no deduplication.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("evt_{}", Uuid::now_v7().simple()).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        name("id", text).map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The publisher's own word for what kind of event this is (`order.created`; the `type` of
/// CloudEvents). Same rules as an id.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        name("type", text).map(Self)
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Small name/value pairs that travel with an event, in the order given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

/// Why header pairs are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeaders {
    /// Over [`MAX_HEADERS`].
    #[error("{0} headers; at most {MAX_HEADERS} are allowed")]
    TooMany(usize),
    /// Over [`MAX_HEADER_BYTES`].
    #[error("the headers have {0} bytes together; at most {MAX_HEADER_BYTES} are allowed")]
    TooLarge(usize),
    /// A name outside `A-Z a-z 0-9 _ -`, or empty.
    #[error("header name `{0}` is not allowed: use A-Z a-z 0-9 _ -")]
    Name(String),
    /// A control character in a value.
    #[error("the value of header `{0}` has a control character")]
    Value(String),
}

impl Headers {
    /// Checks and keeps the pairs.
    ///
    /// # Errors
    /// [`InvalidHeaders`], naming the pair and the rule.
    pub fn new(pairs: Vec<(String, String)>) -> Result<Self, InvalidHeaders> {
        if pairs.len() > MAX_HEADERS {
            return Err(InvalidHeaders::TooMany(pairs.len()));
        }
        let size = pairs.iter().map(|(n, v)| n.len() + v.len()).sum();
        if size > MAX_HEADER_BYTES {
            return Err(InvalidHeaders::TooLarge(size));
        }
        for (name, value) in &pairs {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(InvalidHeaders::Name(name.chars().take(80).collect()));
            }
            if value.chars().any(char::is_control) {
                return Err(InvalidHeaders::Value(name.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes back what a log stored: it was checked when it went in.
    #[must_use]
    pub const fn stored(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place in a trace that they name.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        let value = |wanted: &str| {
            let mut pairs = self.0.iter();
            pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
        };
        TraceContext::read(Some(value(TRACEPARENT)?), value(TRACESTATE))
    }

    /// Lets them name a place in a trace, unless the publisher did that already or there is no room for it.
    pub fn carry(&mut self, context: &TraceContext) {
        if self.0.iter().any(|(name, _)| is_trace_context(name)) {
            return;
        }
        let mut pairs = vec![(TRACEPARENT.to_owned(), context.traceparent())];
        pairs.extend(context.tracestate().map(|state| (TRACESTATE.to_owned(), state.to_owned())));
        let size = |pairs: &[(String, String)]| pairs.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        let fits = |pairs: &[(String, String)]| {
            self.0.len() + pairs.len() <= MAX_HEADERS && size(&self.0) + size(pairs) <= MAX_HEADER_BYTES
        };
        if !fits(&pairs) {
            // The first one is of use alone.
            pairs.truncate(1);
        }
        if fits(&pairs) {
            self.0.append(&mut pairs);
        }
    }
}

/// Whether a header says where in a trace an event was published, which is not part of what it says.
fn is_trace_context(name: &str) -> bool {
    [TRACEPARENT, TRACESTATE].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// An event on its way in: checked in itself, not yet accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The publisher's id, if it gave one: publishing it again within the dedupe window gives the
    /// first answer and adds nothing.
    pub id: Option<EventId>,
    /// Where it is published.
    pub topic: Topic,
    /// What it says.
    pub payload: Payload,
    /// What kind it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// Pairs that travel with it.
    pub headers: Headers,
}

impl NewEvent {
    /// A digest of everything but the id and the trace context. Two publishes with one id and different fingerprints are
    /// a conflict, not a repetition. The first 8 bytes of a SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.topic, &self.payload, self.kind.as_ref(), &self.headers)
    }
}

fn fingerprint(topic: &Topic, payload: &Payload, kind: Option<&EventType>, headers: &Headers) -> u64 {
    let mut hash = Sha256::new();
    // Each part is preceded by its length: no two different events concatenate to the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(topic.as_str().as_bytes());
    part(payload.as_bytes());
    part(kind.map_or("", EventType::as_str).as_bytes());
    // Who publishes the same event again does so at another place of its trace.
    for (name, value) in headers.pairs().iter().filter(|(name, _)| !is_trace_context(name)) {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose it is.
    pub tenant: TenantId,
    /// The project whose order it belongs to.
    pub project: ProjectId,
    /// Its place in that order: strictly increasing, not always by one.
    pub sequence: u64,
    /// The sequence of the event before it on the same topic; 0 when none was retained.
    pub previous: u64,
    /// The publisher's id or the server's.
    pub id: EventId,
    /// Where it was published.
    pub topic: Topic,
    /// What it says.
    pub payload: Payload,
    /// What kind it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// Pairs that travel with it.
    pub headers: Headers,
    /// When the server accepted it.
    pub published_at: Timestamp,
}

impl Event {
    /// Four bytes that tell this event from another at the same sequence: a log that was rebuilt or
    /// restored from an older image and then written on differs here. CRC-32 of id and time.
    #[must_use]
    pub fn check(&self) -> u32 {
        check(&self.id, self.published_at)
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self, epoch: u64) -> Position {
        Position { epoch, sequence: self.sequence, check: self.check() }
    }

    /// The digest of [`NewEvent::fingerprint`], of the event as stored.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.topic, &self.payload, self.kind.as_ref(), &self.headers)
    }

    /// Where in a trace it was published: whoever passes it on continues there, with the headers
    /// [`TraceContext::traceparent`] and [`TraceContext::tracestate`].
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.headers.trace_context()
    }

    /// The bytes that it counts for in what a tenant stores: what its publisher gave, and its id.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(&self.id, &self.topic, &self.payload, self.kind.as_ref(), &self.headers)
    }

    /// Roughly the bytes it occupies in memory, for bounded queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let headers: usize = self.headers.pairs().iter().map(|(n, v)| n.len() + v.len() + 48).sum();
        self.payload.len() + self.id.as_str().len() + self.topic.as_str().len() + headers + 192
    }
}

/// See [`Event::stored_bytes`].
#[must_use]
pub fn stored_bytes(
    id: &EventId,
    topic: &Topic,
    payload: &Payload,
    kind: Option<&EventType>,
    headers: &Headers,
) -> u64 {
    let headers: usize = headers.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
    let names = id.as_str().len() + topic.as_str().len() + kind.map_or(0, |kind| kind.as_str().len());
    (payload.len() + names + headers) as u64
}

/// The check of an event with this id and time; see [`Event::check`].
#[must_use]
pub fn check(id: &EventId, published_at: Timestamp) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(id.as_str().as_bytes());
    crc.update(&published_at.micros().to_le_bytes());
    crc.finalize()
}

/// A place in a project's log: just after the event with this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which incarnation of the log; a log made anew has another.
    pub epoch: u64,
    /// The sequence of the last event before this place; 0 is the very beginning.
    pub sequence: u64,
    /// That event's [`Event::check`]; 0 where there is no such event.
    pub check: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: &str, payload: &str) -> NewEvent {
        NewEvent {
            id: None,
            topic: topic.parse().expect("topic"),
            payload: Payload::parse(payload.as_bytes()).expect("payload"),
            kind: None,
            headers: Headers::default(),
        }
    }

    #[test]
    fn fingerprints_tell_bodies_apart() {
        assert_eq!(event("a", "1").fingerprint(), event("a", "1").fingerprint());
        assert_ne!(event("a", "1").fingerprint(), event("a", "2").fingerprint());
        assert_ne!(event("a", "12").fingerprint(), event("a1", "2").fingerprint());
    }

    #[test]
    fn ids_are_printable_and_short() {
        assert!("order-1".parse::<EventId>().is_ok());
        assert!("".parse::<EventId>().is_err());
        assert!("a b".parse::<EventId>().is_err());
        assert!("x".repeat(129).parse::<EventId>().is_err());
    }

    #[test]
    fn headers_are_bounded() {
        let pair = |n: &str, v: &str| vec![(n.to_owned(), v.to_owned())];
        assert!(Headers::new(pair("trace-id", "x")).is_ok());
        assert!(matches!(Headers::new(pair("a b", "x")), Err(InvalidHeaders::Name(_))));
        assert!(matches!(Headers::new(pair("a", "x\ny")), Err(InvalidHeaders::Value(_))));
        assert!(matches!(Headers::new(pair("a", &"x".repeat(4096))), Err(InvalidHeaders::TooLarge(_))));
    }

    #[test]
    fn trace_context_is_carried_beside_the_publishers_headers_and_is_not_part_of_the_event() {
        let context = |parent: &str| TraceContext::read(Some(parent), Some("v=1")).expect("valid");
        let first = context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let second = context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01");
        let mut sent = event("a", "1");
        sent.headers = Headers::new(vec![("x".into(), "1".into())]).expect("headers");
        let (plain, mut again) = (sent.fingerprint(), sent.clone());
        sent.headers.carry(&first);
        assert_eq!(sent.headers.trace_context(), Some(first.clone()));
        assert_eq!(sent.headers.pairs().len(), 3);
        again.headers.carry(&second);
        assert_eq!((sent.fingerprint(), again.fingerprint()), (plain, plain));
        // The publisher's own word stays.
        sent.headers.carry(&second);
        assert_eq!(sent.headers.trace_context(), Some(first));
    }

    #[test]
    fn trace_context_takes_no_more_than_headers_may() {
        let context = TraceContext::new([1; 16], [2; 8], true, Some(&"s".repeat(500)));
        let room = |bytes: usize, count: usize| {
            let mut pairs: Vec<(String, String)> =
                (1..count).map(|n| (format!("h{n:02}"), String::new())).collect();
            let used: usize = pairs.iter().map(|(n, v)| n.len() + v.len()).sum();
            pairs.push(("x".into(), "x".repeat(MAX_HEADER_BYTES - bytes - used - 1)));
            let mut headers = Headers::new(pairs).expect("headers");
            headers.carry(&context);
            assert!(Headers::new(headers.pairs().to_vec()).is_ok());
            headers.trace_context().map(|context| context.tracestate().is_some())
        };
        assert_eq!(room(600, 30), Some(true));
        assert_eq!(room(600, 31), Some(false));
        assert_eq!(room(600, 32), None);
        assert_eq!(room(66, 1), Some(false));
        assert_eq!(room(65, 1), None);
    }
}
