//! What was used, by hour, day or month, and what stands behind it.

use super::recount::{Drift, is_closed};
use crate::admin::May;
use crate::admin::permits::BillingRead;
use crate::billing::whose;
use crate::{Engine, Error};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use weir_core::{Code, NodeId, ProjectId, TenantId, Timestamp};
use weir_store::{
    After, Explain, MAX_USAGE_DAYS, Metric, Page, UsagePlace, UsageRange, UsageShare, UsageWindow,
};

/// What one line of a report covers. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A calendar month.
    Month,
}

impl Window {
    /// The start of the window that holds `time`.
    #[must_use]
    pub fn start(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Hour => time.hour(),
            Self::Day => time.day(),
            Self::Month => time.month(),
        }
    }

    /// The end of the window that begins at `start`.
    #[must_use]
    pub fn end(self, start: Timestamp) -> Timestamp {
        match self {
            Self::Hour => start.plus(Duration::from_secs(3600)),
            Self::Day => start.plus(Duration::from_secs(24 * 3600)),
            Self::Month => start.plus(Duration::from_secs(32 * 24 * 3600)).month(),
        }
    }

    /// How far back a report goes that names no beginning.
    const fn reach(self) -> Duration {
        const DAY: u64 = 24 * 3600;
        Duration::from_secs(match self {
            Self::Hour => DAY,
            Self::Day => 31 * DAY,
            Self::Month => 300 * DAY,
        })
    }
}

/// Which usage is asked for.
#[derive(Clone, Copy, Debug)]
pub struct UsageQuery {
    /// Whose; one's own when absent. Operators name it.
    pub tenant: Option<TenantId>,
    /// Of one project, or of all together.
    pub project: Option<ProjectId>,
    /// Of one metric, or of all.
    pub metric: Option<Metric>,
    /// From the window that holds this time on; a day, a month or ten months back when absent.
    pub from: Option<Timestamp>,
    /// Windows that start before this; until now when absent.
    pub to: Option<Timestamp>,
}

/// A report's line, as a place to read on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineId {
    window_start: Timestamp,
    metric: Metric,
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.window_start.micros(), self.metric.as_str())
    }
}

impl FromStr for LineId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (micros, metric) = text.split_once('.').ok_or(())?;
        let window_start = Timestamp::from_micros(micros.parse().map_err(|_| ())?);
        Ok(Self { window_start, metric: Metric::parse(metric).ok_or(())? })
    }
}

/// One number of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageLine {
    /// The window's start.
    pub window_start: Timestamp,
    /// Its end.
    pub window_end: Timestamp,
    /// Of what.
    pub metric: Metric,
    /// How much, in the metric's unit.
    pub quantity: u64,
    /// Whether the window is closed: the number stays.
    pub complete: bool,
}

impl UsageLine {
    /// Its place.
    #[must_use]
    pub const fn id(&self) -> LineId {
        LineId { window_start: self.window_start, metric: self.metric }
    }
}

/// One piece of what stands behind a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained {
    /// Events of the log.
    Events(UsageRange),
    /// Batches of a node.
    Batches(UsageShare),
}

impl Explained {
    /// How counting the events again differed, where that was done.
    #[must_use]
    pub fn drift(&self) -> Option<i64> {
        match self {
            Self::Events(range) => Drift::of(range).map(|drift| drift.events),
            Self::Batches(_) => None,
        }
    }

    /// Its place.
    #[must_use]
    pub fn id(&self) -> PieceId {
        let (window_start, project_id, last) = match self {
            Self::Events(range) => (range.window_start, range.project_id, u128::from(range.epoch)),
            Self::Batches(share) => (share.window_start, share.project_id, share.node.uuid().as_u128()),
        };
        PieceId(UsagePlace { window_start, project_id, last })
    }
}

/// A piece of an explanation, as a place to read on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceId(UsagePlace<u128>);

