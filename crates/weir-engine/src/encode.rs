//! Events as the JSON that subscribers see, made once per event and shared by all of them.

use std::io::Write;
use std::sync::Arc;
use weir_core::{Cursor, CursorKey, Event};
use weir_hub::Message;

/// Turns a log's event into the hub's message.
pub(crate) fn message(event: &Event, epoch: u64, cursors: &CursorKey) -> Arc<Message> {
    let position = event.position(epoch);
    let cursor = cursors.encode(&Cursor { project: event.project, position });
    let mut ws = Vec::with_capacity(48);
    ws.extend_from_slice(br#"{"type":"event","#);
    let mut sse = Vec::with_capacity(96);
    let _ = write!(sse, "id: {cursor}\ndata: {{");
    if let Some(kind) = &event.kind {
        // On a WebSocket `type` is the frame's own, so the event's goes by another name there.
        member(&mut ws, "event_type", kind.as_str());
        member(&mut sse, "type", kind.as_str());
    }
    Arc::new(Message {
        position,
        topic: event.topic.clone(),
        ws_prefix: ws.into(),
        sse_prefix: sse.into(),
        body: body(event, &cursor).into(),
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
    out.extend_from_slice(&body(event, cursor));
    out
}

/// Everything after the type, closing brace included.
fn body(event: &Event, cursor: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.payload.len() + 320);
    member(&mut out, "topic", event.topic.as_str());
    member(&mut out, "id", event.id.as_str());
    let _ = write!(out, r#""sequence":{},"previous":{},"#, event.sequence, event.previous);
    let _ = write!(out, r#""cursor":"{cursor}","published_at":"{}","#, event.published_at);
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
}
