//! The bound on what a client has said and was not worked on yet.

use crate::state::Gateway;
use crate::ws::{ALLOWANCE, FRAME_OVERHEAD, NODE_ALLOWANCE};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use weir_hub::Conn;

/// Bytes of one connection's messages that are in work.
#[derive(Default)]
pub(super) struct Intake {
    bytes: AtomicUsize,
    /// The hub has stopped reading the socket for us.
    paused: AtomicBool,
}

impl Intake {
    /// A message came. False: read no further before [`settle`](Self::settle) says so.
    pub(super) fn take(&self, gateway: &Gateway, length: usize) -> bool {
        let cost = length + FRAME_OVERHEAD;
        let own = self.bytes.fetch_add(cost, Ordering::AcqRel) + cost;
        let node = gateway.frames_in_work.fetch_add(cost, Ordering::AcqRel) + cost;
        let go_on = own <= ALLOWANCE && node <= NODE_ALLOWANCE;
        if !go_on {
            // Before the message can be settled: it is dispatched after this.
            self.paused.store(true, Ordering::Release);
        }
        go_on
    }

    /// A message was worked on.
    pub(super) fn settle(&self, gateway: &Gateway, conn: Option<&Conn>, length: usize) {
        let cost = length + FRAME_OVERHEAD;
        gateway.frames_in_work.fetch_sub(cost, Ordering::AcqRel);
        let left = self.bytes.fetch_sub(cost, Ordering::AcqRel).saturating_sub(cost);
        if left <= ALLOWANCE / 2
            && self.paused.swap(false, Ordering::AcqRel)
            && let Some(conn) = conn
        {
            gateway.engine.hub().resume_reading(*conn);
        }
    }
}