impl fmt::Display for PieceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0.window_start.micros(), self.0.project_id, self.0.last)
    }
}

impl FromStr for PieceId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(());
        let window_start = Timestamp::from_micros(next()?.parse().map_err(|_| ())?);
        let project_id = next()?.parse().map_err(|_| ())?;
        Ok(Self(UsagePlace { window_start, project_id, last: next()?.parse().map_err(|_| ())? }))
    }
}

/// What stands behind a number.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The start of the first hour.
    pub from: Timestamp,
    /// Hours that start before this.
    pub to: Timestamp,
    /// The number, as it is billed.
    pub quantity: u64,
    /// Its pieces. What is older than the operator's setting is not explained any more.
    pub pieces: Page<Explained>,
}

/// A report, in pages.
pub type UsageReport = Page<UsageLine>;

impl Engine {
    /// What a tenant used.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant out of reach; `INVALID_REQUEST` for a range that is too long, runs backwards or, by an
    /// operator, names no tenant; `DATABASE_UNAVAILABLE`.
    pub async fn usage_report(
        &self,
        may: &May<BillingRead>,
        query: UsageQuery,
        window: Window,
        page: After<LineId>,
    ) -> Result<UsageReport, Error> {
        let tenant = whose(may, query.tenant)?;
        let (from, to) = self.range(&query, window)?;
        let from = page.after.map_or(from, |after| after.window_start.max(from));
        let hours = self.store.usage.usage(tenant, query.project, from, window_end(window, to)).await?;
        let closed = self.store.usage.closed_until().await?;
        let lines = sum(&hours, window);
        let wanted = lines.into_iter().filter(|((_, metric), _)| query.metric.is_none_or(|m| m == *metric));
        let line = |((window_start, metric), quantity): ((Timestamp, Metric), u64)| {
            let window_end = window.end(window_start);
            let complete = is_closed(window_end, closed);
            UsageLine { window_start, window_end, metric, quantity, complete }
        };
        let rest = wanted.map(line).filter(|line| page.after.is_none_or(|after| line.id() > after));
        Ok(cut(rest.take(page.limit as usize + 1).collect(), page.limit))
    }

    /// What stands behind the number of one metric.
    ///
    /// # Errors
    /// As [`Engine::usage_report`].
    pub async fn explain_usage(
        &self,
        may: &May<BillingRead>,
        query: UsageQuery,
        metric: Metric,
        page: After<PieceId>,
    ) -> Result<Explanation, Error> {
        let tenant = whose(may, query.tenant)?;
        let (from, to) = self.range(&query, Window::Hour)?;
        let hours = self.store.usage.usage(tenant, query.project, from, to).await?;
        let of_metric = hours.iter().filter(|hour| hour.metric == metric);
        let quantity = of_metric.fold(0_u64, |sum, hour| sum.saturating_add(hour.quantity));
        let (project, limit) = (query.project, page.limit as usize + 1);
        let after = page.after.map(|after| after.0);
        let pieces = if metric == Metric::EventsPublished {
            let after = after.map(|at| at_place(at, u64::try_from(at.last).unwrap_or(u64::MAX)));
            let ranges = self.store.usage.ranges(Explain { tenant, project, from, to, after, limit }).await?;
            ranges.into_iter().map(Explained::Events).collect()
        } else {
            let after = after.map(|at| at_place(at, NodeId::from_uuid(uuid::Uuid::from_u128(at.last))));
            let wanted = Explain { tenant, project, from, to, after, limit };
            let shares = self.store.usage.shares_of(metric, wanted).await?;
            shares.into_iter().map(Explained::Batches).collect()
        };
        Ok(Explanation { from, to, quantity, pieces: cut(pieces, page.limit) })
    }

