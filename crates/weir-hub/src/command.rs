//! What the outside asks of a shard.

use crate::project::Pending;
use crate::{Attach, Closed, ClosedBy, Conn, Goodbye, Message, Meter, NewConnection, Operation};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Pattern, Position, ProjectId};

/// One message to a shard; they are handled in order.
pub enum Command {
    Adopt(Arrival),
    Send { conn: Conn, bytes: Bytes, binary: bool, notify: bool },
    SendMessages { conn: Conn, messages: Vec<Arc<Message>>, operation: Option<Arc<Operation>>, notify: bool },
    Attach { conn: Conn, attach: Box<Attach> },
    Detach { conn: Conn, patterns: Vec<Pattern>, done: Box<dyn FnOnce() + Send> },
    DetachOperation { conn: Conn, id: u32, done: Box<dyn FnOnce() + Send> },
    ResumeReading(Conn),
    Close(Conn, Box<Goodbye>),
    OpenProject { project: ProjectId, at: Position, meter: Arc<Meter> },
    CloseProject(ProjectId, Box<Goodbye>),
    Publish { project: ProjectId, pending: Pending },
    Drain { over: Duration, goodbye: Box<Goodbye> },
    Shutdown,
}

/// A connection on its way to a shard. Lost on the way (the shard has ended), its listener still hears
/// that it is closed.
pub struct Arrival(Option<Box<NewConnection>>);

impl Arrival {
    pub fn new(new: NewConnection) -> Self {
        Self(Some(Box::new(new)))
    }

    /// It has arrived.
    pub fn take(mut self) -> Option<Box<NewConnection>> {
        self.0.take()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(new) = self.0.take() {
            new.listener.closed(Closed { by: ClosedBy::Server, code: 0, delivered: 0 });
        }
    }
}
