//! What the operator's webhook is told of an alert: a message with an id that stays the same at every attempt.

use super::Condition;
use serde_json::json;
use weir_store::alerts::{Alert, Telling};

/// What is sent.
pub(super) struct Message {
    /// The same at every attempt: who gets it twice can tell.
    pub(super) id: String,
    pub(super) body: String,
}

/// What is to be told of an alert.
pub(super) fn message(alert: &Alert, telling: Telling, runbook: &str) -> Message {
    let (kind, at) = match telling {
        Telling::Raised => ("raised", alert.first_seen_at),
        Telling::Resolved => ("resolved", alert.resolved_at.unwrap_or(alert.last_seen_at)),
    };
    let mut data = json!(alert);
    data["state"] = json!(if telling == Telling::Raised { "raised" } else { "resolved" });
    if let (Telling::Raised, Some(fields)) = (telling, data.as_object_mut()) {
        // What changes later is left out: every attempt says the same.
        for later in ["last_seen_at", "occurrences", "acknowledged_at", "acknowledged_by", "resolved_at"] {
            fields.remove(later);
        }
    }
    data["fix"] = json!(Condition::parse(&alert.condition).map_or("", Condition::fix));
    data["runbook"] = json!(runbook);
    let body = json!({ "type": format!("alert.{kind}"), "timestamp": at, "data": data });
    Message { id: format!("{}.{kind}", alert.id), body: body.to_string() }
}
