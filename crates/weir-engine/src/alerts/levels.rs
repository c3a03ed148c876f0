//! From a number to a severity, without going to and fro at a limit.

use super::Condition;
use std::collections::HashMap;
use weir_core::Severity;

/// Limits of a number: what reaches them is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) warning: f64,
    pub(super) critical: f64,
    /// What was wrong is right again only below this.
    pub(super) clear: f64,
}

impl Limits {
    /// Critical at `times` the limit, over at four fifths of it.
    pub(super) fn at(warning: f64, times: f64) -> Self {
        Self { warning, critical: warning * times, clear: warning * 0.8 }
    }

    fn severity(&self, value: f64) -> Option<Severity> {
        match value {
            value if value >= self.critical => Some(Severity::Critical),
            value if value >= self.warning => Some(Severity::Warning),
            _ => None,
        }
    }
}

/// Which numbers are beyond their limits. As many as there are conditions and subjects that are.
#[derive(Debug, Default)]
pub(super) struct Levels(HashMap<(Condition, String), Severity>);

impl Levels {
    /// What a number means now: how bad it is, and whether that began just now. `None` when it is as it should be.
    pub(super) fn judge(
        &mut self,
        condition: Condition,
        subject: &str,
        value: f64,
        limits: &Limits,
    ) -> Option<(Severity, bool)> {
        let key = (condition, subject.to_owned());
        let before = self.0.get(&key).copied();
        let now = match (limits.severity(value), before) {
            (Some(now), _) => now,
            // Between the limits it stays what it was.
            (None, Some(before)) if value >= limits.clear => before.min(Severity::Warning),
            (None, _) => {
                self.0.remove(&key);
                return None;
            }
        };
        self.0.insert(key, now);
        Some((now, before.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_goes_to_and_fro_at_the_limit_is_one_thing() {
        let (mut levels, limits) = (Levels::default(), Limits::at(10.0, 5.0));
        let mut judge = |value| levels.judge(Condition::ErrorRate, "x", value, &limits);
        assert_eq!(judge(9.9), None);
        assert_eq!(judge(10.0), Some((Severity::Warning, true)));
        assert_eq!(judge(9.0), Some((Severity::Warning, false)));
        assert_eq!(judge(10.5), Some((Severity::Warning, false)));
        assert_eq!(judge(50.0), Some((Severity::Critical, false)));
        assert_eq!(judge(8.0), Some((Severity::Warning, false)));
        assert_eq!(judge(7.9), None);
        assert_eq!(judge(9.0), None, "it must reach the limit again");
        assert_eq!(judge(60.0), Some((Severity::Critical, true)));
    }
}
