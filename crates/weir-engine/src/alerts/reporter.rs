//! What of the things found has to be written: what is new, what happened again, and now and then what goes on.

use super::Condition;
use super::found::Found;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use weir_core::Severity;
use weir_store::alerts::Sighting;

/// Things that one look reports at most, the worst first.
const AT_ONCE: usize = 5_000;
/// Things that wait for the database at most.
const WAITING: usize = 1_000;

/// What was written, and what waits.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    written: HashMap<(Condition, String), (Severity, Instant, Duration)>,
    /// What happened while the database was away.
    waiting: Vec<Found>,
}

impl Reporter {
    /// What has to be written now.
    pub(super) fn due(&mut self, mut found: Vec<Found>, now: Instant) -> Vec<Found> {
        found.append(&mut self.waiting);
        found.sort_by_key(|one| std::cmp::Reverse(one.severity));
        let mut due: HashMap<(Condition, String), Found> = HashMap::new();
        for one in found.into_iter().take(AT_ONCE).filter(|one| self.is_due(one, now)) {
            match due.get_mut(&(one.condition, one.subject.clone())) {
                Some(same) => same.times += one.times,
                None => {
                    due.insert((one.condition, one.subject.clone()), one);
                }
            }
        }
        // What was not seen again for its hold time is forgotten: if it comes back it is new.
        self.written.retain(|_, (_, at, hold)| now.saturating_duration_since(*at) < *hold);
        due.into_values().collect()
    }

    fn is_due(&self, one: &Found, now: Instant) -> bool {
        let written = self.written.get(&(one.condition, one.subject.clone()));
        written.is_none_or(|(severity, at, hold)| {
            one.times > 0
                || one.severity > *severity
                // Soon enough for a second try before it would be taken to be over.
                || now.saturating_duration_since(*at) >= *hold / 3
        })
    }

    /// They were written.
    pub(super) fn written(&mut self, found: &[Found], now: Instant) {
        let entry = |one: &Found| ((one.condition, one.subject.clone()), (one.severity, now, one.hold));
        self.written.extend(found.iter().map(entry));
    }

    /// They could not be written: what happened is kept for later, what goes on will be found again.
    pub(super) fn unwritten(&mut self, found: Vec<Found>) {
        self.waiting.extend(found.into_iter().filter(|one| one.times > 0));
        self.waiting.truncate(WAITING);
    }
}

/// As the store takes them.
pub(super) fn sightings(found: &[Found]) -> Vec<Sighting> {
    found.iter().cloned().map(Found::sighting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(120);

    fn found(times: u64, severity: Severity) -> Found {
        Found::new(Condition::LogLag, severity, "it lags", HOLD).times(times)
    }

    #[test]
    fn what_goes_on_is_written_rarely_and_what_happens_at_once() {
        let (mut reporter, begin) = (Reporter::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut due = |found: Found, seconds| {
            let due = reporter.due(vec![found], at(seconds));
            reporter.written(&due, at(seconds));
            due.len()
        };
        assert_eq!(due(found(0, Severity::Warning), 0), 1);
        assert_eq!(due(found(0, Severity::Warning), 5), 0);
        assert_eq!(due(found(0, Severity::Critical), 10), 1, "it got worse");
        assert_eq!(due(found(1, Severity::Warning), 15), 1, "it happened again");
        assert_eq!(due(found(0, Severity::Warning), 54), 0);
        assert_eq!(due(found(0, Severity::Warning), 55), 1, "a third of the hold time");
    }

    #[test]
    fn what_happened_while_the_database_was_away_is_written_later() {
        let (mut reporter, now) = (Reporter::default(), Instant::now());
        for _ in 0..3 {
            let due = reporter.due(vec![found(2, Severity::Warning)], now);
            reporter.unwritten(due);
        }
        let due = reporter.due(Vec::new(), now);
        assert_eq!(due.iter().map(|one| one.times).collect::<Vec<_>>(), [6]);
        reporter.unwritten(vec![found(0, Severity::Warning)]);
        assert!(reporter.due(Vec::new(), now).is_empty(), "what only goes on is found again");
    }
}
