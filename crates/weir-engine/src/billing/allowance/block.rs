//! The events of one tenant that this node may still accept: taken from memory, refilled from the database.

use crate::Error;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use weir_core::{Period, TenantId, Timestamp};
use weir_store::allowances::{Held, Lease};

/// The least that is asked for ahead of need, and the most.
const SMALLEST: u64 = 32;
const LARGEST: u64 = 1 << 16;
/// A block that lasts less makes the next one larger, one that lasts ten times longer makes it smaller.
const LASTS: Duration = Duration::from_secs(1);
/// An exhausted allowance is not asked for again sooner, unless somebody gave something back.
const EXHAUSTED_FOR: Duration = Duration::from_secs(1);

/// A tenant's allowance as this node sees it.
pub(crate) struct Allowance {
    pub(super) tenant: TenantId,
    state: Mutex<State>,
    /// One at a time talks to the database about it, so that what it knows is never less than what is in use.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Wakes who waits for others to give back.
    pub(super) room: Notify,
}

#[derive(Default)]
struct State {
    terms: Terms,
    /// Counts the leases; units of an earlier one have no part in the numbers of this.
    lease: u64,
    held: Option<Held>,
    /// What was in force changed so often; an answer from before the last change is out of date.
    changes: u64,
    waiting: VecDeque<Waiter>,
    /// Who waited is being served: nobody overtakes.
    serving: bool,
    /// A refill is on its way.
    asked: bool,
    exhausted: Option<(Instant, Arc<Error>)>,
    block: u64,
    filled: Option<Instant>,
    /// What the database was told last.
    reported: Option<Held>,
    /// Looks since something was last taken.
    idle: u32,
    closed: bool,
}

#[derive(Clone, Copy, Default)]
enum Terms {
    /// To be asked for.
    #[default]
    Unknown,
    /// Nothing to count.
    Unlimited,
    /// Until the period ends here.
    Limited { period: Period, ends: Instant },
}

/// Who waits for a refill: what it does when it has got its units or a refusal, called in the order of waiting.
struct Waiter {
    wanted: usize,
    go: Box<dyn FnOnce(Admitted) + Send>,
}

/// The answer to a wish to publish.
pub enum Admitted {
    /// Nothing is counted: all may go.
    Uncounted,
    /// As many may go as there are units, the first ones; where that is not all, why the rest may not.
    Counted(Units, Option<Arc<Error>>),
    /// None may.
    Refused(Arc<Error>),
}

/// What a wish to publish comes to without the database.
pub(super) enum Take {
    Now(Admitted),
    /// Only a refill can tell; see [`Allowance::wait`].
    Later,
    /// This was put away: look the tenant up again.
    Gone,
}

/// What the database is asked for.
pub(super) struct Need {
    pub(super) held: Option<Held>,
    pub(super) waiting: u64,
    pub(super) more: u64,
    pub(super) changes: u64,
}

impl Need {
    /// Whether the database had less than was asked for.
    pub(super) fn is_unmet_by(&self, lease: &Lease) -> bool {
        let same = self.held.filter(|held| held.period_start == lease.period.start);
        lease.granted < same.map_or(0, |held| held.granted) + self.waiting
    }
}

impl State {
    fn free(&self) -> u64 {
        self.held.map_or(0, |held| held.granted.saturating_sub(held.used + held.flying))
    }

    fn wanted(&self) -> u64 {
        self.waiting.iter().map(|waiter| waiter.wanted as u64).sum()
    }

    /// Forgets the lease; what was taken of it no longer counts here.
    fn drop_lease(&mut self) {
        self.lease += 1;
        (self.held, self.reported) = (None, None);
    }
}

