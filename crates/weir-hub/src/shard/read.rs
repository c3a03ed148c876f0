//! What clients send.

use super::{READ_BYTES, Shard};
use crate::connection::{Inbound, Phase};
use crate::websocket::{Item, Opcode, Rules, put_frame};
use crate::{ClosedBy, Dialect};
use std::io::{ErrorKind, Read};
use std::sync::Arc;

/// Reads before others get their turn.
const MAX_READS: usize = 4;

impl Shard {
    /// Reads until there is nothing more, the listener has enough, or the turn is over. `ended` says that
    /// the end may already be waiting behind the bytes.
    pub(super) fn read(&mut self, slot: u32, ended: bool) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let more = (0..MAX_READS).all(|_| self.read_once(slot, ended, &mut buffer));
        self.read_buffer = buffer;
        if more {
            self.again(slot);
        }
    }

    /// Reads once; true when there may be more.
    fn read_once(&mut self, slot: u32, ended: bool, buffer: &mut [u8]) -> bool {
        let conn = &self.conns[slot as usize];
        let key = (slot, conn.generation);
        if conn.paused {
            // Unread bytes fill the client's window; only its death is of interest.
            if ended && conn.socket.take_error().is_ok_and(|error| error.is_some()) {
                self.remove(slot);
            }
            return false;
        }
        match (&conn.socket).read(buffer) {
            Ok(count @ 1..) => {
                self.receive(slot, &buffer[..count]);
                self.is_current(key) && (count == READ_BYTES || ended)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Ok(0) | Err(_) => {
                self.remove(slot);
                false
            }
        }
    }

    /// Takes in bytes of a connection. Those of an event stream mean nothing.
    pub(super) fn receive(&mut self, slot: u32, bytes: &[u8]) {
        let conn = &mut self.conns[slot as usize];
        if conn.dialect == Dialect::Sse || conn.phase != Phase::Open {
            return;
        }
        conn.active = self.now;
        conn.pinged = false;
        let mut boxed = conn.inbound.take();
        let mut fresh = Inbound::default();
        let inbound = boxed.as_deref_mut().unwrap_or(&mut fresh);
        let mut pongs = Vec::new();
        let ending = self.decode(slot, inbound, bytes, &mut pongs);
        if !inbound.decoder.is_at_rest() || !inbound.held.is_empty() {
            let inbound = boxed.unwrap_or_else(|| Box::new(fresh));
            self.conns[slot as usize].inbound = Some(inbound);
        }
        let key = (slot, self.conns[slot as usize].generation);
        if let Some((by, code, reason)) = ending {
            let conn = &mut self.conns[slot as usize];
            (conn.phase, conn.by, conn.code) = (Phase::Ending, by, code);
            conn.inbound = None;
            self.endings.push((key, reason));
        }
        if !pongs.is_empty() {
            self.put(slot, &pongs, false);
        }
    }

    /// Passes whole messages on; returns how the conversation ends if it does.
    fn decode(
        &mut self,
        slot: u32,
        inbound: &mut Inbound,
        mut bytes: &[u8],
        pongs: &mut Vec<u8>,
    ) -> Option<(ClosedBy, u16, &'static str)> {
        let rules = Rules { message_bytes: self.config.frame_bytes, binary: self.config.accept_binary };
        let conn = &mut self.conns[slot as usize];
        loop {
            let more = match inbound.decoder.decode(&mut bytes, &rules) {
                Ok(None) => return None,
                Ok(Some(Item::Text(text))) => Arc::clone(&conn.listener).text(text),
                Ok(Some(Item::Binary(binary))) => Arc::clone(&conn.listener).binary(binary),
                Ok(Some(Item::Ping(payload))) => {
                    put_frame(pongs, Opcode::Pong, &payload);
                    true
                }
                Ok(Some(Item::Pong)) => true,
                Ok(Some(Item::Close(code))) => return Some((ClosedBy::Client, code, "")),
                Err(violation) => return Some((ClosedBy::Protocol, violation.code, violation.reason)),
            };
            if !more {
                conn.paused = true;
                inbound.held = bytes.to_vec();
                return None;
            }
        }
    }
}
