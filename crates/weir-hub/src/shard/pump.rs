//! Writing to one connection: at once when it keeps up, else from its backlog when the kernel has room.

use super::Shard;
use crate::backlog::{Backlog, What};
use crate::connection::{Connection, Phase};
use crate::encode::{put_enclosed, put_event};
use crate::project::Group;
use crate::ring::Ring;
use crate::{Dialect, Message, Operation};
use bytes::{Buf, Bytes};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that one connection may write in a turn.
const TURN_BYTES: usize = 64 << 10;
/// A write buffer that grew beyond this is not kept.
const KEPT_BYTES: usize = 1 << 20;

/// A piece of the write buffer and where it came from.
pub(super) struct Part {
    /// Where it ends in the buffer.
    end: usize,
    /// All its bytes, in the buffer or not yet.
    whole: usize,
    /// When it was due.
    at: u32,
    source: Source,
}

enum Source {
    /// The front of the queue.
    Queue,
    /// A copy of a ring entry.
    Ring { sequence: u64, weight: u32, is_last: bool },
}

/// What became of a turn.
#[derive(Default)]
struct Progress {
    events: u64,
    bytes: u64,
    notices: usize,
    /// When the first unsent byte was due, if there is one in the buffer.
    cut: Option<u32>,
}

impl Shard {
    /// Writes bytes that are no part of a subscription, now or when it is their turn.
    pub(super) fn put(&mut self, slot: u32, bytes: &[u8], notify: bool) {
        let conn = &mut self.conns[slot as usize];
        let now = self.now;
        if conn.backlog.is_none() {
            let Ok(sent) = conn.write(bytes) else { return self.remove(slot) };
            self.count_sent(sent);
            let conn = &mut self.conns[slot as usize];
            conn.note_written(now, sent);
            if sent == bytes.len() {
                if notify {
                    conn.listener.drained();
                }
                return;
            }
            let rest = What::Bytes { bytes: Bytes::copy_from_slice(&bytes[sent..]), event: None };
            let backlog = self.backlog(slot);
            match sent {
                0 => backlog.push(rest, now),
                _ => backlog.tear(rest, now),
            }
        } else if !self.settle(slot) {
            return self.end_slow(slot);
        } else {
            let what = What::Bytes { bytes: Bytes::copy_from_slice(bytes), event: None };
            self.backlog(slot).push(what, now);
        }
        if notify {
            self.queue_notice(slot);
        }
        if self.is_too_far_behind(slot) {
            self.end_slow(slot);
        }
    }

    /// Whether a connection is behind by more bytes than allowed.
    pub(super) fn is_too_far_behind(&self, slot: u32) -> bool {
        let conn = &self.conns[slot as usize];
        conn.backlog.as_ref().is_some_and(|backlog| {
            let total = self.groups.get(conn.group as usize).map_or(backlog.mark, |group| group.total);
            backlog.behind(total) > self.config.backlog_bytes
        })
    }

    /// Gives a connection that is behind one turn of writing.
    pub(super) fn pump(&mut self, slot: u32) {
        let conn = &self.conns[slot as usize];
        let Some(backlog) = conn.backlog.as_deref() else { return };
        let group = self.groups.get(conn.group as usize);
        let source = group.map(|group| (group, &self.projects[group.project as usize].ring));
        let mut turn = Turn {
            buffer: std::mem::take(&mut self.write_buffer),
            parts: std::mem::take(&mut self.parts),
            rendered: &mut self.rendered,
            dialect: conn.dialect,
        };
        turn.buffer.clear();
        turn.parts.clear();
        turn.fill_from_queue(backlog);
        let mut scanned = backlog.after;
        let queue_taken = turn.parts.len() == backlog.chunks().count();
        if let Some((group, ring)) = source.filter(|_| queue_taken) {
            if backlog.mark == group.total {
                scanned = ring.head().sequence;
            } else if backlog.after < ring.floor().sequence {
                let Turn { buffer, .. } = turn;
                self.give_back(buffer);
                return self.end_slow(slot);
            } else {
                scanned = turn.fill_from_ring(conn.operations(), group, ring, backlog);
            }
        }
        let Turn { buffer, parts, .. } = turn;
        let written = if buffer.is_empty() { Ok(0) } else { conn.write(&buffer) };
        let Ok(sent) = written else {
            self.give_back(buffer);
            return self.remove(slot);
        };
        let conn = &mut self.conns[slot as usize];
        let Some(backlog) = conn.backlog.as_deref_mut() else { return };
        let progress = account(backlog, &parts, &buffer, sent);
        self.parts = parts;
        if progress.cut.is_none() && queue_taken {
            backlog.after = scanned;
        }
        if let Some(due) = progress.cut {
            backlog.due = due;
        }
        if sent > 0 && backlog.granted > 0 {
            // It reads what it asked for: only a standstill counts.
            backlog.due = self.now;
        }
        let is_full = sent < buffer.len();
        let caught_up =
            !is_full && backlog.is_drained() && group.is_none_or(|group| backlog.mark == group.total);
        conn.note_written(self.now, sent);
        conn.count(progress.events, progress.bytes);
        self.counters.delivered.fetch_add(progress.events, Relaxed);
        self.give_back(buffer);
        self.count_sent(sent);
        self.after_turn(slot, progress.notices, caught_up, is_full);
    }

