//! The frames of `weir.v1`: JSON objects with a `type`.

use crate::error::{ErrorObject, object};
use crate::query::one_start;
use crate::rest::invalid;
use crate::state::Settings;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use weir_core::event::Headers;
use weir_core::ids::InvalidId;
use weir_core::{
    Code, ConnectionId, EventId, Limits, NewEvent, Pattern, Payload, ProjectId, RequestId, Timestamp,
    TraceContext,
};
use weir_engine::{Error, Gap, Published, Start, Subscribed};

/// What a client sends: every field of every type, so that a payload is kept as text. Unknown fields are
/// left alone for what is to come.
#[derive(Deserialize)]
pub(super) struct ClientFrame<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) token: Option<String>,
    project: Option<String>,
    topics: Option<Vec<String>>,
    after: Option<String>,
    from_sequence: Option<u64>,
    from_time: Option<String>,
    topic: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    event_id: Option<String>,
    event_type: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tracestate: Option<Cow<'a, str>>,
}

/// What is there, be it `null`: serde takes that for what is missing.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// The longest `id` that is repeated in an answer.
const ID_BYTES: usize = 128;

impl<'a> ClientFrame<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, Error> {
        let frame: Self = serde_json::from_slice(text).map_err(|error| {
            Error::new(Code::InvalidFrame, format!("The frame is not a JSON object as documented: {error}."))
        })?;
        if frame.id.as_ref().is_some_and(|id| id.len() > ID_BYTES) {
            return Err(Error::new(
                Code::InvalidFrame,
                format!("The frame's `id` is longer than {ID_BYTES} bytes."),
            ));
        }
        Ok(frame)
    }

    /// The project that a member's token is for.
    pub(super) fn project(&self) -> Result<Option<ProjectId>, Error> {
        let parse = |text: &String| {
            text.parse().map_err(|error: InvalidId| invalid("project", &format!("cannot be used: {error}")))
        };
        self.project.as_ref().map(parse).transpose()
    }

    /// Where in a trace of the client's the frame was sent.
    pub(super) fn context(&self) -> Option<TraceContext> {
        TraceContext::read(self.traceparent.as_deref(), self.tracestate.as_deref())
    }

    pub(super) fn patterns(&self) -> Result<Vec<Pattern>, Error> {
        let topics = self.topics.as_deref().unwrap_or_default();
        if topics.is_empty() {
            return Err(invalid("topics", "must name at least one topic or pattern"));
        }
        let mut patterns: Vec<Pattern> = Vec::with_capacity(topics.len());
        for topic in topics {
            let pattern = topic.parse()?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        Ok(patterns)
    }

    pub(super) fn start(&self) -> Result<Start, Error> {
        let time = |text: &String| {
            let time: Result<Timestamp, _> = text.parse();
            time.map_err(|error| invalid("from_time", &format!("cannot be used: {error}")))
        };
        let ways = [
            self.after.clone().map(Start::After),
            self.from_sequence.map(Start::Sequence),
            self.from_time.as_ref().map(time).transpose()?.map(Start::Time),
        ];
        Ok(one_start(ways)?.unwrap_or(Start::Live))
    }

    pub(super) fn event(&self) -> Result<NewEvent, Error> {
        let topic = self.topic.as_deref().ok_or_else(|| invalid("topic", "is required"))?;
        let payload = self.payload.ok_or_else(|| invalid("payload", "is required; `null` is one too"))?;
        Ok(NewEvent {
            id: self.event_id.as_deref().map(str::parse).transpose()?,
            topic: topic.parse()?,
            payload: Payload::from_raw(payload)?,
            kind: self.event_type.as_deref().map(str::parse).transpose()?,
            headers: Headers::new(self.headers.clone().unwrap_or_default().into_iter().collect())?,
        })
    }
}

/// What the server sends, but for events, which are encoded once for all.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerFrame<'a> {
    Connected {
        connection_id: ConnectionId,
        limits: ConnectionLimits,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    Subscribed {
        id: Option<&'a str>,
        topics: &'a [Pattern],
        cursor: &'a str,
        recovered: bool,
    },
    Unsubscribed {
        id: Option<&'a str>,
        topics: &'a [Pattern],
    },
    Published {
        id: Option<&'a str>,
        event_id: &'a EventId,
        sequence: u64,
        cursor: &'a str,
        published_at: Timestamp,
    },
    Gap {
        #[serde(flatten)]
        gap: &'a Gap,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        error: ErrorObject,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
    },
    Refreshed {
        id: Option<&'a str>,
        dropped_topics: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    Reconnect {
        after_ms: u128,
    },
    Status {
        event_log: &'static str,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
}

/// What holds for this connection.
#[derive(Serialize)]
pub(super) struct ConnectionLimits {
    frame_bytes: usize,
    payload_bytes: u32,
    topics: u32,
    publish_per_second: u32,
    subscribe_per_second: u32,
}

impl ConnectionLimits {
    pub(super) const fn new(limits: &Limits, settings: &Settings) -> Self {
        Self {
            frame_bytes: settings.frame_bytes,
            payload_bytes: limits.payload_bytes,
            topics: limits.topics_per_connection,
            publish_per_second: limits.publish_per_second,
            subscribe_per_second: limits.subscribe_per_second,
        }
    }
}

impl ServerFrame<'_> {
    /// The frame's text. Nothing in these types can fail to be written.
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The last frame of a connection that the engine ends.
pub(super) fn farewell(reason: &Error) -> Option<Vec<u8>> {
    Some(match (reason.code, reason.retry_after) {
        (Code::Draining, Some(after)) => ServerFrame::Reconnect { after_ms: after.as_millis() }.text(),
        _ => error(None, reason, &RequestId::new()),
    })
}

/// That the event log cannot be reached, or can be again; the connection goes on.
pub(super) fn reachable(reachable: bool) -> Option<Vec<u8>> {
    Some(ServerFrame::Status { event_log: if reachable { "ok" } else { "unavailable" } }.text())
}

/// The answer to a frame that failed.
pub(super) fn error(id: Option<&str>, error: &Error, request: &RequestId) -> Vec<u8> {
    let retry_after_ms = error.retry_after.map(|wait| wait.as_millis());
    ServerFrame::Error { id, error: object(error, request), retry_after_ms }.text()
}

/// The answer to a publish.
pub(super) fn published(id: Option<&str>, published: &Published) -> Vec<u8> {
    ServerFrame::Published {
        id,
        event_id: &published.id,
        sequence: published.sequence,
        cursor: &published.cursor,
        published_at: published.published_at,
    }
    .text()
}

/// How the engine's words sound to this subscription.
pub(super) struct Voice {
    pub(super) id: Option<String>,
    pub(super) topics: Vec<Pattern>,
}

impl weir_engine::Voice for Voice {
    fn subscribed(&self, subscribed: &Subscribed) -> Option<Vec<u8>> {
        let frame = ServerFrame::Subscribed {
            id: self.id.as_deref(),
            topics: &self.topics,
            cursor: &subscribed.cursor,
            recovered: subscribed.recovered,
        };
        Some(frame.text())
    }

    fn gap(&self, gap: &Gap) -> Vec<u8> {
        ServerFrame::Gap { gap }.text()
    }
}
