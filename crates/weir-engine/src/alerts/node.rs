//! What a node finds out about itself.

use super::found::Found;
use super::levels::Limits;
use super::watch::{PATIENCE, Watch};
use super::{Condition, Settings};
use crate::engine::Engine;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use weir_core::Severity::{Critical, Warning};
use weir_store::StoreError;

/// So many looks in a row must find something not to work: one may be a hiccup.
const IN_A_ROW: u32 = 2;

impl Engine {
    /// Everything but what the database says.
    pub(super) async fn look_at_this_node(&self, watch: &mut Watch) -> Vec<Found> {
        let mut found = Vec::new();
        self.look_at_dependencies(watch, &mut found).await;
        self.look_at_requests(watch, &mut found);
        self.look_at_credentials(watch, &mut found);
        self.look_at_deliveries(watch, &mut found);
        self.look_at_usage(watch, &mut found);
        self.look_at_payments(watch, &mut found);
        self.look_at_breakers(&mut found);
        self.look_at_the_disk(watch, &mut found);
        found
    }

    async fn look_at_dependencies(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let hold = self.alerts.settings.hold;
        let (database, log) = tokio::join!(self.database_answers(), timeout(PATIENCE, self.log.health()));
        watch.database_down = if database.is_ok() { 0 } else { watch.database_down.saturating_add(1) };
        if let Err(cause) = database
            && watch.database_down >= IN_A_ROW
        {
            let begins = u64::from(watch.database_down == IN_A_ROW);
            let message = format!("The metadata database does not answer: {cause}.");
            found.push(Found::new(Condition::DatabaseUnavailable, Critical, message, hold).times(begins));
        }
        let problem = match log {
            Ok(health) => health.problem,
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        watch.log_down = if problem.is_none() { 0 } else { watch.log_down.saturating_add(1) };
        if let Some(problem) = problem.filter(|_| watch.log_down >= IN_A_ROW) {
            let begins = u64::from(watch.log_down == IN_A_ROW);
            let message = format!("The event log takes no events: {problem}.");
            found.push(Found::new(Condition::LogUnavailable, Critical, message, hold).times(begins));
        }
        let freshness = &self.access.freshness;
        if !freshness.is_fresh() {
            let (age, window) = (freshness.age().as_secs(), freshness.window().as_secs());
            let message = format!(
                "Node {} has not confirmed its access state for {age} s (the limit is {window} s): it refuses requests and holds deliveries.",
                self.node
            );
            found.push(
                Found::new(Condition::AccessStale, Critical, message, hold)
                    .about(self.node)
                    .measured(format!("{age} s"), format!("{window} s")),
            );
        }
    }

    fn look_at_requests(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let (requests, failures) = self.alerts.signals.requests();
        let (requests, failures) =
            (watch.grown.requests.since(requests), watch.grown.failures.since(failures));
        let now = Instant::now();
        let requests = watch.requests.add(now, requests, settings.window);
        let failures = watch.failures.add(now, failures, settings.window);
        // Of a few requests the share says nothing.
        let enough = requests >= u64::from(settings.error_requests.max(1));
        let percent = if enough { percent(failures, requests) } else { 0.0 };
        let limit = f64::from(settings.error_percent);
        let limits = Limits { critical: (limit * 5.0).min(100.0), ..Limits::at(limit, 5.0) };
        let subject = super::found::INSTALLATION;
        let Some((severity, begins)) = watch.levels.judge(Condition::ErrorRate, subject, percent, &limits)
        else {
            return;
        };
        let message = format!(
            "{failures} of {requests} requests failed within {} ({percent:.1} %, the limit is {limit} %), as node {} counts.",
            words(settings.window),
            self.node
        );
        found.push(
            Found::new(Condition::ErrorRate, severity, message, settings.hold)
                .measured(format!("{percent:.1} %"), format!("{limit} %"))
                .times(begins.into()),
        );
    }

    fn look_at_credentials(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let (now, window) = (Instant::now(), settings.window);
        let refused = watch.grown.refusals.since(self.alerts.signals.refusals());
        let refused = watch.refusals.add(now, refused, window);
        let limit = f64::from(settings.auth_failures);
        let judged = watch.levels.judge(
            Condition::AuthFailures,
            super::found::INSTALLATION,
            number(refused),
            &Limits::at(limit, 10.0),
        );
        if let Some((severity, begins)) = judged {
            let message = format!(
                "{refused} credentials were refused within {} (the limit is {limit}), as node {} counts.",
                words(window),
                self.node
            );
            found.push(
                Found::new(Condition::AuthFailures, severity, message, settings.hold)
                    .measured(refused, limit)
                    .times(begins.into()),
            );
        }
        for (place, count) in self.alerts.signals.take_refusals() {
            watch.refusals_of.entry(place).or_default().add(now, count, window);
        }
        let limit = f64::from(settings.auth_failures_project);
        let limits = Limits::at(limit, 10.0);
        let levels = &mut watch.levels;
        watch.refusals_of.retain(|&(tenant, project), of| {
            let refused = of.add(now, 0, window);
            let subject = project.to_string();
            let judged = levels.judge(Condition::AuthFailures, &subject, number(refused), &limits);
            if let Some((severity, begins)) = judged {
                let message = format!(
                    "{refused} credentials of project {project} were refused within {} (the limit is {limit}): revoked or expired keys, or tokens with a wrong signature.",
                    words(window)
                );
                found.push(
                    Found::new(Condition::AuthFailures, severity, message, settings.hold)
                        .about(subject)
                        .of(tenant)
                        .measured(refused, limit)
                        .times(begins.into()),
                );
            }
            !of.is_empty()
        });
    }

    fn look_at_deliveries(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let stats = self.hub.stats();
        let slow = watch.grown.slow.since(stats.slow_consumers);
        let slow = watch.slow.add(Instant::now(), slow, settings.window);
        let limit = f64::from(settings.slow_consumers);
        let subject = self.node.to_string();
        let limits = Limits::at(limit, 10.0);
        if let Some((severity, begins)) =
            watch.levels.judge(Condition::SlowConsumers, &subject, number(slow), &limits)
        {
            let message = format!(
                "Node {subject} closed {slow} connections within {} because their clients did not read (the limit is {limit}).",
                words(settings.window)
            );
            found.push(
                Found::new(Condition::SlowConsumers, severity, message, settings.hold)
                    .about(&subject)
                    .measured(slow, limit)
                    .times(begins.into()),
            );
        }
        let full = percent(stats.queued_bytes, self.settings.hub_queue_bytes as u64);
        let limit = f64::from(settings.log_lag_percent);
        let limits = Limits { warning: limit, critical: limit.max(95.0), clear: limit * 0.8 };
        if let Some((severity, begins)) = watch.levels.judge(Condition::LogLag, &subject, full, &limits) {
            let message = format!(
                "{} bytes of events wait for the threads of node {subject} ({full:.0} % of hub.queue_bytes, the limit is {limit} %).",
                stats.queued_bytes
            );
            found.push(
                Found::new(Condition::LogLag, severity, message, settings.hold)
                    .about(&subject)
                    .measured(format!("{full:.0} %"), format!("{limit} %"))
                    .times(begins.into()),
            );
        }
    }

    fn look_at_usage(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let state = self.metering.state();
        let (lag, limit) = (state.lag.as_secs_f64(), settings.usage_lag.as_secs_f64());
        let judged = watch.levels.judge(
            Condition::UsageLag,
            super::found::INSTALLATION,
            lag,
            &Limits::at(limit, 10.0),
        );
        if let Some((severity, begins)) = judged {
            let message = format!(
                "The count of published events is {lag:.0} s behind the event log (the limit is {limit:.0} s)."
            );
            found.push(
                Found::new(Condition::UsageLag, severity, message, settings.hold)
                    .measured(format!("{lag:.0} s"), format!("{limit:.0} s"))
                    .times(begins.into()),
            );
        }
        let drift = watch.grown.drift.since(state.drift);
        if drift > 0 {
            let message = format!(
                "Counting closed hours again found {drift} events more or less than what is billed; the log of node {} has project and hour.",
                self.node
            );
            found.push(event(settings, Condition::UsageDrift, message).measured(drift, 0).times(drift));
        }
        let lost = watch.grown.lost.since(state.lost);
        if lost > 0 {
            let message = format!(
                "{lost} published events were gone from the log before they were counted: they are not billed."
            );
            found.push(event(settings, Condition::UsageLost, message).measured(lost, 0).times(lost));
        }
    }

    fn look_at_payments(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let Some(stripe) = &self.stripe else { return };
        let counts = &stripe.counts;
        let braked = watch.grown.braked.since(counts.braked.load(Relaxed));
        if braked > 0 {
            let brake = stripe.brake();
            let message = format!(
                "{braked} suspensions for unpaid bills were stopped: {} tenants were suspended within {} already.",
                brake.most,
                words(brake.within)
            );
            found.push(
                event(settings, Condition::SuspensionBrake, message)
                    .measured(braked, brake.most)
                    .times(braked),
            );
        }
        let refused = counts.refused.load(Relaxed) + counts.adjustments.load(Relaxed);
        let refused = watch.grown.refused_reports.since(refused);
        if refused > 0 {
            let message = format!("Stripe refused or does not bill {refused} reports of usage.");
            let one = event(settings, Condition::StripeReportsRefused, message).measured(refused, 0);
            found.push(Found { severity: Warning, ..one.times(refused) });
        }
    }

    /// Who is not called because the last calls found no answer. A breaker waits for several, so it needs no second look.
    fn look_at_breakers(&self, found: &mut Vec<Found>) {
        let (appends, reads) = self.log.load().breakers_open.unwrap_or_default();
        let stripe = self.stripe.as_ref().is_some_and(|stripe| stripe.counts.breaker_open.load(Relaxed));
        let breakers = [
            ("database", "The database", self.store.load().breaker_open == Some(true)),
            ("log_append", "The event log, for storing,", appends),
            ("log_read", "The event log, for reading,", reads),
            ("stripe", "Stripe", stripe),
        ];
        for (subject, name, _) in breakers.into_iter().filter(|(_, _, open)| *open) {
            let message =
                format!("{name} does not answer node {}, so it is called only now and then.", self.node);
            let hold = self.alerts.settings.hold;
            found.push(Found::new(Condition::BreakerOpen, Warning, message, hold).about(subject));
        }
    }

    fn look_at_the_disk(&self, watch: &mut Watch, found: &mut Vec<Found>) {
        let settings = &self.alerts.settings;
        let Some(path) = &settings.data_dir else { return };
        let Ok(disk) = rustix::fs::statvfs(path.as_path()) else { return };
        let free = percent(disk.f_bavail, disk.f_blocks);
        let limit = f64::from(settings.storage_free_percent);
        // The fuller the worse.
        let limits = Limits { warning: 100.0 - limit, critical: 100.0 - limit / 3.0, clear: 98.0 - limit };
        let subject = self.node.to_string();
        let Some((severity, begins)) =
            watch.levels.judge(Condition::StorageLow, &subject, 100.0 - free, &limits)
        else {
            return;
        };
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let message = format!(
            "The disk of data_dir on node {subject} has {bytes} bytes free ({free:.1} %, the limit is {limit} %)."
        );
        found.push(
            Found::new(Condition::StorageLow, severity, message, settings.hold)
                .about(subject)
                .measured(format!("{free:.1} %"), format!("{limit} %"))
                .times(begins.into()),
        );
    }

    /// How far this node's clock is from the database's, as far as the time that the answer takes lets it be known.
    pub(super) async fn look_at_the_clock(&self, watch: &mut Watch) -> Result<Option<Found>, StoreError> {
        let settings = &self.alerts.settings;
        let (asked, begun) = (self.clock.now(), Instant::now());
        let theirs = self.store.alerts.database_time().await?;
        let took = begun.elapsed();
        let ours = asked.plus(took / 2);
        let skew = ours.since(theirs).max(theirs.since(ours)).saturating_sub(took / 2);
        let limit = settings.clock_skew;
        let subject = self.node.to_string();
        let limits = Limits::at(limit.as_secs_f64(), 10.0);
        let judged = watch.levels.judge(Condition::ClockSkew, &subject, skew.as_secs_f64(), &limits);
        Ok(judged.map(|(severity, begins)| {
            let which = if ours > theirs { "ahead of" } else { "behind" };
            let message = format!(
                "The clock of node {subject} is {} ms {which} the database's (the limit is {} ms).",
                skew.as_millis(),
                limit.as_millis()
            );
            Found::new(Condition::ClockSkew, severity, message, settings.hold_of_installation())
                .about(subject)
                .measured(format!("{} ms", skew.as_millis()), format!("{} ms", limit.as_millis()))
                .times(begins.into())
        }))
    }
}

/// Something that happened, and is bad.
fn event(settings: &Settings, condition: Condition, message: String) -> Found {
    Found::new(condition, Critical, message, settings.hold_of_events())
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { number(part) * 100.0 / number(whole) }
}

/// A time in whole seconds.
pub(super) fn words(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
