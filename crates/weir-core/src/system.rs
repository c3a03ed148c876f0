//! What the server itself publishes: events about a project's keys, connections, limits and webhooks, on topics that
//! begin with [`SYSTEM`](crate::topic::SYSTEM).

use crate::Topic;
use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! topics {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// One of the server's own topics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SystemTopic {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl SystemTopic {
            /// Every one, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name: `@weir.key.created`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => concat!("@weir.", $name),)+ }
            }

            /// What it tells, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

topics! {
    /// A connection was opened, where the project's limits say that this is written.
    ConnectionOpened = "connection.opened";
    /// A connection ended.
    ConnectionClosed = "connection.closed";
    /// How many connections were opened and closed without an event each: there were more than the project's limit.
    ConnectionOmitted = "connection.omitted";
    /// An API key was made.
    KeyCreated = "key.created";
    /// An API key got a successor.
    KeyRotated = "key.rotated";
    /// An API key was revoked.
    KeyRevoked = "key.revoked";
    /// The tenant reached 50, 80 or 100 % of a limit.
    LimitThreshold = "limit.threshold";
    /// A webhook was disabled because its endpoint failed for too long, or is gone.
    WebhookDisabled = "webhook.disabled";
    /// Dead letters of the project reached a share of what is kept of them, or the oldest were dropped.
    DeadLettersGrowing = "dead-letters.growing";
    /// An alert was raised.
    AlertRaised = "alert.raised";
    /// An alert was resolved.
    AlertResolved = "alert.resolved";
}

impl SystemTopic {
    /// The topic of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.as_str() == name)
    }

    /// The topic as it stands on an event.
    #[must_use]
    pub fn topic(self) -> Topic {
        Topic::of_system(self.as_str())
    }
}

impl fmt::Display for SystemTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SystemTopic {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::is_system;

    #[test]
    fn names_are_topics_of_the_server() {
        for topic in SystemTopic::ALL {
            assert_eq!(topic.as_str().parse::<Topic>(), Ok(topic.topic()));
            assert!(is_system(topic.as_str()));
            assert_eq!(SystemTopic::parse(topic.as_str()), Some(*topic));
        }
    }
}
