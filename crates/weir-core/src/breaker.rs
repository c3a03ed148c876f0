//! Not asking what does not answer: calls that would only wait are refused at once, and one now and then finds out
//! whether that is still so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// So many failures in a row, with no success in between, open it.
    pub failures: u32,
    /// For about this long at first; twice as long each time after.
    pub first_pause: Duration,
    /// At most for so long. How much later than it could be the end of an outage is noticed.
    pub longest_pause: Duration,
}

/// So long after a call may try again a breaker is still called open.
const UNTRIED: Duration = Duration::from_secs(10);

impl Default for Thresholds {
    fn default() -> Self {
        Self { failures: 5, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(1) }
    }
}

/// Counts the outcomes of calls to one dependency. Pauses are drawn from the whole range up to their length ("full
/// jitter"), so that nodes do not ask in step.
#[derive(Debug)]
pub struct Breaker {
    thresholds: Thresholds,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// While open: when the next call may try.
    open_until: Option<Instant>,
    pause: Duration,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(thresholds: Thresholds) -> Self {
        let pause = thresholds.first_pause;
        Self { thresholds, state: Mutex::new(State { failures: 0, open_until: None, pause }) }
    }

    /// Lets a call through, or says how long to wait. While open, the first call after each pause is let through to find
    /// out; the others wait for what becomes of it, or for another pause.
    ///
    /// # Errors
    /// How long until a call is let through again.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        match state.open_until {
            Some(until) if until > now => Err(until.duration_since(now)),
            Some(_) => {
                // Nobody may ever hear what becomes of this call: then the next one tries after the pause.
                state.open_until = Some(now + self.thresholds.longest_pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A call was answered, whatever the answer.
    pub fn answered(&self) {
        let mut state = self.state();
        *state = State { failures: 0, open_until: None, pause: self.thresholds.first_pause };
    }

    /// A call found no answer. True when this opened the breaker.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.thresholds.failures {
            return false;
        }
        let opened = state.open_until.is_none();
        // Never none at all: the callers that wait would all be let through at once.
        let shortest = Duration::from_millis(1);
        let longest = state.pause.max(shortest);
        state.open_until = Some(now + rand::random_range(shortest..=longest));
        state.pause = (state.pause * 2).min(self.thresholds.longest_pause);
        opened
    }

    /// Whether calls are refused. When nobody has tried for long none is, and whether it would be answered nobody knows.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.state().open_until.is_some_and(|until| now < until + UNTRIED)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(Thresholds::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_call_find_out() {
        let breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        breaker.answered();
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        assert_eq!(breaker.admit(now), Ok(()), "an answer in between counts");
        assert!(breaker.failed(now) && breaker.is_open(now));
        assert!(!breaker.is_open(now + Duration::from_secs(11)), "nobody tries");
        let wait = breaker.admit(now).expect_err("open");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        now += wait;
        assert_eq!(breaker.admit(now), Ok(()), "one finds out");
        assert!(breaker.admit(now).is_err(), "the others wait for it");
        assert!(!breaker.failed(now), "it was open already");
        now += breaker.admit(now).expect_err("still open");
        assert_eq!(breaker.admit(now), Ok(()));
        breaker.answered();
        assert_eq!((breaker.admit(now), breaker.is_open(now)), (Ok(()), false));
    }

    #[test]
    fn pauses_grow_to_their_bound_and_a_lost_call_is_followed_by_another() {
        let breaker = Breaker::new(Thresholds { failures: 1, ..Thresholds::default() });
        let mut now = Instant::now();
        for _ in 0..100 {
            breaker.failed(now);
            let wait = breaker.admit(now).expect_err("open");
            assert!(wait <= Duration::from_secs(1), "{wait:?}");
            now += wait;
            assert_eq!(breaker.admit(now), Ok(()));
        }
        // Nobody says what became of the last one.
        now += breaker.admit(now).expect_err("it is waited for");
        assert_eq!(breaker.admit(now), Ok(()));
    }
}
