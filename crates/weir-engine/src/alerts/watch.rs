//! The look itself, for ever.

use super::found::Found;
use super::levels::Levels;
use super::reporter::{Reporter, sightings};
use super::settings::INSTALLATION_EVERY;
use super::window::{Growth, Window};
use crate::engine::Engine;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, timeout};
use weir_core::{ProjectId, Severity, TenantId};
use weir_store::StoreError;
use weir_store::alerts::{Alert, Sighting};

/// A database that takes longer to say that it is there is as good as away.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// For how many looks the turn lasts when its node is gone.
const LEASE: u32 = 6;
/// Alerts written in one transaction, and ended in one.
const BATCH: usize = 200;
/// Between two looks for alerts that are old enough to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// What a look remembers of those before.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) levels: Levels,
    pub(super) requests: Window,
    pub(super) failures: Window,
    pub(super) refusals: Window,
    pub(super) refusals_of: HashMap<(TenantId, ProjectId), Window>,
    pub(super) slow: Window,
    pub(super) grown: Grown,
    /// Looks in a row that found the database, and the log, not to work.
    pub(super) database_down: u32,
    pub(super) log_down: u32,
    /// Since when nodes run different programs.
    pub(super) mixed_since: Option<Instant>,
    looks: u32,
    reporter: Reporter,
    /// When the last look of one who has the turn succeeded.
    in_charge: Option<Instant>,
    forgot: Option<Instant>,
}

/// Counters of others, as they were at the look before.
#[derive(Default)]
pub(super) struct Grown {
    pub(super) requests: Growth,
    pub(super) failures: Growth,
    pub(super) refusals: Growth,
    pub(super) slow: Growth,
    pub(super) drift: Growth,
    pub(super) lost: Growth,
    pub(super) braked: Growth,
    pub(super) refused_reports: Growth,
}

impl Watch {
    /// Whether this look is one of those that come more rarely.
    pub(super) fn is_thorough(&self) -> bool {
        self.looks.is_multiple_of(INSTALLATION_EVERY)
    }
}

impl Engine {
    /// Looks for what is wrong, for ever.
    pub(crate) async fn keep_watch(self: Arc<Self>) {
        let mut watch = Watch::default();
        let mut tick = interval(self.alerts.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let outcome = self.look_around(&mut watch).await;
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(%error, "alerts cannot be written: {error}");
            }
            failing = outcome.is_err();
            watch.looks = watch.looks.wrapping_add(1);
        }
    }

    async fn look_around(&self, watch: &mut Watch) -> Result<(), StoreError> {
        let found = self.look_at_this_node(watch).await;
        let seen = sightings(&found);
        let written = if watch.database_down == 0 {
            self.write_down(watch, found).await
        } else {
            watch.reporter.unwritten(found);
            Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}")))
        };
        let alerts = &self.alerts;
        if written.is_ok() {
            alerts.set_unstored(Vec::new());
            return Ok(());
        }
        // Others may take the turn, and who cannot write tells what it sees itself.
        alerts.has_turn.store(false, Ordering::Release);
        watch.in_charge = None;
        let before = alerts.unstored();
        let known = |one: &Sighting| {
            before.iter().any(|known| known.condition == one.condition && known.subject == one.subject)
        };
        let is_new = !seen.iter().all(known);
        alerts.set_unstored(seen);
        if is_new {
            alerts.changed.notify_waiters();
        }
        written
    }

    /// Writes what was found; with the turn, looks after the installation and ends what is over.
    async fn write_down(&self, watch: &mut Watch, mut found: Vec<Found>) -> Result<(), StoreError> {
        let in_charge = match self.look_into_the_database(watch, &mut found).await {
            Ok(in_charge) => in_charge,
            Err(error) => {
                watch.reporter.unwritten(found);
                return Err(error);
            }
        };
        let now = Instant::now();
        let due = watch.reporter.due(found, now);
        for (number, part) in due.chunks(BATCH).enumerate() {
            match self.store.alerts.sight(sightings(part)).await {
                Ok(opened) => self.announce(&opened),
                Err(error) => {
                    watch.reporter.unwritten(due.iter().skip(number * BATCH).cloned().collect());
                    return Err(error);
                }
            }
            watch.reporter.written(part, now);
        }
        if in_charge { self.tidy(watch, now).await } else { Ok(()) }
    }

    /// What only the database knows. Says whether this node has the turn.
    async fn look_into_the_database(
        &self,
        watch: &mut Watch,
        found: &mut Vec<Found>,
    ) -> Result<bool, StoreError> {
        let (store, settings) = (&self.store.alerts, &self.alerts.settings);
        if watch.is_thorough() {
            store.note_version(self.node, env!("CARGO_PKG_VERSION").to_owned()).await?;
            found.extend(self.look_at_the_clock(watch).await?);
        }
        let in_charge = store.take_alert_turn(self.node, settings.interval * LEASE).await?;
        self.alerts.has_turn.store(in_charge, Ordering::Release);
        if !in_charge {
            watch.in_charge = None;
        } else if watch.is_thorough() || watch.in_charge.is_none() {
            found.extend(self.look_at_the_installation(watch).await?);
        }
        Ok(in_charge)
    }

    /// Ends what nobody sees any more, and forgets what is long over.
    async fn tidy(&self, watch: &mut Watch, now: Instant) -> Result<(), StoreError> {
        let (store, settings) = (&self.store.alerts, &self.alerts.settings);
        // After a pause, of this node or of the database, others have first to say what they still see.
        let rested = watch.in_charge.is_some_and(|at| at.elapsed() < settings.interval * LEASE);
        if rested {
            let cleared = store.clear(u32::try_from(BATCH).unwrap_or(u32::MAX)).await?;
            self.announce(&cleared);
        }
        watch.in_charge = Some(now);
        if watch.forgot.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            store.forget_alerts(settings.keep).await?;
            watch.forgot = Some(now);
        }
        Ok(())
    }

    /// Says what was raised or resolved, and wakes whoever tells others.
    fn announce(&self, alerts: &[Alert]) {
        for alert in alerts {
            let (condition, subject, message) = (&alert.condition, &alert.subject, &alert.message);
            let (id, tenant) = (alert.id, alert.tenant_id.map(|tenant| tenant.to_string()));
            if alert.resolved_at.is_some() {
                tracing::info!(%id, condition, subject, tenant, "alert {condition} is resolved: {subject}");
            } else if alert.severity == Severity::Critical {
                tracing::error!(%id, condition, subject, tenant, "alert {condition}: {message}");
            } else {
                tracing::warn!(%id, condition, subject, tenant, "alert {condition}: {message}");
            }
        }
        if !alerts.is_empty() {
            self.alerts.changed.notify_waiters();
        }
    }

    /// Whether the database answers in time.
    pub(super) async fn database_answers(&self) -> Result<(), String> {
        match timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }
}