    /// The asked range, from the start of its first window.
    fn range(&self, query: &UsageQuery, window: Window) -> Result<(Timestamp, Timestamp), Error> {
        let to = query.to.unwrap_or_else(|| self.metering.now().plus(Duration::from_micros(1)));
        let from = window.start(query.from.unwrap_or_else(|| to.minus(window.reach())));
        let refuse = |why: &str| {
            Err(Error::new(Code::InvalidRequest, format!("The range from {from} to {to} {why}."))
                .with(json!({ "from": from, "to": to, "limit_days": MAX_USAGE_DAYS })))
        };
        if to < from {
            return refuse("ends before it begins");
        }
        if window_end(window, to).since(from) > Duration::from_secs(MAX_USAGE_DAYS * 24 * 3600) {
            return refuse(&format!("is, in whole windows, longer than {MAX_USAGE_DAYS} days"));
        }
        Ok((from, to))
    }
}

/// The end of the last window that starts before `to`.
fn window_end(window: Window, to: Timestamp) -> Timestamp {
    let last = window.start(to.minus(Duration::from_micros(1)));
    window.end(last)
}

fn sum(hours: &[UsageWindow], window: Window) -> BTreeMap<(Timestamp, Metric), u64> {
    let mut lines = BTreeMap::new();
    for hour in hours {
        let line: &mut u64 = lines.entry((window.start(hour.window_start), hour.metric)).or_default();
        *line = line.saturating_add(hour.quantity);
    }
    lines
}

fn at_place<T>(at: UsagePlace<u128>, last: T) -> UsagePlace<T> {
    UsagePlace { window_start: at.window_start, project_id: at.project_id, last }
}

/// A page of what is one more than fits, if there is more.
fn cut<T>(mut items: Vec<T>, limit: u32) -> Page<T> {
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    Page { items, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn windows_follow_on_each_other() {
        let at = time("2028-02-29T23:59:59.999999Z");
        for (window, start, end) in [
            (Window::Hour, "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z"),
            (Window::Day, "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Window::Month, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            assert_eq!((window.start(at), window.end(window.start(at))), (time(start), time(end)));
            assert_eq!(window_end(window, at), time(end));
        }
        assert_eq!(Window::Month.end(time("2026-12-01T00:00:00Z")), time("2027-01-01T00:00:00Z"));
        assert_eq!(Window::Month.start(time("1969-12-31T23:00:00Z")), time("1969-12-01T00:00:00Z"));
    }

    #[test]
    fn places_read_back() {
        let line = LineId { window_start: time("2026-01-01T00:00:00Z"), metric: Metric::ApiRequests };
        assert_eq!(line.to_string().parse(), Ok(line));
        let piece = Explained::Batches(UsageShare {
            project_id: ProjectId::new(),
            window_start: line.window_start,
            node: NodeId::new(),
            first_batch: 1,
            last_batch: 2,
            batches: 2,
            quantity: 3,
        });
        assert_eq!(piece.id().to_string().parse(), Ok(piece.id()));
        for bad in ["", "1", "1.2", "x.events_published", "1.events", "1.prj_x.3", "9e9.a.b"] {
            assert!(bad.parse::<LineId>().is_err() && bad.parse::<PieceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hours_add_up() {
        let hour = |text: &str, metric, quantity| UsageWindow { window_start: time(text), metric, quantity };
        let hours = [
            hour("2026-01-31T23:00:00Z", Metric::ApiRequests, 1),
            hour("2026-02-01T00:00:00Z", Metric::ApiRequests, 2),
            hour("2026-02-01T01:00:00Z", Metric::EventsDelivered, u64::MAX),
            hour("2026-02-01T02:00:00Z", Metric::EventsDelivered, 5),
        ];
        let lines: Vec<_> = sum(&hours, Window::Month).into_iter().collect();
        let (january, february) = (time("2026-01-01T00:00:00Z"), time("2026-02-01T00:00:00Z"));
        let expected = [
            ((january, Metric::ApiRequests), 1),
            ((february, Metric::EventsDelivered), u64::MAX),
            ((february, Metric::ApiRequests), 2),
        ];
        assert_eq!(lines, expected);
    }
}
