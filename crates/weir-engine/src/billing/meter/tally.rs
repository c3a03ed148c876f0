//! What this node counts of one project between two batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_hub::Meter;

/// The unit of connection time.
const MINUTE: Duration = Duration::from_secs(60);

/// The counters of one project. The delivered ones only grow, as the hub adds to them; the others are emptied.
#[derive(Default)]
pub(crate) struct Tally {
    pub delivered: Arc<Meter>,
    /// How many of the delivered were taken out already.
    taken: AtomicU64,
    pub requests: AtomicU64,
    /// What was published and asked through this node, ever: for those who watch it, not for bills.
    pub published: AtomicU64,
    pub requested: AtomicU64,
    connected: Mutex<Connected>,
}

/// What was taken out of a tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub delivered: u64,
    pub requests: u64,
    pub minutes: u64,
}

/// The time of all connections together, counted when their number changes and when it is asked for: the same work for
/// one and for ten thousand.
#[derive(Default)]
struct Connected {
    live: u32,
    /// Counted up to here.
    until: Option<Instant>,
    spent: Duration,
}

impl Connected {
    fn count(&mut self, now: Instant) {
        let since =
            self.until.replace(now).map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        self.spent += since * self.live;
    }

    /// Takes out whole minutes; what is left goes on growing. `last` rounds it to the nearest one.
    fn take(&mut self, now: Instant, last: bool) -> u64 {
        self.count(now);
        let rounding = if last { MINUTE / 2 } else { Duration::ZERO };
        let minutes = ((self.spent + rounding).as_secs()) / MINUTE.as_secs();
        let counted = Duration::from_secs(minutes * MINUTE.as_secs());
        self.spent = if last { Duration::ZERO } else { self.spent - counted };
        minutes
    }
}

impl Tally {
    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what was counted since the last time. Called by one task at a time.
    pub fn take(&self, now: Instant, last: bool) -> Taken {
        let delivered = self.delivered.delivered.load(Ordering::Relaxed);
        let before = self.taken.swap(delivered, Ordering::Relaxed);
        Taken {
            delivered: delivered.wrapping_sub(before),
            requests: self.requests.swap(0, Ordering::Relaxed),
            minutes: self.connected().take(now, last),
        }
    }

    /// Connections now.
    pub fn live(&self) -> u32 {
        self.connected().live
    }

    /// Whether nothing would be lost with it: nobody counts in it, and nothing has begun.
    pub fn is_empty(&self) -> bool {
        let connected = self.connected();
        Arc::strong_count(&self.delivered) == 1
            && self.delivered.delivered.load(Ordering::Relaxed) == self.taken.load(Ordering::Relaxed)
            && self.requests.load(Ordering::Relaxed) == 0
            && connected.live == 0
            && connected.spent.is_zero()
    }
}

/// Held by a connection as long as it lives.
pub(crate) struct ConnectionTime(Arc<Tally>);

impl ConnectionTime {
    pub fn begin(tally: Arc<Tally>) -> Self {
        {
            let mut connected = tally.connected();
            connected.count(Instant::now());
            connected.live += 1;
        }
        Self(tally)
    }
}

impl Drop for ConnectionTime {
    fn drop(&mut self) {
        let mut connected = self.0.connected();
        connected.count(Instant::now());
        connected.live -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_taken_is_what_was_counted() {
        let tally = Tally::default();
        let meter = Arc::clone(&tally.delivered);
        meter.delivered.fetch_add(7, Ordering::Relaxed);
        tally.requests.fetch_add(2, Ordering::Relaxed);
        let now = Instant::now();
        assert!(!tally.is_empty());
        assert_eq!(tally.take(now, false), Taken { delivered: 7, requests: 2, minutes: 0 });
        assert_eq!(tally.take(now, false), Taken::default());
        assert!(!tally.is_empty(), "somebody may still count in it");
        drop(meter);
        assert!(tally.is_empty());
    }

    proptest! {
        /// However often it is asked and however connections come and go: what is billed is the whole time, and only at
        /// the very end rounded, once.
        #[test]
        fn connection_time_is_never_rounded_away(
            steps in proptest::collection::vec((0..3_u8, 0..90_000_u64), 1..60),
        ) {
            let (mut connected, begin) = (Connected::default(), Instant::now());
            let (mut now, mut live, mut whole, mut billed) = (begin, 0_u32, 0_u128, 0_u64);
            for (step, millis) in steps {
                now += Duration::from_millis(millis);
                whole += u128::from(millis) * u128::from(live);
                match step {
                    0 => { connected.count(now); connected.live += 1; live += 1; }
                    1 if live > 0 => { connected.count(now); connected.live -= 1; live -= 1; }
                    _ => billed += connected.take(now, false),
                }
            }
            connected.count(now);
            let rest = whole - u128::from(billed) * 60_000;
            prop_assert_eq!(connected.spent.as_millis(), rest);
            billed += connected.take(now, true);
            prop_assert_eq!(u128::from(billed), (whole + 30_000) / 60_000);
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_counts_nothing() {
        let (mut connected, now) = (Connected::default(), Instant::now());
        connected.count(now + MINUTE);
        connected.live = 5;
        assert_eq!(connected.take(now + MINUTE, false), 0);
        assert_eq!(connected.take(now, false), 0);
        assert!(connected.spent.is_zero());
    }
}
