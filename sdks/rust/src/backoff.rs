//! Waiting between attempts: exponential with full jitter, so clients that failed together do not come
//! back together.

use rand::RngExt;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// The longest wait before the next attempt.
    fn ceiling(&self) -> Duration {
        self.base.saturating_mul(1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.cap)
    }

    /// How long to wait now; the next wait may be twice as long.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.ceiling().mul_f64(rand::rng().random::<f64>());
        self.attempt = self.attempt.saturating_add(1);
        wait
    }

    /// How long to wait when the server asked for `wish`: never less, and with jitter on top because the
    /// server may have told everybody the same.
    pub(crate) fn next_after(&mut self, wish: Option<Duration>) -> Duration {
        self.next().saturating_add(wish.unwrap_or_default())
    }

    pub(crate) const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The base, from now on: the `retry:` of an event stream.
    pub(crate) const fn set_base(&mut self, base: Duration) {
        self.base = base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(SECOND, 10 * SECOND);
        for ceiling in [1, 2, 4, 8, 10, 10] {
            assert_eq!(backoff.ceiling(), ceiling * SECOND);
            assert!(backoff.next() <= ceiling * SECOND);
        }
        backoff.reset();
        assert_eq!(backoff.ceiling(), SECOND);
        backoff.attempt = 1000;
        assert_eq!(backoff.ceiling(), 10 * SECOND);
    }

    #[test]
    fn jitter_uses_the_whole_range_and_never_undercuts_the_server() {
        let waits: Vec<_> = (0..200).map(|_| Backoff::new(SECOND, SECOND).next()).collect();
        assert!(waits.iter().any(|w| *w < SECOND / 4) && waits.iter().any(|w| *w > SECOND * 3 / 4));
        for _ in 0..50 {
            assert!(Backoff::new(SECOND, SECOND).next_after(Some(3 * SECOND)) >= 3 * SECOND);
        }
    }
}
