//! What concerns the installation, looked for by one node at a time, in the database.

use super::Condition;
use super::found::Found;
use super::levels::Limits;
use super::node::words;
use super::watch::Watch;
use crate::engine::Engine;
use std::time::{Duration, Instant};
use weir_core::Severity;
use weir_core::Severity::{Critical, Info, Warning};
use weir_store::alerts::QuotaReached;
use weir_store::{ReportState, StoreError};

/// Tenants read at once.
pub(super) const PAGE: u32 = 500;
/// Tenants with something to say of each kind at most.
pub(super) const TENANTS: usize = 20_000;
/// An hour that is to be reported closes about so long after its beginning.
const HOUR: Duration = Duration::from_secs(3600);

impl Engine {
    pub(super) async fn look_at_the_installation(&self, watch: &mut Watch) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        found.extend(self.look_at_versions(watch).await?);
        found.extend(self.look_at_reports(watch).await?);
        self.look_at_quotas(&mut found).await?;
        self.look_at_arrears(&mut found).await?;
        self.look_at_endpoints(&mut found).await?;
        self.look_at_dead_letters(watch, &mut found).await?;
        Ok(found)
    }

    async fn look_at_versions(&self, watch: &mut Watch) -> Result<Option<Found>, StoreError> {
        let settings = &self.alerts.settings;
        let nodes = self.store.alerts.node_versions().await?;
        let mut versions: Vec<&str> = nodes.iter().map(|(_, version)| version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() < 2 {
            watch.mixed_since = None;
            return Ok(None);
        }
        let since = *watch.mixed_since.get_or_insert_with(Instant::now);
        if since.elapsed() < settings.version_skew {
            return Ok(None);
        }
        let named: Vec<&str> =
            versions.iter().map(|version| if version.is_empty() { "unknown" } else { version }).collect();
        let message = format!(
            "{} nodes run {} different versions for more than {}: {}.",
            nodes.len(),
            versions.len(),
            words(settings.version_skew),
            named.join(", ")
        );
        let one = Found::new(Condition::VersionSkew, Warning, message, settings.hold_of_installation());
        Ok(Some(one.measured(named.join(", "), "one version")))
    }

    async fn look_at_reports(&self, watch: &mut Watch) -> Result<Option<Found>, StoreError> {
        if self.stripe.is_none() {
            return Ok(None);
        }
        let settings = &self.alerts.settings;
        let open = self.store.outbox.open_reports().await?;
        let waiting =
            open.iter().filter(|one| matches!(one.state, ReportState::Pending | ReportState::Unsure));
        let (reports, oldest) = waiting.fold((0, None), |(reports, oldest): (u64, Option<_>), one| {
            (reports + one.reports, Some(oldest.map_or(one.oldest, |oldest| one.oldest.min(oldest))))
        });
        let now = self.store.payments.time().await?;
        let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.plus(HOUR)));
        let limit = settings.reporting_stuck;
        let judged = watch.levels.judge(
            Condition::StripeReportingStuck,
            super::found::INSTALLATION,
            age.as_secs_f64(),
            &Limits::at(limit.as_secs_f64(), 12.0),
        );
        Ok(judged.map(|(severity, begins)| {
            let (age, limit) = (age.as_secs(), limit.as_secs());
            let message = format!(
                "{reports} reports of usage wait for Stripe, the oldest for {age} s (the limit is {limit} s)."
            );
            Found::new(Condition::StripeReportingStuck, severity, message, settings.hold_of_installation())
                .measured(format!("{age} s"), format!("{limit} s"))
                .times(begins.into())
        }))
    }

    async fn look_at_quotas(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        // They may be many and last for weeks, so they are written rarely.
        let hold = self.alerts.settings.hold_of_events();
        let (mut after, begin) = (None, found.len());
        while found.len() - begin < TENANTS {
            let page = self.store.alerts.quotas_reached(after, PAGE).await?;
            for QuotaReached { tenant, threshold, limit } in &page {
                let severity = quota_severity(*threshold);
                let message = format!(
                    "The tenant has used {threshold} % or more of its {limit} events of this period{}.",
                    if *threshold >= 100 { ": further ones are refused" } else { "" }
                );
                found.push(
                    Found::new(Condition::QuotaThreshold, severity, message, hold)
                        .about(tenant)
                        .of(*tenant)
                        .measured(format!("{threshold} %"), limit),
                );
            }
            after = page.last().map(|one| one.tenant);
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    async fn look_at_arrears(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        let hold = self.alerts.settings.hold_of_installation();
        let (mut after, begin) = (None, found.len());
        while found.len() - begin < TENANTS {
            let page = self.store.alerts.unpaid(after, PAGE).await?;
            for one in &page {
                let since = one.since.map_or_else(String::new, |since| format!(" since {since}"));
                let (severity, message) = if one.suspended {
                    (Critical, format!("A payment is missing{since}, and the tenant is suspended."))
                } else {
                    (
                        Warning,
                        format!(
                            "A payment is missing{since}; the tenant is suspended when it is not made up for."
                        ),
                    )
                };
                found.push(
                    Found::new(Condition::PaymentFailed, severity, message, hold)
                        .about(one.tenant)
                        .of(one.tenant)
                        .measured(if one.suspended { "suspended" } else { "past due" }, "paid"),
                );
            }
            after = page.last().map(|one| one.tenant);
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }
}

const fn quota_severity(threshold: u32) -> Severity {
    match threshold {
        100.. => Critical,
        80.. => Warning,
        _ => Info,
    }
}
