//! Billing periods: a month from an anchor, in UTC and on the hour.

use crate::Timestamp;
use chrono::{DateTime, Datelike, Months, Utc};
use serde::{Deserialize, Serialize};

/// From `start` until just before `end`, both on the hour, so that whole hours of usage make up a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Period {
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

impl Period {
    /// The month that holds `time`, of those that begin at `anchor` and at the same day and hour of every later month;
    /// the last day of a month stands in for a day that it has not got. A time before the anchor is in the first.
    #[must_use]
    pub fn monthly(anchor: Timestamp, time: Timestamp) -> Self {
        let anchor = anchor.hour();
        let (first, now): (DateTime<Utc>, DateTime<Utc>) = (anchor.into(), time.max(anchor).into());
        let months = (now.year() - first.year()) * 12 + now.month() as i32 - first.month() as i32;
        let months = u32::try_from(months).unwrap_or(0);
        let begin = |n: u32| {
            // Always counted from the anchor: a short month must not move those after it.
            first.checked_add_months(Months::new(n)).map_or(Timestamp::from_micros(i64::MAX), Timestamp::from)
        };
        // The anchor's day may be still to come in this month.
        let n = if begin(months) <= Timestamp::from(now) { months } else { months.saturating_sub(1) };
        Self { start: begin(n), end: begin(n.saturating_add(1)) }
    }

    /// Whether `time` lies in it.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }

    /// `time` if it lies in the period, else the end of the period that is nearest to it.
    #[must_use]
    pub fn clamp(&self, time: Timestamp) -> Timestamp {
        time.min(Timestamp::from_micros(self.end.micros() - 1)).max(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[track_caller]
    fn check(anchor: &str, now: &str, start: &str, end: &str) {
        let expected = Period { start: time(start), end: time(end) };
        assert_eq!(Period::monthly(time(anchor), time(now)), expected, "{anchor} {now}");
    }

    #[test]
    fn months_have_their_own_lengths() {
        check("2026-01-15T10:00:00Z", "2026-01-15T10:00:00Z", "2026-01-15T10:00:00Z", "2026-02-15T10:00:00Z");
        check("2026-01-15T10:00:00Z", "2026-02-15T09:59:59Z", "2026-01-15T10:00:00Z", "2026-02-15T10:00:00Z");
        check("2026-01-15T10:00:00Z", "2027-02-15T10:00:00Z", "2027-02-15T10:00:00Z", "2027-03-15T10:00:00Z");
    }

    #[test]
    fn a_day_that_a_month_has_not_got_is_its_last() {
        let anchor = "2026-01-31T00:00:00Z";
        check(anchor, "2026-02-27T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z");
        check(anchor, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z");
        check(anchor, "2026-04-29T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z");
        check(anchor, "2028-03-01T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z");
        check("2028-02-29T05:00:00Z", "2029-02-28T05:00:00Z", "2029-02-28T05:00:00Z", "2029-03-29T05:00:00Z");
    }

    #[test]
    fn it_is_utc_and_on_the_hour() {
        check(
            "2026-03-01T00:30:59.5+01:00",
            "2026-03-28T00:00:00Z",
            "2026-02-28T23:00:00Z",
            "2026-03-28T23:00:00Z",
        );
        check("2026-03-29T00:59:00Z", "2026-03-29T00:59:00Z", "2026-03-29T00:00:00Z", "2026-04-29T00:00:00Z");
    }

    #[test]
    fn a_clock_far_away_does_no_harm() {
        let anchor = "2026-05-20T07:00:00Z";
        check(anchor, "1970-01-01T00:00:00Z", anchor, "2026-06-20T07:00:00Z");
        check(anchor, "2026-05-20T06:59:59Z", anchor, "2026-06-20T07:00:00Z");
        let last = Period::monthly(time(anchor), Timestamp::from_micros(i64::MAX));
        assert!(last.start <= last.end);
    }

    proptest! {
        /// Periods lie end to end, each holds the times that are in it, and none is shorter than February.
        #[test]
        fn periods_tile_the_time(anchor in 0_i64..4_102_444_800, later in 0_i64..4_102_444_800) {
            let (anchor, now) = (Timestamp::from_seconds(anchor), Timestamp::from_seconds(anchor + later));
            let period = Period::monthly(anchor, now);
            prop_assert!(period.contains(now));
            prop_assert_eq!(period.start.hour(), period.start);
            let days = period.end.since(period.start).as_secs() / 86_400;
            prop_assert!((28..=31).contains(&days), "{} days", days);
            prop_assert_eq!(Period::monthly(anchor, period.end).start, period.end);
            let last = Timestamp::from_micros(period.end.micros() - 1);
            prop_assert_eq!(Period::monthly(anchor, last), period);
            prop_assert_eq!(period.clamp(now), now);
            prop_assert_eq!(period.clamp(period.end), last);
        }
    }
}
