//! Prefixed identifiers. Inside is a UUIDv7, so ids sort by the time of their making and cost 16
//! bytes; outside they read `ten_018f…` (prefix, then 32 lower-case hex digits).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Why a string is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {what}: expected `{prefix}` followed by 32 hex digits")]
pub struct InvalidId {
    /// What was expected, with its article: "a tenant id".
    pub what: &'static str,
    /// The prefix of that kind, underscore included.
    pub prefix: &'static str,
    /// What came instead, cut to 80 characters.
    pub value: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of this kind of id, underscore included.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later in sort order than those made in earlier milliseconds.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id around an existing UUID (how the stores hold it).
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// When it was made, to the millisecond.
            #[must_use]
            pub fn made_at(self) -> crate::Timestamp {
                let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
                let micros = i64::try_from(seconds).unwrap_or(0) * 1_000_000 + i64::from(nanos / 1_000);
                crate::Timestamp::from_micros(micros)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_suffix(text, $prefix).map(Self).ok_or_else(|| InvalidId {
                    what: $what,
                    prefix: $prefix,
                    value: text.chars().take(80).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// One spelling per id: lower-case hex only, so two different strings are never the same thing.
fn parse_suffix(text: &str, prefix: &str) -> Option<Uuid> {
    let hex = text.strip_prefix(prefix)?;
    let canonical = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| Uuid::try_parse(hex).ok()).flatten()
}

id!(
    /// A customer: billing, plan, members, limits.
    TenantId, "ten_", "a tenant id"
);
id!(
    /// An isolated name space of topics inside a tenant.
    ProjectId, "prj_", "a project id"
);
id!(
    /// An API key (the public half; the secret is never an id).
    KeyId, "key_", "a key id"
);
id!(
    /// A secret or public key with which a tenant signs client tokens; the `kid` of such a token.
    SigningKeyId, "sig_", "a signing key id"
);
id!(
    /// A person who signs in; a member of one tenant or several.
    UserId, "usr_", "a user id"
);
id!(
    /// A seat in a tenant that is kept for somebody (the public half; the token that takes it is never an id).
    InvitationId, "inv_", "an invitation id"
);
id!(
    /// An endpoint that events are sent to.
    WebhookId, "whk_", "a webhook id"
);
id!(
    /// Something that could not be delivered or read.
    DeadLetterId, "dlq_", "a dead letter id"
);
id!(
    /// One live connection, WebSocket or SSE.
    ConnectionId, "con_", "a connection id"
);
id!(
    /// One run of one server process.
    NodeId, "nod_", "a node id"
);
id!(
    /// Something that went wrong, from its beginning to its end.
    AlertId, "alt_", "an alert id"
);

/// One request: the name the client gave it in `X-Request-Id`, or `req_…` of our own. It stands in the
/// answer's header, every error and every log line.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new id of the server's own making.
    #[must_use]
    pub fn new() -> Self {
        Self(format!("req_{}", Uuid::now_v7().simple()).into())
    }

    /// A client's own id: 1 to 128 printable ASCII characters without spaces, so that it can stand in a
    /// header and a log line as it is. `None` for anything else.
    #[must_use]
    pub fn given(text: &str) -> Option<Self> {
        let good = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let id = TenantId::new();
        assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
        assert_eq!(serde_json::to_string(&id).ok(), Some(format!("\"{id}\"")));
    }

    #[test]
    fn refuses_other_kinds_and_other_spellings() {
        let id = TenantId::new().to_string();
        assert!(id.parse::<ProjectId>().is_err());
        assert!(id.to_uppercase().parse::<TenantId>().is_err());
        assert!(format!("{id}0").parse::<TenantId>().is_err());
        assert!("ten_".parse::<TenantId>().is_err());
    }
}
