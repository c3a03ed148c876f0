//! How fast Stripe is called: a rate, several calls at once, and a breaker for when it does not work at all.

use futures::{StreamExt, stream};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Calls at once. With answers after a tenth of a second this is several hundred a second.
const AT_ONCE: usize = 64;
/// The slowest that "slow down" makes it.
const SLOWEST: f64 = 5.0;
/// So many failures in a row, and nobody is called for a while.
const FAILURES: u32 = 5;
const OPEN_AT_LEAST: Duration = Duration::from_secs(1);
const OPEN_AT_MOST: Duration = Duration::from_secs(60);

/// What a call means for those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stripe answers.
    Works,
    /// It asks to slow down.
    Slower,
    /// It does not answer, or not us.
    Fails,
}

/// Paces calls.
#[derive(Debug)]
pub struct Pace {
    fastest: f64,
    per_second: f64,
    next: Instant,
    failures: u32,
    closed_until: Option<Instant>,
}

impl Pace {
    /// So many calls a second at most.
    pub fn new(per_second: u32) -> Self {
        let fastest = f64::from(per_second.max(1));
        Self { fastest, per_second: fastest, next: Instant::now(), failures: 0, closed_until: None }
    }

    /// How many of `wanted` may be called now: none while the breaker is open, one to try whether it can be closed.
    pub fn allows(&self, wanted: u32) -> u32 {
        match self.closed_until {
            Some(until) if Instant::now() < until => 0,
            Some(_) => wanted.min(1),
            None => wanted,
        }
    }

    /// Whether the breaker is open.
    pub const fn is_open(&self) -> bool {
        self.closed_until.is_some()
    }

    /// Calls for each of `items`, at the pace, and returns what came of each. When the breaker opens the rest is not
    /// called, and comes back with `None`.
    pub async fn each<T, R, F>(&mut self, items: Vec<T>, call: impl Fn(T) -> F) -> Vec<Option<(R, Verdict)>>
    where
        F: Future<Output = (R, Verdict)>,
    {
        let begin = self.next.max(Instant::now());
        let gap = Duration::from_secs_f64(1.0 / self.per_second);
        let turns = (0_u32..).map(|n| begin + gap * n);
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.next = begin + gap * count;
        let failing = std::sync::atomic::AtomicU32::new(self.failures);
        let call = &call;
        let failing = &failing;
        let calls = items.into_iter().zip(turns).map(|(item, turn)| async move {
            use std::sync::atomic::Ordering::Relaxed;
            sleep_until(turn).await;
            if failing.load(Relaxed) >= FAILURES && count > 1 {
                return None;
            }
            let (result, verdict) = call(item).await;
            match verdict {
                Verdict::Fails => failing.fetch_add(1, Relaxed),
                Verdict::Works | Verdict::Slower => failing.swap(0, Relaxed),
            };
            Some((result, verdict))
        });
        // In the order of the items, so that the caller can tell which is which.
        let done: Vec<_> = stream::iter(calls).buffered(AT_ONCE).collect().await;
        self.learn(done.iter().map(|one| one.as_ref().map(|(_, verdict)| *verdict)));
        done
    }

    fn learn(&mut self, verdicts: impl Iterator<Item = Option<Verdict>>) {
        let (mut slower, mut works) = (false, false);
        for verdict in verdicts {
            match verdict {
                Some(Verdict::Works) => (works, self.failures) = (true, 0),
                Some(Verdict::Slower) => (slower, self.failures) = (true, 0),
                Some(Verdict::Fails) => self.failures += 1,
                None => {}
            }
        }
        if slower {
            self.per_second = (self.per_second / 2.0).max(SLOWEST);
            self.next = self.next.max(Instant::now() + Duration::from_secs(1));
        } else if works {
            self.per_second = (self.per_second * 1.25).min(self.fastest);
        }
        self.closed_until = (self.failures >= FAILURES).then(|| {
            let doublings = (self.failures - FAILURES).min(6);
            Instant::now() + (OPEN_AT_LEAST * 2_u32.pow(doublings)).min(OPEN_AT_MOST)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A Stripe of the simulated clock: answers after 120 ms, takes so many calls in each second.
    async fn answers(taken: &Mutex<(u64, u32)>, begun: Instant, limit: u32) -> ((), Verdict) {
        let allowed = {
            let second = begun.elapsed().as_secs();
            let mut taken = taken.lock().expect("no panic");
            if taken.0 != second {
                *taken = (second, 0);
            }
            taken.1 += 1;
            taken.1 <= limit
        };
        tokio::time::sleep(Duration::from_millis(120)).await;
        ((), if allowed { Verdict::Works } else { Verdict::Slower })
    }

    #[tokio::test(start_paused = true)]
    async fn the_hour_of_ten_thousand_tenants_is_reported_within_a_minute() {
        let (begun, taken) = (Instant::now(), Mutex::new((0, 0)));
        let mut pace = Pace::new(super::super::DEFAULT_RATE);
        let mut left = 10_000_usize;
        let mut refused = 0;
        while left > 0 {
            let round = vec![(); left.min(super::super::ROUND as usize)];
            let done = pace.each(round, |()| answers(&taken, begun, 1_000)).await;
            let works = done.iter().flatten().filter(|(_, verdict)| *verdict == Verdict::Works).count();
            refused += done.len() - works;
            left -= works;
            // What the database takes for a round: marking before and after.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(refused, 0, "the pace stays below Stripe's limit");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_slows_down_when_asked_and_recovers() {
        let (begun, taken) = (Instant::now(), Mutex::new((0, 0)));
        let mut pace = Pace::new(400);
        let mut refused = Vec::new();
        for _ in 0..20 {
            let done = pace.each(vec![(); 100], |()| answers(&taken, begun, 25)).await;
            refused.push(done.iter().flatten().filter(|(_, verdict)| *verdict == Verdict::Slower).count());
        }
        assert!(refused[0] > 50 && refused[15..].iter().sum::<usize>() < 100, "{refused:?}");
        for _ in 0..20 {
            pace.each(vec![(); 10], |()| answers(&taken, begun, 1_000)).await;
        }
        assert!(pace.per_second > 300.0, "{}", pace.per_second);
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_after_failures_and_lets_one_try() {
        let calls = AtomicU32::new(0);
        let mut pace = Pace::new(1_000);
        let fails = |()| async {
            calls.fetch_add(1, Relaxed);
            ((), Verdict::Fails)
        };
        let done = pace.each(vec![(); 500], fails).await;
        assert!(calls.load(Relaxed) < 80, "{calls:?}");
        assert!(done.iter().filter(|one| one.is_none()).count() > 400);
        assert_eq!(pace.allows(500), 0);
        tokio::time::sleep(OPEN_AT_MOST).await;
        assert_eq!(pace.allows(500), 1);
        pace.each(vec![()], fails).await;
        assert_eq!(pace.allows(500), 0, "it still fails");
        tokio::time::sleep(OPEN_AT_MOST).await;
        pace.each(vec![()], |()| async { ((), Verdict::Works) }).await;
        assert_eq!(pace.allows(500), 500);
    }
}
