//! What the engine refuses or cannot do, in the terms of the public error list.

use serde_json::{Value, json};
use std::time::Duration;
use weir_core::event::{InvalidHeaders, InvalidName};
use weir_core::payload::InvalidPayload;
use weir_core::topic::InvalidTopic;
use weir_core::{Code, CursorError};
use weir_log::LogError;
use weir_store::StoreError;

/// A refusal or failure: a public code, a sentence that names what is wrong and the mend, and details.
/// Holds no secrets: it is shown to callers as it is.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// Which of the closed list.
    pub code: Code,
    /// One or two sentences for a person.
    pub message: String,
    /// Machine-readable particulars: the value, the limit. `Null` when there are none.
    pub details: Value,
    /// When trying again makes sense, where that is known.
    pub retry_after: Option<Duration>,
    /// What an operator should see in the log and the caller should not.
    pub internal: Option<String>,
}

impl Error {
    /// An error with this code and sentence.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Value::Null, retry_after: None, internal: None }
    }

    /// With details.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// With a time after which to try again.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A defect or damage: the caller gets a plain sentence, the log gets `cause`.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let mut error =
            Self::new(Code::Internal, "Something went wrong here; the request id finds it in the log.");
        error.internal = Some(cause.to_string());
        error
    }

    fn unavailable(code: Code, message: &str, cause: impl std::fmt::Display) -> Self {
        let mut error = Self::new(code, message).after(Duration::from_secs(1));
        error.internal = Some(cause.to_string());
        error
    }

    /// Nothing by that name, or not for this caller: the two answer alike.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}."))
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        let unavailable =
            |cause: &LogError, message: &str| Self::unavailable(Code::EventLogUnavailable, message, cause);
        match &error {
            LogError::Unavailable(_) => unavailable(
                &error,
                "The event log cannot be reached, or did not confirm in time. Try again shortly; an event with an id of its \
                 publisher's is stored at most once.",
            ),
            LogError::Full(_) => Self::unavailable(
                Code::EventLogFull,
                "The event log has no room left; nothing was stored. Nobody's events make room for others': the operator \
                 adds space, or lets less be kept.",
                &error,
            ),
            LogError::Overloaded { .. } => Self::unavailable(
                Code::Overloaded,
                "More is waiting to be stored than the server allows; nothing was stored. Slow down and try again.",
                &error,
            ),
            // Readers resolve their start first, so this is a trim that overtook a read.
            LogError::OutOfRange { floor } => Self::unavailable(
                Code::EventLogUnavailable,
                "Events were trimmed while they were read. Try again from the same cursor to be told the gap.",
                &error,
            )
            .with(json!({ "floor": floor })),
            LogError::Corrupt(_) => Self::internal(&error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            return Self::unavailable(
                Code::DatabaseUnavailable,
                "The database cannot be reached; nothing was changed. Try again shortly.",
                &error,
            );
        }
        match error {
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::Conflict(_) => Self::new(Code::Conflict, sentence(&error)),
            StoreError::Invalid(_) => Self::new(Code::InvalidRequest, sentence(&error)),
            _ => Self::internal(&error),
        }
    }
}

impl From<InvalidTopic> for Error {
    fn from(error: InvalidTopic) -> Self {
        Self::new(Code::InvalidTopic, sentence(&error))
    }
}

impl From<CursorError> for Error {
    fn from(error: CursorError) -> Self {
        Self::new(Code::InvalidCursor, sentence(&error))
    }
}

impl From<InvalidPayload> for Error {
    fn from(error: InvalidPayload) -> Self {
        match error {
            InvalidPayload::TooLarge { size, limit } => Self::new(Code::PayloadTooLarge, sentence(&error))
                .with(json!({ "size_bytes": size, "limit_bytes": limit })),
            _ => Self::new(Code::InvalidEventPayload, sentence(&error)),
        }
    }
}

impl From<InvalidHeaders> for Error {
    fn from(error: InvalidHeaders) -> Self {
        Self::new(Code::InvalidRequest, sentence(&error)).with(json!({ "field": "headers" }))
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::new(Code::InvalidRequest, sentence(&error)).with(json!({ "field": error.what }))
    }
}

/// Capital letter and full stop, as every message to a caller has.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}
