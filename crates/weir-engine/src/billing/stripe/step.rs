//! What to do with a report next, so that it is billed once whatever was lost on the way.
//!
//! Stripe takes an identifier once within a day at least, and may take it again after that. So a report that may have
//! arrived is sent again only while the identifier is surely remembered; later it is asked first what has arrived.

use std::time::Duration;
use weir_core::Timestamp;
use weir_store::{Report, ReportState};

/// How long an identifier is surely remembered: Stripe's 24 hours, less what clocks may be wrong.
pub const REMEMBERED: Duration = Duration::from_secs(20 * 3600);
/// After which what arrived shows in the summaries, which are made in the background.
pub const SETTLED: Duration = Duration::from_secs(3600);
/// Usage that is older is not taken.
pub const TAKEN: Duration = Duration::from_secs(35 * 24 * 3600);
/// The length of a window.
pub const HOUR: Duration = Duration::from_secs(3600);
/// A report that was refused is tried again after this: whatever was wrong may have been mended.
pub const REFUSED: Duration = Duration::from_secs(3600);

/// What to do with a report that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send it: it has not arrived, or a copy of it is known by its identifier.
    Send,
    /// Ask what has arrived, then decide.
    Compare,
    /// Ask later: what arrived last may not show yet.
    CompareLater,
}

/// The next step of a report.
pub fn next(report: &Report, now: Timestamp) -> Step {
    let compare = match (report.state, report.last_sent_at) {
        // It waited for that already.
        (ReportState::Unsure, _) | (_, None) => Step::Compare,
        // A clock that was turned back makes this look like no time at all.
        (_, Some(last)) if now.since(last) < SETTLED => Step::CompareLater,
        _ => Step::Compare,
    };
    let (Some(first), Some(last)) = (report.first_sent_at, report.last_sent_at) else {
        // An hour that is over for long may have been reported by a copy of this database that was lost since.
        return if now.since(report.key.window_start.plus(HOUR)) < REMEMBERED { Step::Send } else { compare };
    };
    let turned_back = now < last || last < first;
    if report.state == ReportState::Unsure || turned_back || now.since(first) >= REMEMBERED {
        return compare;
    }
    Step::Send
}

/// What a comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It has arrived.
    Arrived,
    /// It has not.
    Missing,
    /// Neither explains what is there.
    Unexplained,
}

/// Compares what Stripe has of an hour with what arrived of it before this report.
pub fn compare(theirs: f64, arrived: i64, quantity: i64) -> Comparison {
    let is = |ours: i64| (theirs - ours as f64).abs() < 0.5;
    if is(arrived.saturating_add(quantity)) {
        Comparison::Arrived
    } else if is(arrived) {
        Comparison::Missing
    } else {
        Comparison::Unexplained
    }
}

/// The time that a report is for: the last second of its hour, so that an hour in which a period ends counts in the
/// next one, whose invoice is still to come.
pub fn timestamp(report: &Report) -> i64 {
    report.key.window_start.plus(HOUR).seconds() - 1
}

/// How long to wait after so many attempts: doubling from a second to a quarter of an hour, and some of it by chance,
/// so that what failed together does not come back together.
pub fn backoff(attempts: u32) -> Duration {
    let most = Duration::from_secs(1 << attempts.min(10)).min(Duration::from_secs(900));
    most.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::TenantId;
    use weir_store::{Metric, ReportKey};

    const MINUTE: i64 = 60;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 / 3600 * 3600 + seconds)
    }

    fn report(state: ReportState, sent: Option<(i64, i64)>) -> Report {
        let key = ReportKey {
            tenant_id: TenantId::new(),
            metric: Metric::EventsPublished,
            window_start: at(-3600),
            revision: 1,
        };
        let [first_sent_at, last_sent_at] = [sent.map(|sent| at(sent.0)), sent.map(|sent| at(sent.1))];
        let (quantity, customer_id, attempts) = (5, "cus".to_owned(), 1);
        Report { key, quantity, customer_id, state, attempts, first_sent_at, last_sent_at, note: None }
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_only_while_it_is_remembered() {
        use ReportState::{Pending, Unsure};
        let day = 24 * 60 * MINUTE;
        for (report, now, expected) in [
            (report(Pending, None), MINUTE, Step::Send),
            (report(Pending, None), 2 * day, Step::Compare),
            (report(Pending, Some((0, 0))), MINUTE, Step::Send),
            (report(Pending, Some((0, 19 * 60 * MINUTE))), 19 * 60 * MINUTE + 1, Step::Send),
            (report(Pending, Some((0, 19 * 60 * MINUTE))), 20 * 60 * MINUTE, Step::Compare),
            (report(Pending, Some((0, 20 * 60 * MINUTE - 1))), 20 * 60 * MINUTE, Step::CompareLater),
            (report(Unsure, Some((0, 20 * 60 * MINUTE - 1))), 20 * 60 * MINUTE, Step::Compare),
            // The clock was turned back by an hour, or by ninety days, after it was sent.
            (report(Pending, Some((0, 0))), -60 * MINUTE, Step::CompareLater),
            (report(Pending, Some((0, 0))), -90 * day, Step::CompareLater),
            (report(Unsure, Some((0, 0))), -90 * day, Step::Compare),
            (report(Pending, Some((0, -60 * MINUTE))), MINUTE, Step::Compare),
            // It was turned forward.
            (report(Pending, Some((0, 0))), 90 * day, Step::Compare),
        ] {
            assert_eq!(next(&report, at(now)), expected, "{report:?} at {now}");
        }
    }

    #[test]
    fn comparing_tells_what_is_there() {
        assert_eq!(compare(15.0, 10, 5), Comparison::Arrived);
        assert_eq!(compare(10.0, 10, 5), Comparison::Missing);
        assert_eq!(compare(10.0, 15, -5), Comparison::Arrived);
        for theirs in [0.0, 14.0, 20.0, f64::NAN, f64::INFINITY] {
            assert_eq!(compare(theirs, 10, 5), Comparison::Unexplained);
        }
    }

    #[test]
    fn waiting_grows_to_a_bound() {
        for attempts in [0, 1, 5, 10, 11, u32::MAX] {
            let wait = backoff(attempts);
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(900), "{wait:?}");
        }
    }
}
