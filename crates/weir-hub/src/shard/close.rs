//! Ends of connections.

use super::Shard;
use crate::backlog::What;
use crate::connection::Phase;
use crate::encode::put_text;
use crate::websocket::put_close;
use crate::{Closed, ClosedBy, Dialect, Goodbye};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use weir_core::Code;

/// How a connection is told that it ends.
#[derive(Clone, Copy)]
pub(super) struct Farewell<'a> {
    pub by: ClosedBy,
    pub code: u16,
    pub reason: &'a str,
    pub text: Option<&'a [u8]>,
    pub discard: bool,
}

impl<'a> From<&'a Goodbye> for Farewell<'a> {
    fn from(goodbye: &'a Goodbye) -> Self {
        Self {
            by: ClosedBy::Server,
            code: goodbye.code,
            reason: &goodbye.reason,
            text: goodbye.text.as_deref(),
            discard: goodbye.discard,
        }
    }
}

impl Shard {
    /// Sends what is queued (or not), the last text and the close, then waits for the other side; all
    /// within the close time-out. Events published from now on are not sent.
    pub(super) fn begin_close(&mut self, slot: u32, farewell: &Farewell<'_>) {
        if self.conns[slot as usize].phase == Phase::Closing {
            if farewell.discard {
                self.remove(slot);
            }
            return;
        }
        let discard = farewell.discard || !self.settle(slot);
        self.leave(slot);
        self.unpark(slot);
        let deadline = self.now.wrapping_add(self.times.close_timeout);
        let conn = &mut self.conns[slot as usize];
        conn.phase = Phase::Closing;
        conn.deadline = deadline;
        conn.by = farewell.by;
        conn.code = if conn.dialect == Dialect::WebSocket { farewell.code } else { 0 };
        conn.inbound = None;
        conn.paused = false;
        if let Some(backlog) = conn.backlog.as_deref_mut().filter(|_| discard) {
            backlog.discard();
        }
        let mut last = Vec::new();
        if let Some(text) = farewell.text {
            put_text(&mut last, conn.dialect, text);
        }
        if conn.dialect == Dialect::WebSocket {
            put_close(&mut last, farewell.code, farewell.reason);
        }
        let now = self.now;
        self.backlog(slot).push(What::Bytes { bytes: last.into(), event: None }, now);
        // The pump says the end to the kernel when all is written. What arrived unread is thrown away in
        // the next turn: an edge may have told of it long ago.
        self.again(slot);
        self.pump(slot);
    }

    /// The connection does not read fast enough.
    pub(super) fn end_slow(&mut self, slot: u32) {
        self.counters.slow_consumers.fetch_add(1, Relaxed);
        let conn = &mut self.conns[slot as usize];
        if conn.dialect == Dialect::Sse {
            conn.by = ClosedBy::SlowConsumer;
            return self.remove(slot);
        }
        let code = Code::SlowConsumer;
        self.begin_close(
            slot,
            &Farewell {
                by: ClosedBy::SlowConsumer,
                code: code.close_code(),
                reason: code.as_str(),
                text: None,
                discard: true,
            },
        );
    }

    /// The ring forgot what these connections still wait for.
    pub(super) fn end_overrun(&mut self, project: u32) {
        for slot in self.members_of(project) {
            let total = self.groups[self.conns[slot as usize].group as usize].total;
            let behind = self.conns[slot as usize].backlog.as_ref().is_some_and(|b| b.mark != total);
            if behind {
                self.end_slow(slot);
            }
        }
    }

    /// Pings stayed unanswered: says why, if the kernel takes it, and lets go.
    pub(super) fn end_silent(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        (conn.by, conn.code) = (ClosedBy::Timeout, Code::RequestTimeout.close_code());
        let mut last = Vec::new();
        put_close(&mut last, conn.code, "PONG_TIMEOUT");
        conn.write(&last).ok();
        self.remove(slot);
    }

    /// Answers those who closed, or broke the protocol, now that the answers to what they said before
    /// have had their chance.
    pub(super) fn answer_endings(&mut self) {
        for (key, reason) in std::mem::take(&mut self.endings) {
            if self.is_current(key) && self.conns[key.0 as usize].phase == Phase::Ending {
                let conn = &self.conns[key.0 as usize];
                let (by, code) = (conn.by, conn.code);
                self.begin_close(key.0, &Farewell { by, code, reason, text: None, discard: false });
            }
        }
    }

    /// Everything is written: the other side may hang up.
    pub(super) fn end_writing(&self, slot: u32) {
        // Half a close, then reading until the other half: a full close would reset the connection when
        // unread bytes are left, and the reset would overtake the last words.
        self.conns[slot as usize].socket.shutdown(Shutdown::Write).ok();
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn remove(&mut self, slot: u32) {
        self.leave(slot);
        self.unpark(slot);
        let mut conn = self.conns.remove(slot as usize);
        if conn.backlog.is_some() {
            self.lagging -= 1;
        }
        // Dropping the socket would deregister it too; an error changes nothing.
        self.poll.registry().deregister(&mut conn.socket).ok();
        self.gauge(conn.dialect).fetch_sub(1, Relaxed);
        self.counters.connections.fetch_sub(1, Relaxed);
        let closed = Closed { by: conn.by, code: conn.code, delivered: conn.delivered };
        let listener = Arc::clone(&conn.listener);
        drop(conn);
        listener.closed(closed);
    }

    pub(super) fn gauge(&self, dialect: Dialect) -> &AtomicU64 {
        match dialect {
            Dialect::WebSocket => &self.counters.websocket,
            Dialect::Sse => &self.counters.sse,
        }
    }

    /// The end of the shard.
    pub(super) fn close_all(&mut self) {
        let mut last = Vec::new();
        put_close(&mut last, 1001, "the server ends");
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let conn = &mut self.conns[slot];
            if conn.phase == Phase::Open {
                conn.by = ClosedBy::Server;
                if conn.dialect == Dialect::WebSocket {
                    conn.code = 1001;
                    if conn.backlog.is_none() {
                        conn.write(&last).ok();
                    }
                }
            }
            self.remove(slot as u32);
        }
    }
}
