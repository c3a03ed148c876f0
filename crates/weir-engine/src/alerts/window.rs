//! How often something happened within the last while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts over a sliding window, of as many steps as there were looks.
#[derive(Debug, Default)]
pub(super) struct Window {
    steps: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Window {
    /// Adds what happened until `now`, and says how often it happened within `length`.
    pub(super) fn add(&mut self, now: Instant, count: u64, length: Duration) -> u64 {
        if count > 0 {
            self.steps.push_back((now, count));
            self.sum += count;
        }
        while self.steps.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= length) {
            self.sum -= self.steps.pop_front().map_or(0, |(_, count)| count);
        }
        self.sum
    }

    /// Whether nothing happened within it.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The growth of a counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Growth(Option<u64>);

impl Growth {
    /// By how much it grew since the look before; by nothing at the first.
    pub(super) fn since(&mut self, now: u64) -> u64 {
        self.0.replace(now).map_or(0, |before| now.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (mut window, begin, length) = (Window::default(), Instant::now(), Duration::from_secs(60));
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(window.add(at(0), 3, length), 3);
        assert_eq!(window.add(at(30), 4, length), 7);
        assert_eq!(window.add(at(59), 0, length), 7);
        assert_eq!(window.add(at(60), 0, length), 4);
        assert_eq!(window.add(at(90), 0, length), 0);
        assert!(window.is_empty());
        let mut growth = Growth::default();
        assert_eq!((growth.since(7), growth.since(9), growth.since(9)), (0, 2, 0));
    }
}
