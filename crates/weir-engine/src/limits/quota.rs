//! One quota of connections on this node: the share that the database granted, and what of it is in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as TurnMutex, Notify};
use weir_store::{Quota, Share};

/// The least that is asked for ahead of need.
const BLOCK: u32 = 16;
/// An exhausted quota is not asked for again sooner, unless somebody gave something back.
const EXHAUSTED_FOR: Duration = Duration::from_millis(100);

/// A quota that this node has a share of.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) quota: Quota,
    state: Mutex<State>,
    /// One at a time talks to the database about this share, so that what it knows is never less than what is in use.
    pub(super) turn: TurnMutex<()>,
    /// Wakes who waits for room.
    pub(super) room: Notify,
}

#[derive(Debug, Default)]
struct State {
    granted: u32,
    live: u32,
    waiting: u32,
    /// The least that was unused since the last look.
    unused: u32,
    exhausted: Option<Instant>,
    /// What the database said last.
    last: Option<Share>,
}

/// What a pool has and needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) held: u32,
    pub(super) live: u32,
    pub(super) waiting: u32,
    pub(super) more: u32,
}

impl Pool {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, state: Mutex::default(), turn: TurnMutex::new(()), room: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere cannot have left them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection if there is room in this node's share.
    pub(super) fn take(self: &Arc<Self>, limit: u32) -> Option<Held> {
        let mut state = self.state();
        if state.live >= state.granted.min(limit) {
            return None;
        }
        state.live += 1;
        state.unused = state.unused.min(state.granted - state.live);
        Some(Held(Arc::clone(self)))
    }

    /// Waits in line until dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.state().waiting += 1;
        Waiting(Arc::clone(self))
    }

    pub(super) fn need(&self) -> Need {
        let state = self.state();
        let (held, live) = (state.granted, state.live);
        // What waits takes what is free first. Doubling keeps the number of questions to the logarithm of the answer.
        let waiting = state.waiting.saturating_sub(held.saturating_sub(live));
        Need { held, live, waiting, more: held.max(BLOCK) }
    }

    pub(super) fn live(&self) -> u32 {
        self.state().live
    }

    /// The database's word. Call with the turn held.
    pub(super) fn set_share(&self, share: Share) {
        let mut state = self.state();
        state.granted = share.granted;
        state.unused = share.granted.saturating_sub(state.live);
        state.last = Some(share);
    }

    /// What it said last.
    pub(super) fn last_share(&self) -> Option<Share> {
        self.state().last
    }

    /// The share is void. Call with the turn held.
    pub(super) fn lose_share(&self) {
        self.state().granted = 0;
    }

    /// Whether asking again is pointless for now.
    pub(super) fn is_exhausted(&self) -> bool {
        self.state().exhausted.is_some_and(|at| at.elapsed() < EXHAUSTED_FOR)
    }

    pub(super) fn set_exhausted(&self, exhausted: bool) {
        self.state().exhausted = exhausted.then(Instant::now);
    }

    /// Withdraws what is not in use, before it is given back; what to keep. `None` when all is in use.
    pub(super) fn withdraw_unused(&self) -> Option<u32> {
        let mut state = self.state();
        let unused = state.granted.saturating_sub(state.live);
        (unused > 0).then(|| {
            state.granted = state.live;
            state.unused = 0;
            state.granted
        })
    }

    /// The same for what was not needed since the last look: all of it where nothing is live, else half of it, if it
    /// is much.
    pub(super) fn withdraw_idle(&self) -> Option<u32> {
        let mut state = self.state();
        let unused_now = state.granted.saturating_sub(state.live);
        let unused = std::mem::replace(&mut state.unused, unused_now);
        let back = match state.live {
            0 if state.waiting == 0 => unused,
            live if unused > BLOCK.max(live / 2) => unused / 2,
            _ => 0,
        };
        (back > 0).then(|| {
            state.granted -= back.min(state.granted);
            state.unused = state.granted.saturating_sub(state.live);
            state.granted
        })
    }

    /// Whether it has nothing that needs remembering.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.granted == 0 && state.live == 0
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct Held(Arc<Pool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().live -= 1;
        self.0.room.notify_one();
    }
}

/// One that waits.
pub(super) struct Waiting(Arc<Pool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}
