//! Usage out: from closed hours to meter events.

use super::pace::Verdict;
use super::step::{self, Comparison, Step};
use super::{BILLED, Counts, ROUND, StripeBilling, identifier};
use std::time::Duration;
use weir_core::Timestamp;
use weir_outbound::stripe::{self, Meter, MeterEvent};
use weir_store::{Report, ReportState, Settled, StoreError};

/// How far back an hour is looked at again for usage that came late: shortly, and now and then far.
const LOOK_BACK: Duration = Duration::from_secs(3 * 24 * 3600);
const LOOK_FAR_BACK: Duration = Duration::from_secs(60 * 24 * 3600);
/// More than Stripe takes in one number.
const TOO_MUCH: u64 = 1_000_000_000_000_000;

/// Up to when hours were written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    until: Timestamp,
    far: Timestamp,
}

/// What is known after a report was worked on.
struct Outcome {
    state: ReportState,
    wait: Duration,
    note: Option<String>,
}

impl Outcome {
    const fn sent() -> Self {
        Self { state: ReportState::Sent, wait: Duration::ZERO, note: None }
    }

    fn new(state: ReportState, wait: Duration, note: impl ToString) -> Self {
        Self { state, wait, note: Some(note.to_string()) }
    }
}

impl StripeBilling {
    /// Writes reports of the hours that closed since the last time.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn write(&self, written: &mut Written) -> Result<u64, StoreError> {
        let closed = self.store.usage.closed_until().await?;
        if closed == written.until {
            return Ok(0);
        }
        let far = closed < written.until || closed.since(written.far) >= Duration::from_secs(24 * 3600);
        let from = closed.minus(if far { LOOK_FAR_BACK } else { LOOK_BACK });
        let until = closed.minus(step::HOUR).plus(Duration::from_micros(1));
        let reports = self.store.outbox.write_reports(BILLED, from, until).await?;
        *written = Written { until: closed, far: if far { closed } else { written.far } };
        Ok(reports)
    }

    /// Sends what is due, round after round, until nothing is or Stripe does not work. Returns how many arrived.
    ///
    /// # Errors
    /// The database's. What was sent is marked as such already.
    pub(super) async fn send_due(&self) -> Result<u64, StoreError> {
        let mut pace = self.pace.lock().await;
        let mut arrived = 0;
        loop {
            self.counts.breaker_open.store(pace.is_open(), std::sync::atomic::Ordering::Relaxed);
            let (now, due) = self.store.outbox.due_reports(pace.allows(ROUND)).await?;
            if due.is_empty() {
                return Ok(arrived);
            }
            let meter = match self.meter().await {
                Ok(meter) => meter,
                Err(error) => {
                    pace.each(vec![()], |()| std::future::ready(((), Verdict::Fails))).await;
                    tracing::error!(%error, "usage cannot be reported: {error}");
                    return Ok(arrived);
                }
            };
            let mut settled = Vec::with_capacity(due.len());
            let to_send = self.sort(meter, due, now, &mut settled).await?;
            let keys = to_send.iter().map(|(report, afresh)| (report.key, *afresh)).collect();
            // From here on they may have arrived, whatever happens to this process.
            self.store.outbox.begin_reports(keys, now).await?;
            let reports: Vec<_> = to_send.iter().collect();
            let done = pace.each(reports, |(report, afresh)| self.send(meter, report, *afresh)).await;
            for ((report, _), outcome) in to_send.iter().zip(done) {
                let skipped =
                    || Outcome::new(ReportState::Pending, Duration::from_secs(1), "Stripe does not work");
                let outcome = outcome.map_or_else(skipped, |(outcome, _)| outcome);
                arrived += u64::from(outcome.state == ReportState::Sent);
                settled.push(self.settle(report, outcome, now));
            }
            self.store.outbox.settle_reports(settled).await?;
        }
    }

    /// Sorts out what is sent, and whether it is certain that it had not arrived before. The rest is settled.
    async fn sort(
        &self,
        meter: &Meter,
        due: Vec<Report>,
        now: Timestamp,
        settled: &mut Vec<Settled>,
    ) -> Result<Vec<(Report, bool)>, StoreError> {
        let mut to_send = Vec::with_capacity(due.len());
        for report in due {
            if report.quantity.unsigned_abs() >= TOO_MUCH {
                let outcome =
                    Outcome::new(ReportState::Adjustment, Duration::ZERO, "more than Stripe takes at once");
                settled.push(self.settle(&report, outcome, now));
                continue;
            }
            match step::next(&report, now) {
                Step::Send => to_send.push((report, false)),
                Step::CompareLater => {
                    let note = "nobody knows whether it arrived: compared when what arrived shows";
                    let outcome = Outcome::new(ReportState::Unsure, step::SETTLED, note);
                    settled.push(self.settle(&report, outcome, now));
                }
                Step::Compare => match self.compare(meter, &report).await? {
                    Ok(()) => to_send.push((report, true)),
                    Err(outcome) => settled.push(self.settle(&report, outcome, now)),
                },
            }
        }
        Ok(to_send)
    }

    /// Asks what Stripe has of the report's hour. `Ok` when the report is surely missing there.
    async fn compare(&self, meter: &Meter, report: &Report) -> Result<Result<(), Outcome>, StoreError> {
        let key = &report.key;
        let arrived = self.store.outbox.arrived(key.tenant_id, key.metric, key.window_start).await?;
        let start = key.window_start.seconds();
        let end = key.window_start.plus(step::HOUR).seconds();
        let theirs = match self.settings.client.summary(&meter.id, &report.customer_id, start, end).await {
            Ok(theirs) => theirs,
            Err(error) => {
                let wait =
                    if error.is_definite() { step::REFUSED } else { step::backoff(report.attempts + 6) };
                return Ok(Err(Outcome::new(ReportState::Unsure, wait, error)));
            }
        };
        Ok(match step::compare(theirs, arrived, report.quantity) {
            Comparison::Missing => Ok(()),
            Comparison::Arrived => {
                Err(Outcome { note: Some("found there by comparison".into()), ..Outcome::sent() })
            }
            Comparison::Unexplained => Err(Outcome::new(
                ReportState::Adjustment,
                Duration::ZERO,
                format!(
                    "Stripe has {theirs} of this hour, which neither {arrived} nor {} explains",
                    arrived.saturating_add(report.quantity)
                ),
            )),
        })
    }

    /// Sends one report.
    async fn send(&self, meter: &Meter, report: &Report, afresh: bool) -> (Outcome, Verdict) {
        let event = MeterEvent {
            event_name: &meter.event_name,
            identifier: &identifier::identifier(&report.key),
            customer: &report.customer_id,
            value: report.quantity,
            timestamp: step::timestamp(report),
        };
        let pending = |wait, error: &stripe::Error| Outcome::new(ReportState::Pending, wait, error);
        match self.settings.client.create_meter_event(&event).await {
            Ok(()) => (Outcome::sent(), Verdict::Works),
            Err(stripe::Error::Refused(refusal)) if refusal.is_known_identifier() => {
                // A copy of it that was sent before has arrived; if none was, somebody else reported this hour.
                let ours = report.first_sent_at.is_some() && !afresh;
                let foreign =
                    || Outcome::new(ReportState::Unsure, step::SETTLED, "Stripe knew it before it was sent");
                (if ours { Outcome::sent() } else { foreign() }, Verdict::Works)
            }
            Err(error) => {
                tracing::debug!(%error, report = event.identifier, "a report was not taken: {error}");
                match &error {
                    stripe::Error::Refused(refusal)
                        if refusal.code.as_deref() == Some("timestamp_too_far_in_past") =>
                    {
                        (Outcome::new(ReportState::Adjustment, Duration::ZERO, &error), Verdict::Works)
                    }
                    stripe::Error::Refused(_) => (pending(step::REFUSED, &error), Verdict::Works),
                    stripe::Error::Unauthorized(_) => {
                        (pending(Duration::from_secs(60), &error), Verdict::Fails)
                    }
                    stripe::Error::Busy(_) => {
                        (pending(step::backoff(report.attempts), &error), Verdict::Slower)
                    }
                    stripe::Error::Unknown(_) => {
                        self.counts.add(|counts| &counts.ambiguous, 1);
                        (pending(step::backoff(report.attempts), &error), Verdict::Fails)
                    }
                }
            }
        }
    }

    /// Counts and says what became of a report.
    fn settle(&self, report: &Report, mut outcome: Outcome, now: Timestamp) -> Settled {
        let name = identifier::identifier(&report.key);
        let count = |counter: fn(&Counts) -> &std::sync::atomic::AtomicU64| self.counts.add(counter, 1);
        // What is refused because of its age in other words than Stripe's documented ones.
        let age = now.since(report.key.window_start);
        if outcome.state == ReportState::Pending && outcome.wait == step::REFUSED && age > step::TAKEN {
            outcome.state = ReportState::Adjustment;
        }
        let note = outcome.note.as_deref().unwrap_or_default();
        match outcome.state {
            ReportState::Sent => count(|counts| &counts.sent),
            ReportState::Pending if outcome.wait == step::REFUSED => {
                count(|counts| &counts.refused);
                tracing::error!(
                    report = name,
                    note,
                    "usage was refused and is tried again in an hour: {name}: {note}"
                );
            }
            ReportState::Adjustment | ReportState::Rejected => {
                count(|counts| &counts.adjustments);
                let quantity = report.quantity;
                tracing::error!(
                    report = name,
                    quantity,
                    note,
                    "usage is not reported and is for people to settle: {name}: {note}"
                );
            }
            ReportState::Pending | ReportState::Unsure => {}
        }
        Settled { key: report.key, state: outcome.state, due_at: now.plus(outcome.wait), note: outcome.note }
    }

    /// Marks the reports of an error report, which Stripe took and does not bill. Returns how many are ours.
    ///
    /// # Errors
    /// The database's, and why Stripe does not tell.
    pub(super) async fn take_error_report(&self, event: &str) -> Result<u64, Trouble> {
        let report = self.settings.client.error_report(event).await?;
        let mut ours = 0;
        for kind in &report.data.reason.error_types {
            for sample in &kind.sample_errors {
                let Some(key) = identifier::parse(&sample.request.identifier) else { continue };
                let note = format!("{}: {}", kind.code, sample.error_message);
                if self.store.outbox.reject_report(key, note.clone()).await? {
                    ours += 1;
                    self.counts.add(|counts| &counts.adjustments, 1);
                    let name = &sample.request.identifier;
                    tracing::error!(
                        report = name,
                        note,
                        "Stripe took usage and does not bill it: {name}: {note}"
                    );
                }
            }
        }
        let errors = report.data.reason.error_count;
        tracing::error!(errors, ours, "Stripe reports {errors} wrong meter events; {ours} are known by name");
        Ok(ours)
    }
}

/// What keeps a look at Stripe from its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stripe.
    #[error(transparent)]
    Stripe(#[from] stripe::Error),
}
