//! Events as the JSON that subscribers see, made once per event and shared by all of them.

use std::io::Write;
use std::sync::Arc;
use weir_core::{Cursor, CursorKey, Event};
use weir_hub::Message;

/// The fields of a message's body in their order. Each but the last ends at the mark of its place; the
/// headers, which may be missing, then end where the field before them does.
const FIELDS: [&str; 8] =
    ["topic", "id", "sequence", "previous", "cursor", "published_at", "headers", "payload"];
const HEADERS: usize = 6;
const PAYLOAD: usize = 7;
/// The mark that the payload has no need of: the length of the type, at the end of the WebSocket's prefix.
const TYPE: usize = 7;

/// Turns a log's event into the hub's message.
pub(crate) fn message(event: &Event, epoch: u64, cursors: &CursorKey) -> Arc<Message> {
    let position = event.position(epoch);
    let cursor = cursors.encode(&Cursor { project: event.project, position });
    let mut ws = Vec::with_capacity(48);
    ws.extend_from_slice(br#"{"type":"event","#);
    let mut sse = Vec::with_capacity(96);
    let _ = write!(sse, "id: {cursor}\ndata: {{");
    let mut marks = [0; 8];
    let body = body(event, &cursor, &mut marks);
    if let Some(kind) = &event.kind {
        // On a WebSocket `type` is the frame's own, so the event's goes by another name there.
        let start = ws.len() + r#""event_type":"#.len();
        member(&mut ws, "event_type", kind.as_str());
        marks[TYPE] = end(&ws) - mark(start);
        member(&mut sse, "type", kind.as_str());
    }
    Arc::new(Message {
        position,
        topic: event.topic.clone(),
        ws_prefix: ws.into(),
        sse_prefix: sse.into(),
        body: body.into(),
        marks,
    })
}

/// The event as one JSON object, as REST and GraphQL show it.
#[must_use]
pub fn event_json(event: &Event, cursor: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.payload.len() + 320);
    out.push(b'{');
    if let Some(kind) = &event.kind {
        member(&mut out, "type", kind.as_str());
    }
    out.extend_from_slice(&body(event, cursor, &mut [0; 8]));
    out
}

