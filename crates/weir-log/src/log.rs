//! The contract between the engine and whatever keeps the events.
//!
//! ```text
//!   one project's log            floor                          head
//!   sequence   1   2   3   4   5   6   7   8   9  10  11  12  13 │ (next append)
//!              ░░░░░░░ trimmed ░░░░│▓▓▓▓▓▓▓▓▓ retained ▓▓▓▓▓▓▓▓▓▓│
//!                                  │                             │
//!    read(after < floor) → OutOfRange{floor}      read(after = head) → empty page
//! ```
//! Sequences strictly increase within a project and may skip (on a shared stream other projects' events
//! stand between). All topics of a project share one order, the same live and in replay.

use crate::{Feed, Load, LogError, Milestone, Walked};
use futures::future::BoxFuture;
use std::sync::Arc;
use weir_core::event::{EventType, Headers, stored_bytes};
use weir_core::{
    Event, EventId, NewEvent, Pattern, Payload, Position, ProjectId, TenantId, Timestamp, Topic,
};

/// Where a project's events are kept: placement is data, read from the tenant's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose events.
    pub tenant: TenantId,
    /// Which order.
    pub project: ProjectId,
    /// Which stream holds them, `EVENTS` by default. The embedded log has one and ignores the name.
    pub stream: Arc<str>,
}

/// One event to append.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id.
    pub id: EventId,
    /// True when the publisher chose the id: then an equal record within the dedupe window is
    /// answered with the first one's place and another record with that id is a conflict. Ids that
    /// the server made never repeat and need no look-up.
    pub dedupe: bool,
    /// Where it is published.
    pub topic: Topic,
    /// What it says.
    pub payload: Payload,
    /// What kind it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// Pairs that travel with it.
    pub headers: Headers,
    /// When the server accepted it.
    pub published_at: Timestamp,
}

impl Record {
    /// See [`Event::stored_bytes`].
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(&self.id, &self.topic, &self.payload, self.kind.as_ref(), &self.headers)
    }

    /// The digest that tells a repetition from a conflict; see [`NewEvent::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let body = NewEvent {
            id: None,
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            kind: self.kind.clone(),
            headers: self.headers.clone(),
        };
        body.fingerprint()
    }
}

/// Where an accepted record stands. For a repetition: where the first one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place, `check` included, so a cursor can be made from it.
    pub position: Position,
    /// When it (the first one) was accepted.
    pub published_at: Timestamp,
    /// True when this was a repetition and nothing was added.
    pub duplicate: bool,
}

/// What became of one record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable (or was already).
    Appended(Appended),
    /// Another record with this id is in the log; nothing was added.
    Conflict,
}

/// Which events to read.
#[derive(Clone, Debug)]
pub struct ReadQuery {
    /// Events with a greater sequence.
    pub after: u64,
    /// Events whose topic matches one of these.
    pub patterns: Arc<[Pattern]>,
    /// At most so many events. At least 1.
    pub max_events: usize,
    /// At most so many bytes of [`Event::weight`]; one event is returned however large it is.
    pub max_bytes: usize,
}

/// Some events, in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The matching events.
    pub events: Vec<Arc<Event>>,
    /// Every matching event with a sequence in `after+1..=through` is in `events`. At least `after`:
    /// read on from here. A backend may return a page without events and with progress only here.
    pub through: u64,
    /// True when `through` was the head of the project when the page was read.
    pub at_head: bool,
}

/// The ends of a project's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The last sequence that is no longer retained; 0 while nothing was trimmed.
    pub floor: u64,
    /// The last committed event; sequence 0 in an empty log.
    pub head: Position,
}

/// What stands at one sequence, together with the ends of the log: all that resuming needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The ends.
    pub bounds: Bounds,
    /// [`Event::check`] of this project's event at the sequence; `None` when there is none retained.
    pub check: Option<u32>,
}

/// A topic that was published to, and its newest event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicHead {
    /// The topic.
    pub topic: Topic,
    /// Its newest event.
    pub head: Position,
    /// When that was accepted.
    pub published_at: Timestamp,
}

