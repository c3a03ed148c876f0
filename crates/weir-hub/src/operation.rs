//! Subscriptions that hear of events in words of their own: what stands around each event belongs to
//! one operation of one connection, the event's shape to everybody who asked for the same.

use crate::Message;
use bytes::Bytes;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use weir_core::Pattern;

/// How an event is told. Called on a shard's thread, once for all connections with the same operations:
/// must be quick, and may not block or panic.
pub trait Shape: Send + Sync + 'static {
    /// Names the shape: two shapes with the same key render the same bytes.
    fn key(&self) -> &str;
    /// Appends the event as this shape shows it, without line breaks.
    fn render(&self, message: &Message, out: &mut Vec<u8>);
}

/// A subscription of a connection that may have several. Each has its own start, and an event that two of
/// them select is sent for both.
pub struct Operation {
    /// Names it among those of its connection.
    pub id: u32,
    /// What goes before each event: the start of the WebSocket text, or of the raw bytes of an SSE event.
    pub prefix: Bytes,
    /// What goes after it.
    pub suffix: Bytes,
    /// What goes between.
    pub shape: Arc<dyn Shape>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("id", &self.id).field("shape", &self.shape.key()).finish()
    }
}

/// What an operation selects and how it shows it: equal for many connections.
#[derive(Clone)]
pub struct Want {
    pub patterns: Arc<[Pattern]>,
    pub shape: Arc<dyn Shape>,
}

impl Want {
    /// Whether one of the patterns selects the topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }
}

impl PartialEq for Want {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns && self.shape.key() == other.shape.key()
    }
}

impl Eq for Want {}

impl Hash for Want {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.patterns.hash(state);
        self.shape.key().hash(state);
    }
}
