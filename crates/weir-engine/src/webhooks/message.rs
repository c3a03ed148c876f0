//! What is sent to an endpoint: an event as JSON, or a word of the server about the delivery itself, of the same shape.

use crate::encode::event_json;
use crate::resume::Gap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_core::{Cursor, CursorKey, Event, Position, Timestamp, WebhookId};
use weir_store::webhooks::{Webhook, WebhookMessage};

/// The topics of what is said to endpoints alone; nothing in the log has them.
const GAP: &str = "@weir.webhook.gap";
const PING: &str = "@weir.webhook.ping";
/// The header of an event in which its trace travels.
const TRACEPARENT: &str = "traceparent";

/// A message in an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) message: WebhookMessage,
    /// Whether it stands in the database.
    pub(crate) durable: bool,
}

/// A name that is the same whenever the same thing is sent to the same endpoint.
fn name(webhook: WebhookId, parts: &[u64], kind: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(webhook.uuid().as_bytes());
    hash.update(kind.as_bytes());
    for part in parts {
        hash.update(part.to_be_bytes());
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes[..16].iter().fold("msg_".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn plain(id: String, position: Position, topic: &str, body: Vec<u8>, now: Timestamp) -> WebhookMessage {
    WebhookMessage {
        event_id: id.clone(),
        id,
        epoch: position.epoch,
        sequence: position.sequence,
        topic: topic.to_owned(),
        cursor: String::new(),
        traceparent: None,
        bytes: body.len() as u64,
        body,
        attempts: 0,
        due_at: now,
        first_failed_at: None,
        last_failed_at: None,
        failure: None,
        dead_letter: None,
    }
}

/// An event of the log.
pub(super) fn event(
    of: &Webhook,
    event: &Event,
    epoch: u64,
    cursors: &CursorKey,
    now: Timestamp,
) -> WebhookMessage {
    let position = event.position(epoch);
    let cursor = cursors.encode(&Cursor { project: event.project, position });
    let body = event_json(event, &cursor);
    let id = name(of.id, &[epoch, event.sequence], "event");
    let trace = event.headers.pairs().iter().find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT));
    WebhookMessage {
        event_id: event.id.as_str().to_owned(),
        cursor,
        traceparent: trace.map(|(_, value)| value.clone()).filter(|value| is_trace(value)),
        ..plain(id, position, event.topic.as_str(), body, now)
    }
}

/// What the endpoint will not get.
pub(super) fn gap(of: &Webhook, gap: Gap, after: Position, now: Timestamp) -> WebhookMessage {
    let id = name(of.id, &[after.epoch, gap.from, gap.to], "gap");
    let body = told(&id, GAP, now, &json!(gap));
    plain(id, after, GAP, body, now)
}

/// A word to try an endpoint with.
pub(crate) fn ping(of: &Webhook, now: Timestamp) -> WebhookMessage {
    let id = format!("msg_{}", uuid::Uuid::now_v7().simple());
    let body = told(&id, PING, now, &json!({ "webhook_id": of.id, "name": of.terms.name }));
    plain(id, of.cursor, PING, body, now)
}

fn told(id: &str, topic: &str, now: Timestamp, payload: &Value) -> Vec<u8> {
    json!({
        "type": topic.trim_start_matches('@'), "topic": topic, "id": id, "published_at": now, "payload": payload,
    })
    .to_string()
    .into_bytes()
}

/// `00-<32 hex>-<16 hex>-<2 hex>`: what somebody else wrote is sent on only if it is what it should be.
fn is_trace(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    lengths == [2, 32, 16, 2] && parts.iter().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_for_the_same_and_apart_for_others() {
        let (one, other) = (WebhookId::new(), WebhookId::new());
        assert_eq!(name(one, &[1, 2], "event"), name(one, &[1, 2], "event"));
        let names = [
            name(one, &[1, 2], "event"),
            name(other, &[1, 2], "event"),
            name(one, &[2, 1], "event"),
            name(one, &[1, 2], "gap"),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|later| later != name));
            assert!(name.len() == 36 && name.starts_with("msg_"), "{name}");
        }
    }

    #[test]
    fn traces_are_sent_on_when_they_are_some() {
        assert!(is_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in ["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "00-x-y-01", "é"] {
            assert!(!is_trace(bad), "{bad}");
        }
    }
}
