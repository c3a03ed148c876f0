//! The conversation between the async engine and the hub's shards: messages one way, calls on a
//! [`Listener`] the other. Nothing here blocks.

use crate::Operation;
use bytes::Bytes;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use weir_core::{Distribution, Pattern, Position, ProjectId, Topic};

/// Sizes and times of a hub.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads; 0 takes one per processor this process may use.
    pub shards: usize,
    /// Bytes of recent messages kept per project for resuming and for slow readers.
    pub ring_bytes: usize,
    /// Recent messages kept per project.
    pub ring_messages: usize,
    /// Bytes of recent messages kept for all projects together.
    pub ring_bytes_total: usize,
    /// A connection further behind than this many bytes is closed as a slow consumer.
    pub backlog_bytes: usize,
    /// A connection whose oldest unsent byte is older than this is closed as a slow consumer.
    pub backlog_age: Duration,
    /// The largest frame or fragmented message a client may send, in bytes.
    pub frame_bytes: usize,
    /// Time without traffic after which a WebSocket is pinged.
    pub ping_interval: Duration,
    /// Time after a ping within which something must arrive.
    pub pong_timeout: Duration,
    /// Time between comments on a quiet event stream.
    pub sse_heartbeat: Duration,
    /// How long a closing connection may take to read its last bytes.
    pub close_timeout: Duration,
    /// Bytes of published messages that may wait for one shard.
    pub queue_bytes: usize,
    /// Whether binary messages are handed to [`Listener::binary`]; else they end with close code 1003.
    pub accept_binary: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            ring_bytes: 8 << 20,
            ring_messages: 16_384,
            ring_bytes_total: 256 << 20,
            backlog_bytes: 1 << 20,
            backlog_age: Duration::from_secs(10),
            frame_bytes: 64 << 10,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            sse_heartbeat: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
            queue_bytes: 64 << 20,
            accept_binary: false,
        }
    }
}

/// How a connection wants its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 6455 text frames.
    WebSocket,
    /// A `text/event-stream` body without chunking (the response closes with the connection).
    Sse,
}

/// One event, encoded once for all its receivers. `prefix` and `body` are joined on the wire:
/// WebSocket = frame header + `ws_prefix` + `body`; SSE = `sse_prefix` + `body` + blank line.
#[derive(Debug)]
pub struct Message {
    /// Its place in the project's order.
    pub position: Position,
    /// Where it was published.
    pub topic: Topic,
    /// The start of the WebSocket text.
    pub ws_prefix: Bytes,
    /// The start of the SSE event: the `id:` line, `data: ` and the start of its JSON.
    pub sse_prefix: Bytes,
    /// The rest of the JSON, shared by both; holds no line break.
    pub body: Bytes,
    /// Places in the text, noted by who encoded it for the [`Shape`](crate::Shape)s that take it apart.
    pub marks: [u16; 8],
}

/// A live connection, as the hub names it. Stays unique: a reused slot has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conn {
    /// Which shard owns it.
    pub shard: u16,
    /// Its place there.
    pub slot: u32,
    /// Which tenant of that place.
    pub generation: u32,
}

/// Counts of one project, shared with whoever meters it. A shard adds once per pass and group.
#[derive(Debug, Default)]
pub struct Meter {
    /// Events handed to the kernel for a connection.
    pub delivered: AtomicU64,
    /// Bytes of those.
    pub bytes: AtomicU64,
}

/// What the hub tells about one connection. Called on the shard's thread: must return at once, never
/// block, never call back into the hub synchronously except through [`Hub`](crate::Hub)'s message methods.
pub trait Listener: Send + Sync + 'static {
    /// The connection is owned by a shard and may be named in calls from now on. Comes first. What it returns, a text
    /// (WebSocket) or raw bytes, goes out right behind the preamble, in one call to the kernel.
    fn opened(&self, conn: Conn) -> Option<Bytes>;
    /// A whole text message arrived. `false` says "too much is waiting already": the shard stops
    /// reading this connection until [`Hub::resume_reading`](crate::Hub::resume_reading).
    fn text(self: Arc<Self>, text: Bytes) -> bool;
    /// A whole binary message arrived; only with [`Config::accept_binary`]. Answers as [`Listener::text`].
    fn binary(self: Arc<Self>, bytes: Bytes) -> bool {
        drop(bytes);
        true
    }
    /// All bytes of a [`Hub::send`](crate::Hub::send) or
    /// [`Hub::send_messages`](crate::Hub::send_messages) with `notify` are in the kernel.
    fn drained(&self);
    /// What is said before the end when the events of the connection's project stop coming; a text (WebSocket) or raw bytes.
    fn interrupted(&self) -> Option<Bytes> {
        None
    }
    /// The connection is gone. Comes once, last.
    fn closed(&self, closed: Closed);
}

