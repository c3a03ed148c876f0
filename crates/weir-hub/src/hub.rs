//! The handle to the shards.

use crate::command::{Arrival, Command};
use crate::encode::weight;
use crate::project::Pending;
use crate::shard::{self, Mailbox};
use crate::{Attach, Config, Conn, Goodbye, Message, Meter, NewConnection, Operation, Stats};
use bytes::Bytes;
use std::io;
use std::num::NonZero;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use weir_core::{Pattern, Position, ProjectId};

/// The hub: a handle to its shards, cheap to clone. Every call only sends a message to a shard, so none
/// blocks and none fails; one that names a connection that is gone has no effect. When the last handle
/// is dropped the shards end as after [`Hub::shutdown`].
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    shards: Box<[Mailbox]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.post(Command::Shutdown);
        }
    }
}

impl Hub {
    /// Starts the shards.
    ///
    /// # Errors
    /// When a poll or a thread cannot be made.
    pub fn start(config: Config) -> io::Result<Self> {
        let count = match config.shards {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let config = Arc::new(config);
        let mut shards = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..u16::try_from(count).unwrap_or(u16::MAX) {
            let (mailbox, thread) = shard::spawn(number, Arc::clone(&config))?;
            shards.push(mailbox);
            threads.push(thread);
        }
        Ok(Self(Arc::new(Inner { shards: shards.into(), threads: Mutex::new(threads) })))
    }

    /// Hands a connection to the shard with the fewest. Its listener hears [`opened`](crate::Listener::opened)
    /// first and [`closed`](crate::Listener::closed) in any case, even when the socket fails at once.
    pub fn adopt(&self, new: NewConnection) {
        let fewest = self.0.shards.iter().min_by_key(|shard| shard.counters.connections.load(Relaxed));
        let Some(shard) = fewest else { return };
        // Counted here already: many that come at once must not all go to the same shard.
        shard.counters.connections.fetch_add(1, Relaxed);
        shard.post(Command::Adopt(Arrival::new(new)));
    }

    /// Sends one text message (WebSocket: the hub adds the frame's head) or raw bytes (SSE) outside any
    /// subscription. With `notify` the listener hears [`drained`](crate::Listener::drained) afterwards.
    pub fn send(&self, conn: Conn, bytes: Bytes, notify: bool) {
        self.to(conn, Command::Send { conn, bytes, binary: false, notify });
    }

    /// Sends one binary message; raw bytes for SSE.
    pub fn send_binary(&self, conn: Conn, bytes: Bytes, notify: bool) {
        self.to(conn, Command::Send { conn, bytes, binary: true, notify });
    }

    /// Sends history, encoded for the connection's dialect. It is counted in the meter of the project that
    /// the connection is attached to, or with its first attach. Send at most about
    /// [`Config::backlog_bytes`] and wait for the notice before the next: a connection that already holds
    /// more than that is closed as a slow consumer.
    pub fn send_messages(&self, conn: Conn, messages: Vec<Arc<Message>>, notify: bool) {
        self.to(conn, Command::SendMessages { conn, messages, operation: None, notify });
    }

    /// Sends history in the words of an operation, attached or not yet; else as [`Hub::send_messages`].
    pub fn send_to_operation(
        &self,
        conn: Conn,
        operation: Arc<Operation>,
        messages: Vec<Arc<Message>>,
        notify: bool,
    ) {
        self.to(conn, Command::SendMessages { conn, messages, operation: Some(operation), notify });
    }

    /// Subscribes a connection; see [`Attach`]. `done` is dropped uncalled when the connection is gone or
    /// closing.
    pub fn attach(&self, conn: Conn, attach: Attach) {
        self.to(conn, Command::Attach { conn, attach: Box::new(attach) });
    }

    /// Ends subscriptions: nothing published later is sent for these patterns. `done` is called on the
    /// shard's thread, or dropped when the connection is gone.
    pub fn detach(&self, conn: Conn, patterns: Vec<Pattern>, done: Box<dyn FnOnce() + Send>) {
        self.to(conn, Command::Detach { conn, patterns, done });
    }

    /// Ends an operation, wherever it stands: what is queued for it is dropped and its attach, if one waits,
    /// forgotten. Nothing of it is sent after this but the rest of what was begun. `done` is called on the
    /// shard's thread, or dropped when the connection is gone.
    pub fn detach_operation(&self, conn: Conn, id: u32, done: Box<dyn FnOnce() + Send>) {
        self.to(conn, Command::DetachOperation { conn, id, done });
    }

    /// Reads on after a listener said that it had enough.
    pub fn resume_reading(&self, conn: Conn) {
        self.to(conn, Command::ResumeReading(conn));
    }

    /// Closes a connection.
    pub fn close(&self, conn: Conn, goodbye: Goodbye) {
        self.to(conn, Command::Close(conn, Box::new(goodbye)));
    }

    /// Opens a project with an empty ring that covers everything after `at`. Opening it again replaces the
    /// meter and, when `at` is not the ring's head, empties the ring: who is behind then is closed
    /// as a slow consumer, who is not stays attached.
    pub fn open_project(&self, project: ProjectId, at: Position, meter: Arc<Meter>) {
        for shard in &self.0.shards {
            shard.post(Command::OpenProject { project, at, meter: Arc::clone(&meter) });
        }
    }

    /// Closes all connections attached to a project and drops its ring.
    pub fn close_project(&self, project: ProjectId, goodbye: Goodbye) {
        for shard in &self.0.shards {
            shard.post(Command::CloseProject(project, Box::new(goodbye.clone())));
        }
    }

    /// Publishes messages of an open project, in order and following on the last. A message that does not
    /// follow (its sequence is not greater, or its epoch another) is ignored.
    pub fn publish(&self, project: ProjectId, messages: Arc<[Arc<Message>]>) {
        self.publish_born(project, messages, Instant::now());
    }

    /// The same for messages of which the oldest came into the world at `born`: from then on the latency counts.
    pub fn publish_born(&self, project: ProjectId, messages: Arc<[Arc<Message>]>, born: Instant) {
        let weight = messages.iter().map(|message| weight(message)).sum();
        for shard in &self.0.shards {
            shard.counters.queued_bytes.fetch_add(weight, Relaxed);
            let pending = Pending { messages: Arc::clone(&messages), weight, born };
            shard.post(Command::Publish { project, pending });
        }
    }

    /// Bytes of published messages that wait for the fullest shard. The pump waits while it is over
    /// [`Config::queue_bytes`].
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.counters.queued_bytes.load(Relaxed)).max().unwrap_or(0)
    }

    /// Closes every connection, spread evenly over the time, and from then on every new one at once.
    pub fn drain(&self, over: Duration, goodbye: Goodbye) {
        for shard in &self.0.shards {
            shard.post(Command::Drain { over, goodbye: Box::new(goodbye.clone()) });
        }
    }

    /// Counts of all shards. The rings and the queues share their messages, so the fullest shard speaks
    /// for `queued_bytes` and `ring_bytes`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for shard in &self.0.shards {
            shard.counters.add_to(&mut stats);
        }
        stats
    }

    /// Ends the threads and waits for them. What is left is closed with 1001.
    pub fn shutdown(self) {
        for shard in &self.0.shards {
            shard.post(Command::Shutdown);
        }
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A listener may be the one who asks: a shard cannot wait for itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a hub shard had panicked");
            }
        }
    }

    fn to(&self, conn: Conn, command: Command) {
        if let Some(shard) = self.0.shards.get(usize::from(conn.shard)) {
            shard.post(command);
        }
    }
}
