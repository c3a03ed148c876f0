//! What a connection could not be sent yet: a short list of its own, then a place in the project's ring.

use crate::encode::weight;
use crate::{Message, Operation};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Exists only while its connection is behind.
pub struct Backlog {
    queue: VecDeque<Chunk>,
    queued: usize,
    /// The front of the queue is the rest of something whose start was sent.
    torn: bool,
    /// Ring messages for the group after this sequence follow on the queue.
    pub after: u64,
    /// Of the first of them for the group, so many copies are sent: each operation has its own.
    pub copies: u32,
    /// The group's running total at `after`: the difference is how far behind the ring part is.
    pub mark: u64,
    /// Weight of what the engine asked to send (history, replay); it does not count against the bound.
    pub granted: usize,
    /// When the oldest unsent byte was due, in milliseconds of the shard's clock.
    pub due: u32,
}

/// A part of the queue.
pub struct Chunk {
    /// What to send.
    pub what: What,
    /// When it was queued.
    pub at: u32,
}

/// What to send.
pub enum What {
    /// Bytes as they are; `event` is the whole size when they are the rest of an event.
    Bytes { bytes: Bytes, event: Option<u32> },
    /// An event, encoded when its turn comes, as it is or for an operation.
    Event(Arc<Message>, Option<Arc<Operation>>),
    /// Nothing: tells the listener that everything before it is out.
    Notice,
}

impl What {
    fn weight(&self) -> usize {
        match self {
            Self::Bytes { bytes, .. } => bytes.len() + size_of::<Chunk>(),
            Self::Event(message, _) => weight(message),
            Self::Notice => size_of::<Chunk>(),
        }
    }
}

impl Backlog {
    /// Nothing queued; the ring part begins after `after`, where the group's total was `mark`.
    pub const fn new(after: u64, mark: u64, due: u32) -> Self {
        Self { queue: VecDeque::new(), queued: 0, torn: false, after, copies: 0, mark, granted: 0, due }
    }

    /// Adds to the end of the queue. What follows from the ring must already be in it.
    pub fn push(&mut self, what: What, now: u32) {
        self.queued += what.weight();
        self.queue.push_back(Chunk { what, at: now });
    }

    /// The queue in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.queue.iter()
    }

    /// True when only the ring part is left.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the front of the queue.
    pub fn pop(&mut self) -> Option<What> {
        let chunk = self.queue.pop_front()?;
        self.queued -= chunk.what.weight();
        self.torn = false;
        Some(chunk.what)
    }

    /// Puts the rest of something partly sent in front.
    pub fn tear(&mut self, rest: What, at: u32) {
        self.queued += rest.weight();
        self.torn = true;
        self.queue.push_front(Chunk { what: rest, at });
    }

    /// Forgets everything but the rest of what was started, without which the stream is not readable.
    pub fn discard(&mut self) {
        let keep = usize::from(self.torn);
        self.queue.truncate(keep);
        self.queued = self.queue.iter().map(|chunk| chunk.what.weight()).sum();
    }

    /// Forgets the events of an operation. What was granted for them is taken back; some of it may have
    /// been granted for others, which errs to the side of a smaller backlog.
    pub fn forget(&mut self, operation: u32) {
        let before = self.queued;
        self.queue.retain(|chunk| match &chunk.what {
            What::Event(message, Some(owner)) if owner.id == operation => {
                self.queued -= weight(message);
                false
            }
            _ => true,
        });
        self.granted = self.granted.saturating_sub(before - self.queued);
    }

    /// How far behind, in bytes, beyond what was granted.
    pub fn behind(&self, group_total: u64) -> usize {
        let ring = usize::try_from(group_total.wrapping_sub(self.mark)).unwrap_or(usize::MAX);
        self.queued.saturating_add(ring).saturating_sub(self.granted)
    }

    /// What is queued, in bytes.
    pub const fn queued(&self) -> usize {
        self.queued
    }
}
