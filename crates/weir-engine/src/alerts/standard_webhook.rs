//! Alerts as Standard Webhooks: a message with an id that stays the same at every attempt, signed with a shared secret.

use super::Condition;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use weir_core::Secret;
use weir_store::alerts::{Alert, Telling};

/// What secrets begin with.
const PREFIX: &str = "whsec_";

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

impl Message {
    /// The `webhook-signature` of an attempt at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// When the secret is not base64 after `whsec_`.
    pub(super) fn sign(&self, secret: &Secret, now: i64) -> Result<String, String> {
        let key = key(secret.expose()).ok_or("alerts.webhook_secret is not `whsec_` and base64")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = hmac::sign(&key, format!("{}.{now}.{}", self.id, self.body).as_bytes());
        Ok(format!("v1,{}", BASE64_STANDARD.encode(signed)))
    }
}

/// The bytes of a secret.
pub(super) fn key(secret: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(secret.strip_prefix(PREFIX)?).ok().filter(|key| key.len() >= 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_does() {
        // The example of the Standard Webhooks libraries.
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            body: "{\"test\": 2432232314}".to_owned(),
        };
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = message.sign(&secret, 1_614_265_330).expect("signs");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(message.sign(&Secret::new("plain"), 0).is_err());
    }
}
