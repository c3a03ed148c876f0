//! The closed list of public error codes, each with its HTTP status, WebSocket close code, whether
//! trying again can help, and a sentence for the documentation. `docs/errors.md` is generated here.

use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $http:literal, $close:literal, $retry:literal;)+) => {
        /// One public error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The public name: `INVALID_API_KEY`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http,)+ }
            }

            /// The WebSocket close code, where the error ends a connection: 4400–4499 do not
            /// reconnect, 4500–4599 reconnect with backoff.
            #[must_use]
            pub const fn close_code(self) -> u16 {
                match self { $(Self::$variant => $close,)+ }
            }

            /// Whether the same request can succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)+ }
            }

            /// What it means, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

codes! {
    /// No credentials came with the request, or e-mail address and password do not fit.
    Unauthenticated = "UNAUTHENTICATED", 401, 4401, false;
    /// The API key is malformed, unknown or revoked.
    InvalidApiKey = "INVALID_API_KEY", 401, 4401, false;
    /// The API key was valid once and has expired.
    ExpiredApiKey = "EXPIRED_API_KEY", 401, 4401, false;
    /// The client token or ticket is malformed, wrongly signed, used up or unknown.
    InvalidToken = "INVALID_TOKEN", 401, 4401, false;
    /// The client token or ticket has expired: get a new one.
    ExpiredToken = "EXPIRED_TOKEN", 401, 4407, false;
    /// No valid credentials came within the time allowed for it.
    AuthenticationTimeout = "AUTHENTICATION_TIMEOUT", 408, 4408, false;
    /// The credentials do not hold the scope or topic permission that this needs.
    InsufficientScope = "INSUFFICIENT_SCOPE", 403, 4403, false;
    /// What is asked for is more than the tenant's plan has.
    LimitAbovePlan = "LIMIT_ABOVE_PLAN", 403, 4403, false;
    /// The tenant is suspended.
    TenantSuspended = "TENANT_SUSPENDED", 403, 4402, false;
    /// Too many requests: wait for Retry-After seconds.
    RateLimitExceeded = "RATE_LIMIT_EXCEEDED", 429, 4529, true;
    /// A connection or usage limit of the project or tenant is reached.
    ProjectLimitExceeded = "PROJECT_LIMIT_EXCEEDED", 429, 4530, true;
    /// Billing could not be computed or the payment provider refused.
    BillingError = "BILLING_ERROR", 402, 4402, false;
    /// The request is not of the documented form.
    InvalidRequest = "INVALID_REQUEST", 400, 4400, false;
    /// The GraphQL operation is larger, deeper or costlier than the limits allow.
    QueryTooComplex = "QUERY_TOO_COMPLEX", 400, 4400, false;
    /// A WebSocket frame is not of the documented form.
    InvalidFrame = "INVALID_FRAME", 400, 4400, false;
    /// The payload is not JSON, is nested too deep, or fails the topic's schema.
    InvalidEventPayload = "INVALID_EVENT_PAYLOAD", 400, 4400, false;
    /// The topic or pattern is not well formed.
    InvalidTopic = "INVALID_TOPIC", 400, 4400, false;
    /// The cursor is not one that was issued here for this project.
    InvalidCursor = "INVALID_CURSOR", 400, 4400, false;
    /// The payload, body or frame is larger than the limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, 4413, false;
    /// The request's head is larger, or has more headers, than the limit.
    HeadersTooLarge = "HEADERS_TOO_LARGE", 431, 4413, false;
    /// An administrator ended the connection; its credentials still hold.
    ConnectionEnded = "CONNECTION_ENDED", 403, 4410, false;
    /// An event with this id and other content was published within the dedupe window.
    DuplicateEventId = "DUPLICATE_EVENT_ID", 409, 4409, false;
    /// What was asked for does not exist, or not for this caller.
    NotFound = "NOT_FOUND", 404, 4404, false;
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, 4405, false;
    /// The request contradicts what is there.
    Conflict = "CONFLICT", 409, 4409, false;
    /// The content type is not one that this endpoint takes.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, 4415, false;
    /// The request took too long to arrive.
    RequestTimeout = "REQUEST_TIMEOUT", 408, 4508, true;
    /// The connection did not read fast enough; resume with the last cursor.
    SlowConsumer = "SLOW_CONSUMER", 503, 4509, true;
    /// The server is shutting down; connect again, anywhere.
    Draining = "DRAINING", 503, 4500, true;
    /// The server has more to do than it can; try again after a while.
    Overloaded = "OVERLOADED", 503, 4503, true;
    /// The payment provider cannot be reached or does not answer.
    PaymentProviderUnavailable = "PAYMENT_PROVIDER_UNAVAILABLE", 503, 4514, true;
    /// The metadata database cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", 503, 4510, true;
    /// The event log cannot be reached, or did not confirm in time.
    EventLogUnavailable = "EVENT_LOG_UNAVAILABLE", 503, 4511, true;
    /// The event log has no room left; nothing was stored, and nobody's events make room for others'.
    EventLogFull = "EVENT_LOG_FULL", 503, 4515, true;
    /// The key set of the token's issuer could not be fetched.
    KeySetUnavailable = "KEY_SET_UNAVAILABLE", 503, 4512, true;
    /// The OpenID provider could not be reached, or cannot be used as it is.
    IdentityProviderUnavailable = "IDENTITY_PROVIDER_UNAVAILABLE", 503, 4513, true;
    /// A defect in the server; the request id finds it in the log.
    Internal = "INTERNAL", 500, 4599, true;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ranges_hold() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[i + 1..].iter().all(|other| other.as_str() != code.as_str()));
            assert!((400..600).contains(&code.http_status()), "{code}");
            // The range of the close code tells a client whether to reconnect.
            assert_eq!(code.close_code() >= 4500, code.retryable(), "{code}");
            assert!(!code.meaning().trim().is_empty());
        }
    }
}