/// Everything after the type, closing brace included.
fn body(event: &Event, cursor: &str, marks: &mut [u16; 8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.payload.len() + 320);
    member(&mut out, "topic", event.topic.as_str());
    marks[0] = end(&out);
    member(&mut out, "id", event.id.as_str());
    marks[1] = end(&out);
    let _ = write!(out, r#""sequence":{},"#, event.sequence);
    marks[2] = end(&out);
    let _ = write!(out, r#""previous":{},"#, event.previous);
    marks[3] = end(&out);
    let _ = write!(out, r#""cursor":"{cursor}","#);
    marks[4] = end(&out);
    let _ = write!(out, r#""published_at":"{}","#, event.published_at);
    marks[5] = end(&out);
    if !event.headers.is_empty() {
        out.extend_from_slice(br#""headers":{"#);
        for (i, (name, value)) in event.headers.pairs().iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            string(&mut out, name);
            out.push(b':');
            string(&mut out, value);
        }
        out.extend_from_slice(b"},");
    }
    marks[HEADERS] = end(&out);
    out.extend_from_slice(br#""payload":"#);
    out.extend_from_slice(event.payload.as_bytes());
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    string(out, name);
    out.push(b':');
    string(out, value);
    out.push(b',');
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing a str into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Where the last field ends, before its comma.
fn end(out: &[u8]) -> u16 {
    mark(out.len() - 1)
}

/// What stands before the payload is bounded by the limits of its parts, far below this type's.
fn mark(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// The fields of an event as JSON text, just as they stand in its message: strings are quoted and escaped.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Message);

impl<'a> Fields<'a> {
    /// Takes a message of this engine apart.
    #[must_use]
    pub const fn of(message: &'a Message) -> Self {
        Self(message)
    }

    /// The publisher's word for what kind of event it is: a string.
    #[must_use]
    pub fn kind(&self) -> Option<&'a [u8]> {
        let prefix = &self.0.ws_prefix;
        let end = prefix.len().checked_sub(1)?;
        let kind = prefix.get(end.checked_sub(usize::from(self.0.marks[TYPE]))?..end)?;
        (!kind.is_empty()).then_some(kind)
    }

    /// Where it was published: a string.
    #[must_use]
    pub fn topic(&self) -> &'a [u8] {
        self.field(0)
    }

    /// Its id: a string.
    #[must_use]
    pub fn id(&self) -> &'a [u8] {
        self.field(1)
    }

    /// Its place in the log: a number of up to 64 bits.
    #[must_use]
    pub fn sequence(&self) -> &'a [u8] {
        self.field(2)
    }

    /// The sequence of the event before it on its topic, or 0: a number.
    #[must_use]
    pub fn previous(&self) -> &'a [u8] {
        self.field(3)
    }

    /// Resuming with this continues after it: a string.
    #[must_use]
    pub fn cursor(&self) -> &'a [u8] {
        self.field(4)
    }

    /// When it was accepted, RFC 3339: a string.
    #[must_use]
    pub fn published_at(&self) -> &'a [u8] {
        self.field(5)
    }

    /// What the publisher sent along: an object of strings.
    #[must_use]
    pub fn headers(&self) -> Option<&'a [u8]> {
        (self.0.marks[HEADERS] != self.0.marks[HEADERS - 1]).then(|| self.field(HEADERS))
    }

    /// What was published: any value.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.field(PAYLOAD)
    }

    fn field(&self, number: usize) -> &'a [u8] {
        let Message { body, marks, .. } = self.0;
        let before = number.checked_sub(1).map_or(0, |last| usize::from(marks[last]) + 1);
        let start = before + FIELDS[number].len() + r#""":"#.len();
        let end = if number == PAYLOAD { body.len().saturating_sub(1) } else { usize::from(marks[number]) };
        // Only a message that another hand made could lack a field.
        body.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::event::Headers;
    use weir_core::{Payload, ProjectId, RootSecret, TenantId, Timestamp};

    #[test]
    fn both_dialects_are_json_and_differ_only_in_the_name_of_the_type() {
        let event = Event {
            tenant: TenantId::new(),
            project: ProjectId::new(),
            sequence: 7,
            previous: 3,
            id: "a\"b".parse().expect("id"),
            topic: "t.1".parse().expect("topic"),
            payload: Payload::parse(br#"{"x":1}"#).expect("payload"),
            kind: Some("order.created".parse().expect("type")),
            headers: Headers::stored(vec![("trace".into(), "é\\".into())]),
            published_at: Timestamp::from_micros(1_700_000_000_000_000),
        };
        let message = message(&event, 5, &CursorKey::new(&RootSecret::generate()));
        let ws: Vec<u8> = [&message.ws_prefix[..], &message.body[..]].concat();
        let sse: Vec<u8> = [&message.sse_prefix[..], &message.body[..]].concat();
        let sse = String::from_utf8(sse).expect("utf-8");
        let (id, data) = sse.split_once("\ndata: ").expect("two lines");
        let mut ws: serde_json::Value = serde_json::from_slice(&ws).expect("json");
        let sse: serde_json::Value = serde_json::from_str(data).expect("json");
        assert_eq!(ws["type"], "event");
        assert_eq!(format!("id: {}", sse["cursor"].as_str().unwrap_or("")), id);
        let kind = ws.as_object_mut().and_then(|o| o.remove("event_type")).expect("event_type");
        ws["type"] = kind;
        assert_eq!(ws, sse);
        assert_eq!(sse["headers"]["trace"], "é\\");
        let rest: serde_json::Value =
            serde_json::from_slice(&event_json(&event, sse["cursor"].as_str().unwrap_or(""))).expect("json");
        assert_eq!(rest, sse);
    }

    #[test]
    fn every_field_is_found_again() {
        let full = Event {
            tenant: TenantId::new(),
            project: ProjectId::new(),
            sequence: u64::MAX,
            previous: 0,
            id: r#"a\",","b"#.parse().expect("id"),
            topic: "t.1,;:@=".parse().expect("topic"),
            payload: Payload::parse(br#"{"topic":"x","payload":[1,"}"]}"#).expect("payload"),
            kind: Some(r#"order",".created"#.parse().expect("type")),
            headers: Headers::stored(vec![("a".into(), r#"\"},{"#.into()), ("b".into(), String::new())]),
            published_at: Timestamp::from_micros(1_700_000_000_123_456),
        };
        for (has_type, has_headers) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut event = full.clone();
            event.kind = event.kind.filter(|_| has_type);
            if !has_headers {
                event.headers = Headers::default();
            }
            let message = message(&event, 5, &CursorKey::new(&RootSecret::generate()));
            let whole = [&b"{"[..], &message.body[..]].concat();
            let whole: serde_json::Value = serde_json::from_slice(&whole).expect("json");
            let fields = Fields::of(&message);
            let found = [
                Some(fields.topic()),
                Some(fields.id()),
                Some(fields.sequence()),
                Some(fields.previous()),
                Some(fields.cursor()),
                Some(fields.published_at()),
                fields.headers(),
                Some(fields.payload()),
            ];
            let read = |text| serde_json::from_slice::<serde_json::Value>(text).expect("json");
            for (name, text) in FIELDS.iter().zip(found) {
                assert_eq!(text.map(read), whole.get(*name).cloned(), "{name}");
            }
            let kind = event.kind.as_ref().map(|kind| serde_json::json!(kind.as_str()));
            assert_eq!(fields.kind().map(read), kind);
        }
    }
}