/// Why and after what a connection ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Who ended it.
    pub by: ClosedBy,
    /// The WebSocket close code sent or received; 0 where there was none.
    pub code: u16,
    /// Events delivered on it.
    pub delivered: u64,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client closed, or vanished.
    Client,
    /// The client broke the protocol.
    Protocol,
    /// It stopped answering pings.
    Timeout,
    /// It did not read fast enough.
    SlowConsumer,
    /// The engine asked for it.
    Server,
}

/// A connected socket that never blocks and that no poll loop knows yet.
pub use mio::net::TcpStream as Socket;

/// Where such sockets come from.
pub use mio::net::TcpListener as ListeningSocket;

/// A socket to take over.
pub struct NewConnection {
    /// Connected, upgraded (or with its response head in `preamble`), and without Nagle's algorithm: see [`ready`].
    pub socket: Socket,
    /// How it wants its bytes.
    pub dialect: Dialect,
    /// Bytes already read from it that belong to the new protocol.
    pub read_ahead: Bytes,
    /// Raw bytes to send first, exactly as they are (an HTTP head for SSE; whole frames for WebSocket).
    pub preamble: Bytes,
    /// Who hears about it.
    pub listener: Arc<dyn Listener>,
}

/// Makes a socket one that a hub can take over: it never blocks, and sends small messages at once.
///
/// # Errors
/// When the kernel refuses an option, as it does for a socket that is gone.
pub fn ready(socket: TcpStream) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(Socket::from_std(socket))
}

/// Subscribes a connection to more patterns of a project, starting after a position, in one step.
///
/// If the shard's ring covers everything after `after`, then `preface` is written, then the matching
/// ring messages, and from then on the connection is live: no hole, no repetition, no reordering. If it
/// does not, nothing happens but the answer [`NotCovered`].
///
/// A position with a check of 0 and a sequence above 0 is trusted: the engine has just read the log up to
/// there. Only its epoch must fit, and it need not be the place of an event: it is covered from the
/// ring's floor to its head. When it is ahead of the head (the log was read faster than the feed came),
/// the attach waits in the project until the head has reached it. Later calls for the same connection do
/// not wait with it. It is answered [`NotCovered`] when the project is closed or opened anew.
pub struct Attach {
    /// Whose order. All subscriptions of one connection are of one project.
    pub project: ProjectId,
    /// What to add to the connection's subscriptions.
    pub patterns: Vec<Pattern>,
    /// Who is told of these events in words of its own; `None`: the connection, as they are. One connection
    /// has either operations or plain subscriptions.
    pub operation: Option<Arc<Operation>>,
    /// `None`: from now on.
    pub after: Option<Position>,
    /// Makes the text to send before the first event, from the position at which the subscription
    /// starts (`after`, or the shard's head). A WebSocket text or raw SSE bytes; `None` and an empty text
    /// send nothing.
    pub preface: Option<Box<dyn FnOnce(Position) -> Vec<u8> + Send>>,
    /// Hears the outcome on the shard's thread, after the preface and ring messages are queued.
    pub done: Box<dyn FnOnce(Result<Attached, NotCovered>) + Send>,
}

/// A subscription is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The position that the connection has been brought to: the shard's head at that moment.
    pub head: Position,
}

/// The ring does not reach back far enough, or does not know the position (another epoch or check, a
/// sequence beyond its head, a project that is not open): consult the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// The ring covers everything after this position; `None` when the project is not open.
    pub floor: Option<Position>,
}

/// How to end a connection.
#[derive(Clone, Debug)]
pub struct Goodbye {
    /// A last text (WebSocket) or raw bytes (SSE) before the close.
    pub text: Option<Bytes>,
    /// The WebSocket close code.
    pub code: u16,
    /// The WebSocket close reason, at most 123 bytes.
    pub reason: String,
    /// Drop what is queued for it instead of sending it first: for revoked access.
    pub discard: bool,
}

/// Counts over all shards since the start, and gauges of now.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Connections now, WebSocket.
    pub websocket: u64,
    /// Connections now, SSE.
    pub sse: u64,
    /// Events handed to the kernel.
    pub delivered: u64,
    /// Bytes handed to the kernel.
    pub bytes: u64,
    /// Kernel calls that sent them.
    pub sends: u64,
    /// Connections closed as slow consumers.
    pub slow_consumers: u64,
    /// Connections now with unsent bytes.
    pub lagging: u64,
    /// Bytes of messages waiting for shards.
    pub queued_bytes: u64,
    /// Bytes in the rings.
    pub ring_bytes: u64,
    /// Seconds from an event's birth ([`Hub::publish_born`](crate::Hub::publish_born)) until a shard had sent it to
    /// everybody there who keeps up. Each shard with such connections counts the event once.
    pub latency: Distribution,
    /// Seconds of the passes in which shards sent anything.
    pub passes: Distribution,
    /// To how many connections of a shard an event went at once. Each shard with the project open counts it once.
    pub fan_out: Distribution,
}
