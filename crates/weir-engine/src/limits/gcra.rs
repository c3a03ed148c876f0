//! The generic cell rate algorithm (ITU-T I.371): a rate with a burst, in one atomic word.
//!
//! The word holds the theoretical arrival time, the moment at which the bucket would be full again. A
//! request is in order when that moment is at most one burst ahead of now.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate: so many per second, with up to a second's worth at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per second; 0 is unlimited.
    pub per_second: u32,
}

/// What the limiter says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whose rate it is: the credential's, the project's, the tenant's; empty where that is clear.
    pub whose: &'static str,
    /// Whether it may go on.
    pub allowed: bool,
    /// The burst: the most that can be allowed at once.
    pub limit: u32,
    /// How many units could follow at once.
    pub remaining: u32,
    /// Time until the full burst is available again.
    pub reset: Duration,
    /// Time until this request would be allowed; zero when it is.
    pub retry_after: Duration,
}

/// One limiter. 24 bytes; shared freely between threads.
#[derive(Debug)]
pub struct Gcra {
    /// Units per second, or per `period`.
    per_second: AtomicU32,
    /// Nanoseconds that the rate is for, and that may be ahead: one second, but for slow rates.
    period: u64,
    /// Nanoseconds since `epoch()`.
    full_at: AtomicU64,
}

/// A common zero for all limiters, so each holds a number and not an `Instant`.
fn now() -> u64 {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let epoch = EPOCH.get_or_init(Instant::now);
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Gcra {
    /// A full bucket of this rate.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self::over(rate, Duration::from_secs(1))
    }

    /// A full bucket of a rate that is meant for another time than a second: as many units in `period`.
    #[must_use]
    pub const fn over(rate: Rate, period: Duration) -> Self {
        Self {
            per_second: AtomicU32::new(rate.per_second),
            period: period.as_secs() * 1_000_000_000,
            full_at: AtomicU64::new(0),
        }
    }

    /// The rate it keeps.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate { per_second: self.per_second.load(Ordering::Relaxed) }
    }

    /// Keeps another rate from now on; what was taken stays taken.
    pub fn set_rate(&self, rate: Rate) {
        self.per_second.store(rate.per_second, Ordering::Relaxed);
    }

    /// Undoes a [`take`](Self::take) that was allowed.
    pub fn give_back(&self, units: u32) {
        if let Some(each) = self.each() {
            self.full_at.fetch_sub(each.saturating_mul(u64::from(units)), Ordering::Relaxed);
        }
    }

    /// Nanoseconds for one unit; `None` when the rate is unlimited.
    fn each(&self) -> Option<u64> {
        self.period.checked_div(u64::from(self.rate().per_second)).map(|each| each.max(1))
    }

    /// Whether the whole burst is available.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) <= now()
    }

    /// Takes `units` at once, all or none. `None` when the rate is unlimited.
    #[must_use]
    pub fn take(&self, units: u32) -> Option<Decision> {
        self.take_at(units, now())
    }

    fn take_at(&self, units: u32, now: u64) -> Option<Decision> {
        let each = self.each()?;
        let burst = self.period;
        let cost = each.saturating_mul(u64::from(units));
        let mut seen = self.full_at.load(Ordering::Relaxed);
        loop {
            let after = seen.max(now).saturating_add(cost);
            if after > now.saturating_add(burst) {
                return Some(self.decision(false, seen.max(now) - now, after - now - burst, each));
            }
            match self.full_at.compare_exchange_weak(seen, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(self.decision(true, after - now, 0, each)),
                Err(other) => seen = other,
            }
        }
    }

    fn decision(&self, allowed: bool, used: u64, wait: u64, each: u64) -> Decision {
        let free = self.period.saturating_sub(used) / each;
        let limit = self.rate().per_second;
        Decision {
            whose: "",
            allowed,
            limit,
            remaining: u32::try_from(free).unwrap_or(u32::MAX).min(limit),
            reset: Duration::from_nanos(used),
            retry_after: Duration::from_nanos(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = Gcra::new(Rate { per_second: 10 });
        for left in (0..10).rev() {
            assert_eq!(limiter.take_at(1, 0).map(|d| (d.allowed, d.remaining)), Some((true, left)));
        }
        let refused = limiter.take_at(1, 0).expect("limited");
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        assert!(limiter.take_at(1, 100_000_000).expect("limited").allowed);
        assert!(!limiter.take_at(1, 100_000_001).expect("limited").allowed);
    }

    #[test]
    fn more_than_the_burst_is_never_allowed_and_zero_is_unlimited() {
        assert!(!Gcra::new(Rate { per_second: 5 }).take_at(6, 0).expect("limited").allowed);
        assert_eq!(Gcra::new(Rate { per_second: 0 }).take_at(u32::MAX, 0), None);
    }

    proptest! {
        /// Over any window the allowed units never exceed rate x window + one burst, and a steady
        /// demand above the rate gets within 1 % of it.
        #[test]
        fn keeps_the_rate(rate in 1_u32..2_000, gap_us in 1_u64..50_000) {
            let limiter = Gcra::new(Rate { per_second: rate });
            let span = 20_000_000_000_u64;
            let mut allowed = 0_u64;
            let mut at = 0;
            while at < span {
                allowed += u64::from(limiter.take_at(1, at).expect("limited").allowed);
                at += gap_us * 1_000;
            }
            let ceiling = u64::from(rate) * 20 + u64::from(rate) + 1;
            let offered = span / (gap_us * 1_000);
            prop_assert!(allowed <= ceiling);
            prop_assert!(allowed as f64 >= (offered.min(u64::from(rate) * 20) as f64) * 0.99 - 1.0);
        }
    }
}