/// What an acknowledgement of this log is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage before the ack, on this many servers.
    Synced {
        /// Copies.
        replicas: usize,
    },
    /// In this many servers' page cache: a power cut of all of them can lose the last `window`.
    Cached {
        /// Copies.
        replicas: usize,
        /// What can be lost, in words: "up to 2 minutes".
        window: String,
    },
    /// It could not be found out.
    Unknown,
}

/// Whether the log works.
#[derive(Clone, Debug)]
pub struct Health {
    /// `None` when it works; else why not, in words an operator can act on.
    pub problem: Option<String>,
    /// What an ack is worth.
    pub durability: Durability,
}

/// What keeps the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Files of this process.
    Embedded,
    /// NATS servers.
    JetStream,
}

impl System {
    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::JetStream => "jetstream",
        }
    }
}

/// A durable, ordered log of events for many projects.
///
/// **Append.** The call itself puts the records in line, before the returned future is first polled: two
/// calls from one thread are stored in the order of the calls. When the future resolves, every
/// [`Outcome::Appended`] is durable as [`Health::durability`] says and readable. On an error nothing of
/// the batch is acknowledged; after [`LogError::Unavailable`] it may still have been stored.
///
/// **Read.** Sees exactly the committed events: nothing unacknowledged that could vanish.
/// A read that starts before the floor is [`LogError::OutOfRange`], never a shorter list.
///
/// **Feed.** Everything committed after the position that [`EventLog::watch`] returned arrives once, in
/// order, without holes; the backend fills its own holes from storage. The queue is bounded; a consumer
/// that lags makes the backend read what it missed, not hold it.
pub trait EventLog: Send + Sync + 'static {
    /// Appends records to one project, each judged on its own; outcomes are in the order of the records.
    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>>;

    /// Reads a page.
    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>>;

    /// The ends of the project's log and what stands at `sequence`.
    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>>;

    /// The sequence after which to read for events accepted at `time` or later. Exact as far as the
    /// clocks of the accepting nodes agree.
    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>>;

    /// Up to `limit` topics with retained events whose name sorts after `after`, in that order.
    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>>;

    /// Forgets events up to and including `through` (never beyond the head). From then on they are out
    /// of range for every reader on every node; their room is reclaimed in the background.
    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>>;

    /// Erases a project that is deleted, a bounded amount of it at each call; `true` when nothing of it is left to read.
    /// Nothing may be appended to it any more. Readers find it empty or out of range, on every node. What was walked over
    /// before stays counted; what was not is told as lost.
    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>>;

    /// Makes sure that the bytes of what was erased before this call are in none of the log's files any more. May take as
    /// long as writing anew everything that is kept; one call at a time works, the log goes on meanwhile.
    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>>;

    /// What was appended after a milestone, over all projects of the stream, in the order in which it was committed; a
    /// bounded amount of it. Nothing is left out and nothing comes twice, across restarts too, and trimming takes
    /// nothing from it that is not told as lost. Without a milestone, or with one of another epoch, the answer is where to
    /// begin: number 0 of this epoch, and no runs. `None` when there is no such stream. Streams that are kept in one
    /// order have the same epoch.
    ///
    /// Events on topics of the server's own ([`weir_core::topic::SYSTEM`]) are passed over: a walk counts usage.
    ///
    /// Whoever walks on from a milestone has safely noted what comes before it: the log may forget how it was appended.
    fn walk<'a>(
        &'a self,
        stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>>;

    /// Starts feeding a project and returns the position after which every event will come.
    /// Watching twice is harmless and returns the position that the feed has reached.
    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>>;

    /// Stops feeding a project.
    fn unwatch(&self, project: ProjectId);

    /// The receiving end of the feed; the first call gets it, later ones `None`.
    fn feed(&self) -> Option<Feed>;

    /// Whether there is a connection to the log, as far as this node knows without asking.
    fn is_reachable(&self) -> bool;

    /// Whether the log works and what its acks are worth.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// What keeps the events.
    fn system(&self) -> System;

    /// What it has to do and has room for.
    fn load(&self) -> Load {
        Load::default()
    }

    /// Writes what is queued, waits for reads that are under way, then stops. Later appends are refused, later reads may be.
    /// Once it returns, nothing but the log itself holds its files or connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}
