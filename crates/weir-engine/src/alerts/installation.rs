//! What concerns the installation, looked for by one node at a time, in the database.

use super::Condition;
use super::found::Found;
use super::levels::Limits;
use super::node::words;
use super::watch::Watch;
use crate::engine::Engine;
use std::time::{Duration, Instant};
use weir_core::Severity::Warning;
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
        self.look_at_retention(&mut found).await?;
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
}