    fn after_turn(&mut self, slot: u32, notices: usize, caught_up: bool, is_full: bool) {
        let conn = &mut self.conns[slot as usize];
        if caught_up {
            conn.backlog = None;
            self.lagging -= 1;
        }
        let listener = (notices > 0).then(|| Arc::clone(&conn.listener));
        if caught_up && conn.phase == Phase::Closing {
            self.end_writing(slot);
        } else if !caught_up && !is_full {
            self.again(slot);
        }
        if let Some(listener) = listener {
            (0..notices).for_each(|_| listener.drained());
        }
    }

    /// Counts one call to the kernel.
    fn count_sent(&self, sent: usize) {
        self.counters.sends.fetch_add(1, Relaxed);
        self.counters.bytes.fetch_add(sent as u64, Relaxed);
    }

    /// Keeps the write buffer for the next use, unless it grew out of proportion.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BYTES {
            self.write_buffer = buffer;
        }
    }
}

impl Connection {
    /// For an event stream, bytes written are its sign of life.
    const fn note_written(&mut self, now: u32, sent: usize) {
        if sent > 0 && matches!(self.dialect, Dialect::Sse) {
            self.active = now;
        }
    }
}

/// What a connection is to write in a turn.
struct Turn<'a> {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    /// For what shapes render.
    rendered: &'a mut Vec<u8>,
    dialect: Dialect,
}

impl Turn<'_> {
    fn is_full(&self) -> bool {
        self.buffer.len() >= TURN_BYTES
    }

    fn fill_from_queue(&mut self, backlog: &Backlog) {
        for chunk in backlog.chunks() {
            if self.is_full() {
                return;
            }
            let start = self.buffer.len();
            let whole = match &chunk.what {
                What::Bytes { bytes, .. } => {
                    self.buffer.extend_from_slice(&bytes[..bytes.len().min(TURN_BYTES - start)]);
                    bytes.len()
                }
                What::Event(message, operation) => self.put_whole(message, operation.as_deref()),
                What::Notice => 0,
            };
            self.parts.push(Part { end: self.buffer.len(), whole, at: chunk.at, source: Source::Queue });
        }
    }

    /// Returns the sequence up to which everything for the connection is in the buffer.
    fn fill_from_ring(
        &mut self,
        operations: &[Arc<Operation>],
        group: &Group,
        ring: &Ring,
        backlog: &Backlog,
    ) -> u64 {
        let (mut scanned, mut sent) = (backlog.after, backlog.copies as usize);
        for entry in ring.after(scanned) {
            let topic = entry.message.topic.as_str();
            let mut copies = group.selection.copies(topic, operations).skip(sent).peekable();
            if copies.peek().is_some() {
                sent = 0;
            }
            while let Some(operation) = copies.next() {
                if self.is_full() {
                    return scanned;
                }
                let whole = self.put_whole(&entry.message, operation.map(|operation| &**operation));
                let (sequence, is_last) = (entry.sequence(), copies.peek().is_none());
                let source = Source::Ring { sequence, weight: entry.weight, is_last };
                self.parts.push(Part { end: self.buffer.len(), whole, at: entry.at, source });
            }
            scanned = entry.sequence();
        }
        scanned
    }

    fn put_whole(&mut self, message: &Message, operation: Option<&Operation>) -> usize {
        let start = self.buffer.len();
        match operation {
            None => put_event(&mut self.buffer, self.dialect, message),
            Some(operation) => {
                self.rendered.clear();
                operation.shape.render(message, self.rendered);
                put_enclosed(&mut self.buffer, self.dialect, operation, self.rendered);
            }
        }
        self.buffer.len() - start
    }
}

/// Takes what was sent off the backlog; the rest of a part that was cut becomes the front of the queue.
fn account(backlog: &mut Backlog, parts: &[Part], buffer: &[u8], sent: usize) -> Progress {
    let mut progress = Progress::default();
    let mut start = 0;
    for part in parts {
        let taken = sent.min(part.end).saturating_sub(start);
        let is_cut = taken < part.whole;
        if is_cut {
            progress.cut = Some(part.at);
            if taken == 0 {
                break;
            }
        }
        let popped = match part.source {
            Source::Queue => backlog.pop(),
            Source::Ring { sequence, weight, is_last } => {
                match is_last {
                    true => (backlog.after, backlog.copies) = (sequence, 0),
                    false => backlog.copies += 1,
                }
                backlog.mark = backlog.mark.wrapping_add(u64::from(weight));
                None
            }
        };
        if is_cut {
            let (bytes, event) = match popped {
                Some(What::Bytes { mut bytes, event }) => {
                    bytes.advance(taken);
                    (bytes, event)
                }
                _ => (Bytes::copy_from_slice(&buffer[start + taken..part.end]), Some(part.whole as u32)),
            };
            backlog.tear(What::Bytes { bytes, event }, part.at);
            break;
        }
        match (&part.source, popped) {
            (_, Some(What::Notice)) => progress.notices += 1,
            (_, Some(What::Bytes { event: None, .. })) => {}
            (_, Some(What::Bytes { event: Some(whole), .. })) => {
                progress.events += 1;
                progress.bytes += u64::from(whole);
            }
            _ => {
                progress.events += 1;
                progress.bytes += part.whole as u64;
            }
        }
        start = part.end;
    }
    progress
}
