//! What a call to Stripe can end in, by whether it took effect.

use serde::Deserialize;
use std::fmt;

/// Why a call brought no answer. None of these holds the key or what was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Stripe looked at the call and refused it: it took no effect, and the same call will be refused again until
    /// somebody changes something.
    #[error("Stripe refused the call: {0}")]
    Refused(Refusal),
    /// The key is refused: no call will work until the operator mends `stripe.secret_key`.
    #[error("Stripe refuses the key of stripe.secret_key: {0}")]
    Unauthorized(Refusal),
    /// Too many calls: it took no effect, and can be made again later.
    #[error("Stripe asks to slow down: {0}")]
    Busy(Refusal),
    /// Nobody knows whether it took effect: no answer came, or one that Stripe gives when it does not know either.
    #[error("it is not known whether Stripe carried the call out: {0}")]
    Unknown(String),
}

impl Error {
    /// Whether it is certain that the call took no effect.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// What Stripe says about a call that it refuses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// Such as `invalid_request_error`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Such as `resource_missing`.
    #[serde(default)]
    pub code: Option<String>,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Which parameter.
    #[serde(default)]
    pub param: Option<String>,
    /// Finds the call in Stripe's own log.
    #[serde(skip)]
    pub request_id: Option<String>,
}

impl Refusal {
    /// Whether a meter event was refused because Stripe has one of its identifier already.
    #[must_use]
    pub fn is_known_identifier(&self) -> bool {
        // There is no code for it: the sentence is all that Stripe gives.
        self.status == 400
            && (self.code.as_deref() == Some("duplicate_meter_event")
                || self.message.starts_with("An event already exists with identifier"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_deref().unwrap_or(&self.kind);
        let message: String = self.message.chars().take(300).collect();
        write!(f, "{message} (status {}, {code}", self.status)?;
        if let Some(param) = &self.param {
            write!(f, ", parameter {param}")?;
        }
        match &self.request_id {
            Some(id) => write!(f, ", request {id})"),
            None => f.write_str(")"),
        }
    }
}
