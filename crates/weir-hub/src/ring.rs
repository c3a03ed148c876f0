//! The recent messages of one project, shared by everybody who is behind.

use crate::encode::weight;
use crate::{Message, NotCovered};
use std::collections::VecDeque;
use std::sync::Arc;
use weir_core::Position;

/// A message and when it came.
pub struct Entry {
    /// The message.
    pub message: Arc<Message>,
    /// Its weight in bytes.
    pub weight: u32,
    /// When it was published here, in milliseconds of the shard's clock.
    pub at: u32,
}

impl Entry {
    /// Its place in the order.
    pub fn sequence(&self) -> u64 {
        self.message.position.sequence
    }
}

/// Covers everything after `floor` up to `head`.
pub struct Ring {
    entries: VecDeque<Entry>,
    floor: Position,
    head: Position,
    bytes: usize,
}

impl Ring {
    /// An empty ring that covers everything after `at`.
    pub const fn new(at: Position) -> Self {
        Self { entries: VecDeque::new(), floor: at, head: at, bytes: 0 }
    }

    /// The position of the newest message.
    pub const fn head(&self) -> Position {
        self.head
    }

    /// The position after which everything is held.
    pub const fn floor(&self) -> Position {
        self.floor
    }

    /// The weight of what is held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest held message came.
    pub fn oldest(&self) -> Option<u32> {
        self.entries.front().map(|entry| entry.at)
    }

    /// Adds a message that follows on the head, then forgets the oldest beyond the bounds.
    pub fn push(&mut self, message: Arc<Message>, now: u32, most_messages: usize, most_bytes: usize) {
        let weight = weight(&message);
        self.head = message.position;
        self.bytes += weight;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.entries.push_back(Entry { message, weight, at: now });
        while self.entries.len() > most_messages || self.bytes > most_bytes {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest quarter, at least one; returns the bytes freed.
    pub fn shrink(&mut self) -> usize {
        let before = self.bytes;
        for _ in 0..self.entries.len().div_ceil(4) {
            self.forget_oldest();
        }
        self.entries.shrink_to(self.entries.len() * 2);
        before - self.bytes
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.weight as usize;
            self.floor = entry.message.position;
        }
    }

    /// The entries after a sequence. Only complete when the sequence is not before the floor.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        let first = self.entries.partition_point(|entry| entry.sequence() <= sequence);
        self.entries.range(first..)
    }

    /// Whether a trusted position, one without a check, is ahead of the head.
    pub const fn is_behind(&self, after: Position) -> bool {
        after.check == 0 && after.epoch == self.head.epoch && after.sequence > self.head.sequence
    }

    /// Checks that everything after a position is held: it must be exactly the floor or an event in
    /// the ring, with its epoch and check, or a trusted one between them. `None` is the head.
    pub fn locate(&self, after: Option<Position>) -> Result<Position, NotCovered> {
        let Some(after) = after else { return Ok(self.head) };
        let held = self.floor.sequence..=self.head.sequence;
        let trusted = after.check == 0 && after.sequence > 0;
        let known = trusted && after.epoch == self.head.epoch && held.contains(&after.sequence);
        let known = known || after == self.floor || after == self.head || {
            let at = self.entries.binary_search_by_key(&after.sequence, Entry::sequence);
            at.is_ok_and(|at| self.entries[at].message.position == after)
        };
        known.then_some(after).ok_or(NotCovered { floor: Some(self.floor) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const fn position(sequence: u64) -> Position {
        Position { epoch: 7, sequence, check: sequence as u32 * 10 }
    }

    fn ring(sequences: impl IntoIterator<Item = u64>, most: usize) -> Ring {
        let mut ring = Ring::new(position(0));
        for sequence in sequences {
            let message = Message {
                position: position(sequence),
                topic: "a".parse().expect("topic"),
                ws_prefix: Bytes::new(),
                sse_prefix: Bytes::new(),
                body: Bytes::from_static(b"{}"),
                marks: [0; 8],
            };
            ring.push(Arc::new(message), 0, most, 1 << 20);
        }
        ring
    }

    #[test]
    fn knows_what_it_covers() {
        let ring = ring([2, 5, 9, 12], 3);
        assert_eq!((ring.floor(), ring.head()), (position(2), position(12)));
        assert_eq!(ring.locate(None), Ok(position(12)));
        for known in [2, 5, 9, 12] {
            assert_eq!(ring.locate(Some(position(known))), Ok(position(known)));
        }
        let unknown = Err(NotCovered { floor: Some(position(2)) });
        for beyond in [0, 1, 6, 13] {
            assert_eq!(ring.locate(Some(position(beyond))), unknown);
        }
        for trusted in [2, 3, 11, 12] {
            let trusted = Position { check: 0, ..position(trusted) };
            assert_eq!(ring.locate(Some(trusted)), Ok(trusted));
        }
        assert_eq!(ring.locate(Some(Position { check: 0, ..position(1) })), unknown);
        let ahead = Position { check: 0, ..position(13) };
        assert_eq!(ring.locate(Some(ahead)), unknown);
        assert!(ring.is_behind(ahead) && !ring.is_behind(Position { epoch: 8, ..ahead }));
        assert_eq!(ring.locate(Some(Position { check: 1, ..position(5) })), unknown);
        assert_eq!(ring.locate(Some(Position { epoch: 8, ..position(5) })), unknown);
        let held: Vec<u64> = ring.after(5).map(Entry::sequence).collect();
        assert_eq!(held, [9, 12]);
    }

    #[test]
    fn frees_what_it_forgets() {
        let mut ring = ring(1..=100, 64);
        let before = ring.bytes();
        assert_eq!(ring.shrink(), before / 4);
        assert_eq!(ring.floor(), position(52));
        while ring.bytes() > 0 {
            assert!(ring.shrink() > 0);
        }
        assert_eq!(ring.floor(), ring.head());
    }
}