impl Allowance {
    pub(super) fn new(tenant: TenantId) -> Self {
        let (turn, room) = (tokio::sync::Mutex::new(()), Notify::new());
        let state = Mutex::new(State { block: SMALLEST, ..State::default() });
        Self { tenant, state, turn, room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere cannot have left them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes units for up to `wanted` events. Also says whether to ask for a refill, which is to be done once.
    pub(super) fn take(self: &Arc<Self>, wanted: usize) -> (Take, bool) {
        let mut state = self.state();
        if state.closed {
            return (Take::Gone, false);
        }
        state.idle = 0;
        let period = match state.terms {
            Terms::Unlimited => return (Take::Now(Admitted::Uncounted), false),
            Terms::Limited { period, ends }
                if state.waiting.is_empty() && !state.serving && Instant::now() < ends =>
            {
                period
            }
            _ => return (Take::Later, false),
        };
        let (free, wanted) = (state.free(), wanted as u64);
        let refusal = state.exhausted.as_ref().filter(|(until, _)| Instant::now() < *until);
        let refusal = refusal.map(|(_, error)| Arc::clone(error));
        if free < wanted && refusal.is_none() {
            return (Take::Later, false);
        }
        let count = free.min(wanted);
        let refusal = refusal.filter(|_| count < wanted);
        let units = self.fly(&mut state, count, period);
        let ask = state.free() < state.block / 2 && state.exhausted.is_none() && !state.asked;
        state.asked |= ask;
        (Take::Now(Admitted::Counted(units, refusal)), ask)
    }

    fn fly(self: &Arc<Self>, state: &mut State, count: u64, period: Period) -> Units {
        if let Some(held) = &mut state.held {
            held.flying += count;
        }
        Units { allowance: Arc::clone(self), lease: state.lease, count, period }
    }

    /// Puts a wish in line for the refill. True when one is to be asked for.
    pub(super) fn wait(&self, wanted: usize, go: impl FnOnce(Admitted) + Send + 'static) -> bool {
        let mut state = self.state();
        state.waiting.push_back(Waiter { wanted, go: Box::new(go) });
        !std::mem::replace(&mut state.asked, true)
    }

    pub(super) fn need(&self) -> Need {
        let state = self.state();
        Need {
            held: state.held,
            waiting: state.wanted().saturating_sub(state.free()),
            more: state.block.clamp(SMALLEST, LARGEST),
            changes: state.changes,
        }
    }

    /// The database's word. `asked` is what it was asked, at `begun`. False when it is out of date already.
    pub(super) fn learn(&self, asked: &Need, begun: Instant, lease: &Lease) -> bool {
        let mut state = self.state();
        let current = state.changes == asked.changes;
        // Whether it is still so, who waits now will find out.
        state.exhausted = None;
        if lease.limit.is_none() {
            state.drop_lease();
            state.terms = if current { Terms::Unlimited } else { Terms::Unknown };
            return current;
        }
        state.terms = Terms::Limited { period: lease.period, ends: begun + lease.remaining };
        let start = lease.period.start;
        let same = asked.held.filter(|held| held.period_start == start);
        match (&mut state.held, same) {
            (Some(held), Some(before)) => {
                // What became doubtful meanwhile is no longer part of it.
                held.granted = lease.granted - (held.doubtful - before.doubtful);
                state.reported = Some(Held { granted: lease.granted, flying: 0, ..before });
            }
            _ => {
                state.drop_lease();
                let fresh = Held { period_start: start, granted: lease.granted, ..Held::default() };
                (state.held, state.reported) = (Some(fresh), Some(fresh));
            }
        }
        if let Some(filled) = state.filled.replace(begun).map(|filled| begun - filled) {
            state.block = match filled {
                short if short < LASTS => (state.block * 2).clamp(SMALLEST, LARGEST),
                long if long > 10 * LASTS => (state.block / 2).max(SMALLEST),
                _ => state.block,
            };
        }
        if !current {
            give_up_unused(&mut state);
        }
        current
    }

    /// The lease is void; nobody knows of another.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        state.drop_lease();
        state.terms = Terms::Unknown;
    }

    /// What is in force changed: what is not in use counts as given back from now on. True when the database should
    /// hear of that.
    pub(super) fn change(&self) -> bool {
        let mut state = self.state();
        state.changes += 1;
        state.exhausted = None;
        if matches!(state.terms, Terms::Unlimited) {
            state.terms = Terms::Unknown;
        }
        give_up_unused(&mut state)
    }

    /// Gives back what is not in use, because another node needs it. True when there is something.
    pub(super) fn withdraw(&self) -> bool {
        give_up_unused(&mut self.state())
    }

    /// Somebody may have given something back.
    pub(super) fn returned(&self) {
        self.state().exhausted = None;
        self.room.notify_waiters();
    }

    /// Gives what there is to those that wait, in their order: to each all that it wants, and if there is a refusal
    /// the last units to whom they come to, and the refusal to the rest. False when somebody still waits.
    pub(super) fn serve(self: &Arc<Self>, refusal: Option<&Arc<Error>>) -> bool {
        loop {
            let (waiter, admitted) = {
                let mut state = self.state();
                let unlimited = matches!(state.terms, Terms::Unlimited);
                let limited = matches!(state.terms, Terms::Limited { .. });
                let free = state.free();
                let ready = state.waiting.front().is_some_and(|waiter| {
                    unlimited || (waiter.wanted as u64 <= free && limited) || refusal.is_some()
                });
                state.serving = ready;
                if !ready {
                    return state.waiting.is_empty();
                }
                let Some(waiter) = state.waiting.pop_front() else { return true };
                let admitted = match (state.terms, refusal) {
                    (Terms::Unlimited, _) => Admitted::Uncounted,
                    (Terms::Limited { period, .. }, _) => {
                        let units = self.fly(&mut state, free.min(waiter.wanted as u64), period);
                        let missing = units.count < waiter.wanted as u64;
                        Admitted::Counted(units, refusal.filter(|_| missing).cloned())
                    }
                    (Terms::Unknown, Some(refusal)) => Admitted::Refused(Arc::clone(refusal)),
                    // Without a lease there are no units, so it was not ready.
                    (Terms::Unknown, None) => return false,
                };
                (waiter, admitted)
            };
            // Outside the lock, as it puts events in line at the log; `serving` keeps the order.
            (waiter.go)(admitted);
        }
    }

    /// Ends the refill; true when somebody came too late for it, and another is to be made.
    pub(super) fn refilled(&self, exhausted: Option<Arc<Error>>) -> bool {
        let mut state = self.state();
        if let Some(error) = exhausted {
            state.exhausted = Some((Instant::now() + EXHAUSTED_FOR, error));
        }
        state.asked = !state.waiting.is_empty();
        state.asked
    }

    /// What the database does not know yet, or what nobody needs: for the regular look, once in a while.
    pub(super) fn look(&self) -> Look {
        let mut state = self.state();
        state.idle = state.idle.saturating_add(1);
        if state.idle > 1 && state.waiting.is_empty() {
            give_up_unused(&mut state);
        }
        let known = state.held.map(|held| Held { flying: 0, ..held });
        if state.held.is_some() && known != state.reported {
            return Look::Report;
        }
        let resting = state.idle > 60 && state.waiting.is_empty() && !state.asked;
        if resting && state.held.is_none_or(|held| held.flying == 0) { Look::PutAway } else { Look::Fine }
    }

    /// The lease, to be ended. Nothing can be taken of it any more when this returns.
    pub(super) fn close(&self) -> Option<Held> {
        let mut state = self.state();
        state.closed = true;
        give_up_unused(&mut state);
        state.held.take()
    }

    /// Told by units: so many were accepted, of so many nobody knows, the others are free again.
    fn land(&self, lease: u64, count: u64, used: u64, doubtful: u64) {
        let mut state = self.state();
        if state.lease != lease {
            return;
        }
        if let Some(held) = &mut state.held {
            held.flying -= count;
            held.used += used;
            held.granted -= doubtful;
            held.doubtful += doubtful;
        }
    }
}

fn give_up_unused(state: &mut State) -> bool {
    let free = state.free();
    if let Some(held) = &mut state.held {
        held.granted -= free;
    }
    free > 0
}

/// What a look at an allowance calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Fine,
    Report,
    PutAway,
}

/// Units of an allowance that are on their way with events.
pub struct Units {
    allowance: Arc<Allowance>,
    lease: u64,
    count: u64,
    period: Period,
}

impl Units {
    /// For how many events.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// The time at which an event counts that is accepted now: within the period that it was charged to, whatever the
    /// node's clock says.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> Timestamp {
        self.period.clamp(now)
    }

    /// So many of the events are in the log; the others never will be.
    pub fn used(mut self, used: usize) {
        let count = std::mem::take(&mut self.count);
        self.allowance.land(self.lease, count, (used as u64).min(count), 0);
    }
}

/// Dropped without an answer from the log: nobody knows what became of the events.
impl Drop for Units {
    fn drop(&mut self) {
        if self.count > 0 {
            self.allowance.land(self.lease, self.count, 0, self.count);
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
