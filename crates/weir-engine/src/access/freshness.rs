//! Whether this node's view of who may do what is confirmed. A node that is cut off from the database, or
//! was paused, must not go on delivering to someone who was locked out meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long ago the node's last sign of life may be for a look to count. A node that can read but not write is about
/// to lose its lease: others stop waiting for it, so it must stop too.
const LAG: Duration = Duration::from_secs(2);

/// When the access state was last confirmed, held against how long that may be ago.
pub(crate) struct Freshness {
    zero: Instant,
    /// Nanoseconds after `zero` at which the last successful look began.
    confirmed_at: AtomicU64,
    /// Nanoseconds after `zero` at which the last successful renewal of the lease began.
    beaten_at: AtomicU64,
    window: Duration,
    confirmed: Notify,
}

impl Freshness {
    /// Confirmed now.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            zero: Instant::now(),
            confirmed_at: AtomicU64::new(0),
            beaten_at: AtomicU64::new(0),
            window,
            confirmed: Notify::new(),
        }
    }

    /// A look for changes that began at `begun` succeeded.
    pub(crate) fn confirm(&self, begun: Instant) {
        let lag = u64::try_from(LAG.as_nanos()).unwrap_or(u64::MAX);
        let latest = self.beaten_at.load(Ordering::Acquire).saturating_add(lag);
        self.confirmed_at.fetch_max(self.nanos(begun).min(latest), Ordering::AcqRel);
        self.confirmed.notify_waiters();
    }

    /// A renewal of the lease that began at `begun` succeeded.
    pub(crate) fn beaten(&self, begun: Instant) {
        self.beaten_at.fetch_max(self.nanos(begun), Ordering::AcqRel);
    }

    /// How long the node counts after a sign of life: until it has certainly stopped delivering on its own.
    pub(crate) fn lease(&self) -> Duration {
        self.window + LAG
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.zero).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long ago that was.
    pub(crate) fn age(&self) -> Duration {
        let confirmed = Duration::from_nanos(self.confirmed_at.load(Ordering::Acquire));
        self.zero.elapsed().saturating_sub(confirmed)
    }

    pub(crate) const fn window(&self) -> Duration {
        self.window
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.age() <= self.window
    }

    /// Returns when the state is confirmed, at once if it is.
    pub(crate) async fn wait(&self) {
        while !self.is_fresh() {
            let confirmed = self.confirmed.notified();
            // Looked at again after registering, so that a confirmation in between is not missed.
            if self.is_fresh() {
                return;
            }
            confirmed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_only_while_unconfirmed() {
        let freshness = std::sync::Arc::new(Freshness::new(Duration::from_millis(20)));
        freshness.wait().await;
        while freshness.is_fresh() {
            tokio::task::yield_now().await;
        }
        let waiting = tokio::spawn({
            let freshness = std::sync::Arc::clone(&freshness);
            async move { freshness.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        freshness.confirm(Instant::now() + Duration::from_secs(60));
        waiting.await.expect("ends");
        // Without signs of life from this node a look at the list does not count for long.
        assert!(freshness.age() == Duration::ZERO && freshness.zero.elapsed() < LAG);
        // An older confirmation that arrives late does not turn the clock back.
        freshness.confirm(Instant::now());
        assert!(freshness.is_fresh());
    }
}
