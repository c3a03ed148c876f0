//! What can go wrong, in one type: the server's own errors and the client's.

use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// [`std::result::Result`] with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call, or the end of a subscription.
#[derive(Clone, Debug)]
pub struct Error {
    code: Cow<'static, str>,
    message: String,
    request_id: Option<String>,
    status: Option<u16>,
    retryable: bool,
    retry_after: Option<Duration>,
}

/// The server could not be reached, or the connection broke.
const UNREACHABLE: &str = "UNREACHABLE";
/// The server answered with something that this client does not understand.
const PROTOCOL_ERROR: &str = "PROTOCOL_ERROR";
/// The caller handed in something that cannot be sent.
const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";

/// The server's codes after which the same request can succeed later.
const RETRYABLE: [&str; 10] = [
    "RATE_LIMIT_EXCEEDED",
    "PROJECT_LIMIT_EXCEEDED",
    "REQUEST_TIMEOUT",
    "SLOW_CONSUMER",
    "DRAINING",
    "OVERLOADED",
    "PAYMENT_PROVIDER_UNAVAILABLE",
    "DATABASE_UNAVAILABLE",
    "EVENT_LOG_UNAVAILABLE",
    "INTERNAL",
];

/// The document's error shape, on every protocol.
#[derive(Deserialize)]
pub(crate) struct Body {
    pub(crate) error: BodyError,
}

#[derive(Deserialize)]
pub(crate) struct BodyError {
    code: String,
    message: String,
    #[serde(default)]
    request_id: Option<String>,
}

impl Error {
    /// The public code: one of the server's (`INSUFFICIENT_SCOPE`, …), `HTTP_<status>` when something in
    /// between answered, or the client's own `UNREACHABLE`, `PROTOCOL_ERROR`, `INVALID_ARGUMENT`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The server's id of the failed request; finds it in the server's log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The HTTP status, where there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the same request can succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// How long the server asks to wait before trying again.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// True when there was no connection, or it broke.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.code == UNREACHABLE
    }

    fn own(code: &'static str, message: impl Into<String>, retryable: bool) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: message.into(),
            request_id: None,
            status: None,
            retryable,
            retry_after: None,
        }
    }

    /// For a token provider whose own server cannot be reached: the client tries again.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::own(UNREACHABLE, message, true)
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::own(PROTOCOL_ERROR, message, false)
    }

    /// For a token provider that cannot give a token: the client gives up.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::own(INVALID_ARGUMENT, message, false)
    }

    /// The server asks this client to connect again after a while.
    pub(crate) fn draining(after: Duration) -> Self {
        let mut error = Self::own("DRAINING", "the server asks to connect again", true);
        error.retry_after = Some(after);
        error
    }

    /// The server's error object, from a frame or an answer.
    pub(crate) fn from_body(body: BodyError, status: Option<u16>) -> Self {
        let by_status = status.is_some_and(retryable_status) && !KNOWN_FINAL.contains(&body.code.as_str());
        Self {
            retryable: RETRYABLE.contains(&body.code.as_str()) || by_status,
            code: Cow::Owned(body.code),
            message: body.message,
            request_id: body.request_id,
            status,
            retry_after: None,
        }
    }

    /// An HTTP answer that is not a success.
    pub(crate) fn from_answer(status: u16, body: &[u8], retry_after: Option<&str>) -> Self {
        let mut error = serde_json::from_slice::<Body>(body).map_or_else(
            |_| Self {
                code: Cow::Owned(format!("HTTP_{status}")),
                message: format!("answered with status {status} and no error of Weir's form"),
                request_id: None,
                status: Some(status),
                retryable: retryable_status(status),
                retry_after: None,
            },
            |body| Self::from_body(body.error, Some(status)),
        );
        error.retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        error
    }

    /// A closed WebSocket. 4400–4499 say "do not come back like this", everything else "come back".
    pub(crate) fn from_close(code: u16, reason: &str) -> Self {
        let mut error = Self::own("CLOSED", format!("the server closed with {code} {reason}"), true);
        error.code = Cow::Owned(format!("CLOSED_{code}"));
        error.retryable = !(4400..4500).contains(&code);
        error
    }
}

/// A time-out that trying again does not cure, though its HTTP status says so.
const KNOWN_FINAL: [&str; 1] = ["AUTHENTICATION_TIMEOUT"];

const fn retryable_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        self.request_id.as_ref().map_or(Ok(()), |id| write!(f, " (request {id})"))
    }
}

impl std::error::Error for Error {}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::invalid(chain(&error));
        }
        // The URL may hold a token as a parameter: it stays out of the message.
        Self::unreachable(chain(&error.without_url()))
    }
}

/// The error and its causes: reqwest's own text says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Code;

    #[test]
    fn agrees_with_the_server_on_what_may_be_retried() {
        for code in Code::ALL {
            let body = BodyError { code: code.as_str().into(), message: String::new(), request_id: None };
            let error = Error::from_body(body, Some(code.http_status()));
            assert_eq!(error.is_retryable(), code.retryable(), "{code}");
            let close = Error::from_close(code.close_code(), "");
            assert_eq!(close.is_retryable(), code.retryable(), "{code}");
        }
    }

    #[test]
    fn reads_the_servers_shape_and_survives_a_proxys() {
        let body = br#"{"error":{"code":"OVERLOADED","message":"busy","details":{},"request_id":"req_1"}}"#;
        let error = Error::from_answer(503, body, Some("7"));
        assert_eq!((error.code(), error.request_id()), ("OVERLOADED", Some("req_1")));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        let error = Error::from_answer(502, b"<html>", None);
        assert_eq!((error.code(), error.is_retryable()), ("HTTP_502", true));
        assert!(!Error::from_answer(404, b"", None).is_retryable());
    }
}
